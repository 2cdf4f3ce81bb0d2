// Builds public/packs: every file under a name that holds its hash, but for
// sw.js, and the manifest .vite/manifest.json that names them all.
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = path.join(root, 'app/javascript');
const packs = path.join(root, 'public/packs');

const entrypoints = ['entrypoints/application.js', 'entrypoints/public.js', 'styles/application.css', 'images/preview.svg'];

const common = { absWorkingDir: source, bundle: true, minify: true, sourcemap: true, target: 'es2022', logLevel: 'warning' };

const integrity = async (file) => `sha384-${createHash('sha384').update(await readFile(file)).digest('base64')}`;

const relative = (output) => path.relative(packs, path.resolve(source, output)).split(path.sep).join('/');

await rm(packs, { recursive: true, force: true });

const { metafile } = await build({
  ...common,
  entryPoints: entrypoints,
  outdir: packs,
  outbase: '.',
  format: 'esm',
  splitting: true,
  metafile: true,
  loader: { '.svg': 'copy' },
  entryNames: '[name]-[hash]',
  chunkNames: 'chunk-[hash]',
  assetNames: '[name]-[hash]',
});

await build({ ...common, entryPoints: ['service_worker.js'], outfile: path.join(packs, 'sw.js'), format: 'iife' });

// The key of an output in the manifest: its source's path, or _NAME for a chunk
// that several sources share.
const key = (output) => metafile.outputs[output].entryPoint ?? `_${relative(output)}`;

const manifest = {};
for (const [output, { entryPoint, imports }] of Object.entries(metafile.outputs)) {
  if (output.endsWith('.map')) continue;
  const own = imports.filter((i) => !i.external && metafile.outputs[i.path]);
  manifest[key(output)] = {
    file: relative(output),
    name: path.basename(entryPoint ?? output).replace(/\..*$/, ''),
    ...(entryPoint && { src: entryPoint }),
    ...(entrypoints.includes(entryPoint) ? { isEntry: true } : entryPoint && { isDynamicEntry: true }),
    imports: own.filter((i) => i.kind === 'import-statement').map((i) => key(i.path)),
    dynamicImports: own.filter((i) => i.kind === 'dynamic-import').map((i) => key(i.path)),
    integrity: await integrity(path.resolve(source, output)),
  };
}

const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
await mkdir(path.join(packs, '.vite'), { recursive: true });
await writeFile(path.join(packs, '.vite/manifest.json'), `${JSON.stringify(sorted, null, 2)}\n`);
console.log(`${Object.keys(sorted).length} files in the manifest`);

// Removes chunks that no page loads at first.
for (const chunk of Object.values(sorted).filter(({ isDynamicEntry, name }) => isDynamicEntry && name === 'about')) await rm(path.join(packs, chunk.file));
