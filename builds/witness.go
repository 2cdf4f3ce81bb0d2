package builds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds/attest"
	"vmst.io/refit/hosts/node"
)

// Claims are what a build is said to be by whoever asked for it: what the builder
// itself cannot see. They hold no secret: URLs are without users and passwords.
type Claims struct {
	// Repository is upstream's URL.
	Repository string `json:"repository"`
	// Mirrors are what was fetched from instead of the public registries, by kind.
	Mirrors map[string]string `json:"mirrors,omitempty"`
	// Steps are those that were run, Kept the parts that earlier builds had made.
	Steps []attest.Step `json:"steps"`
	Kept  []attest.Kept `json:"kept,omitempty"`
	// Refit is the version of refit.
	Refit string `json:"refit"`
}

// claims are this build's.
func (m *making) claims() Claims {
	c := Claims{Repository: publicURL(m.b.Upstream), Refit: m.b.Refit, Mirrors: m.r.mirrorsOf(Assets), Kept: m.kept}
	for _, s := range m.r.Steps() {
		// Those of a part that was kept were run by another build, maybe with other mirrors.
		if slices.ContainsFunc(m.built.Steps, func(t StepTime) bool { return t.Name == s.Name }) {
			c.Steps = append(c.Steps, attest.Step{Name: s.Name, Argv: s.Argv, Network: !s.Offline})
		}
	}
	return c
}

// mirrorsOf are those that a part is made with, by kind and without what may be secret.
// Assets are made with gems and packages.
func (r Recipe) mirrorsOf(k Kind) map[string]string {
	all := map[string]string{}
	if at := r.Mirrors.Gems; at != "" && k != Packages && k != Streaming {
		all["gems"] = publicURL(at)
	}
	if at := r.Mirrors.NPM; at != "" && k != Bundle {
		all["npm"] = publicURL(at)
	}
	if k == Bundle || k == Assets {
		for _, g := range r.Mirrors.Git {
			all["git "+publicURL(g.From)] = publicURL(g.To)
		}
	}
	return all
}

// publicURL is a URL without what may be secret in it.
func publicURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text // git's user@host:path holds no password
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// witness writes what a build says of itself.
type witness struct {
	dir   string
	in    FinishIn
	src   Source
	os    string
	began mark
	host  string
	tools []attest.Tool
	// toolchains are those of the release that refit made.
	toolchains []node.ToolchainRef
	refit      string // the SHA-256 of this program
	gems       []attest.Gem
	gaps       []string
	billed     attest.Resource
}

// newWitness reads what must be known for both files.
func newWitness(dir string, in FinishIn, src Source, osName string, toolchains []node.ToolchainRef) (*witness, error) {
	w := &witness{dir: dir, in: in, src: src, os: osName, toolchains: toolchains}
	if err := readJSON(filepath.Join(dir, markFile), &w.began); err != nil {
		return nil, fmt.Errorf("cannot read when the build began: %w", err)
	}
	var err error
	if w.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if w.refit, err = sumOf(self); err != nil {
		return nil, fmt.Errorf("cannot hash refit's own program: %w", err)
	}
	for name, run := range map[string]Runtime{"ruby": in.Toolchain.Ruby, "node": in.Toolchain.Node} {
		t := attest.Tool{Name: name, Version: run.Version}
		if t.File, err = filepath.EvalSymlinks(filepath.Join(run.Prefix, "bin", name)); err == nil {
			t.SHA256, err = sumOf(t.File)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot hash the %s of the build: %w", name, err)
		}
		w.tools = append(w.tools, t)
	}
	slices.SortFunc(w.tools, func(a, b attest.Tool) int { return cmp.Compare(a.Name, b.Name) })
	w.tools = append(w.tools, attest.Tool{Name: "bundler", Version: in.Toolchain.Bundler}, attest.Tool{Name: "yarn", Version: in.Toolchain.Yarn})
	return w, nil
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// bill writes the bill of materials. A lock file in a form that is not known makes it
// less complete and is said; it does not hold up a release.
func (w *witness) bill() error {
	m := attest.Materials{
		Name: w.in.Version.String(), Repository: w.in.Claims.Repository, Commit: w.src.Tag.Commit, Time: w.src.Tag.Time,
		Refit: w.in.Claims.Refit, Digest: w.refit, Tools: w.tools, OS: "linux", CPU: nodeCPU(runtime.GOARCH),
	}
	lock := func(name string, read func(string) error) error {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			m.Gaps = append(m.Gaps, "the release has no "+name)
			return nil
		}
		if err != nil {
			return err
		}
		if err := read(string(b)); err != nil {
			m.Gaps = append(m.Gaps, err.Error())
		}
		return nil
	}
	if err := errors.Join(
		lock("Gemfile.lock", func(text string) (err error) { m.Gems, err = attest.ReadGems(text); return err }),
		lock("yarn.lock", func(text string) (err error) { m.Packages, err = attest.ReadPackages(text); return err }),
	); err != nil {
		return fmt.Errorf("cannot read the lock files: %w", err)
	}
	var err error
	if m.InstalledGems, err = w.installedGems(); err != nil {
		return fmt.Errorf("cannot list the gems: %w", err)
	}
	if m.InstalledPackages, err = nodePackages(filepath.Join(w.dir, "node_modules")); err != nil {
		return fmt.Errorf("cannot list the node packages: %w", err)
	}
	bom, err := attest.NewBom(m)
	if err != nil {
		return err
	}
	w.gems, w.gaps = m.Gems, m.Gaps
	sum, _, err := w.write(billFile, bom)
	w.billed = attest.Resource{Name: billFile, Digest: map[string]string{"sha256": sum}}
	return err
}

// nodeCPU is an architecture in Node's words.
func nodeCPU(arch string) string {
	if arch == "amd64" {
		return "x64"
	}
	return arch
}

// installedGems are the folders of the bundle's gems, and the default gems of its Ruby.
func (w *witness) installedGems() ([]string, error) {
	var out []string
	for _, pattern := range []string{
		filepath.Join(w.dir, "vendor/bundle/ruby/*/gems/*"),
		filepath.Join(w.dir, "vendor/bundle/ruby/*/bundler/gems/*"),
		filepath.Join(w.in.Toolchain.Ruby.Prefix, "lib/ruby/gems/*/specifications/default/*.gemspec"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			out = append(out, strings.TrimSuffix(filepath.Base(f), ".gemspec"))
		}
	}
	return out, nil
}

// nodePackages are the packages below a node_modules, "ws@8.18.3", those within others
// too.
func nodePackages(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		inner := filepath.Join(at, "node_modules")
		if strings.HasPrefix(e.Name(), "@") {
			inner = at // a scope holds packages as a node_modules does
		}
		more, err := nodePackages(inner)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
		var p struct{ Name, Version string }
		// A folder without a package.json, or with one that is no package's, is none.
		if err := readJSON(filepath.Join(at, "package.json"), &p); err == nil && p.Name != "" && p.Version != "" {
			out = append(out, p.Name+"@"+p.Version)
		}
	}
	return out, nil
}

// write writes one of the files as the rest of the release is: root's, readable for
// all, of the time that all have. It returns its digest and size.
func (w *witness) write(name string, v any) (sum string, size int64, err error) {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return "", 0, err
	}
	b = append(b, '\n')
	file := filepath.Join(w.dir, name)
	if err := errors.Join(os.WriteFile(file, b, 0o644), os.Chmod(file, 0o644), os.Chtimes(file, node.FixedTime(), node.FixedTime())); err != nil {
		return "", 0, fmt.Errorf("cannot write %s: %w", name, err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), int64(len(b)), nil
}

// state writes the provenance of all files of the release, and gives them with its own
// entry.
func (w *witness) state(files []node.Entry) ([]node.Entry, error) {
	tree, sums := treeOf(files)
	s := attest.NewStatement(w.in.Version.String(), tree, attest.Provenance{
		BuildDefinition: attest.BuildDefinition{
			ExternalParameters:   attest.External{Repository: w.in.Claims.Repository, Tag: w.src.Tag.Name, Departures: w.in.Departures, Mirrors: w.in.Claims.Mirrors},
			InternalParameters:   attest.Internal{Recipe: w.in.Recipe, Steps: w.in.Claims.Steps, Kept: w.in.Claims.Kept},
			ResolvedDependencies: w.materials(sums),
		},
		RunDetails: attest.RunDetails{
			Builder: attest.Builder{
				ID: "refit://" + w.host, Version: map[string]string{"refit": w.in.Claims.Refit, "os": w.os, "arch": runtime.GOARCH},
				Dependencies: []attest.Resource{{Name: "refit", Digest: map[string]string{"sha256": w.refit}}},
			},
			Metadata: attest.BuildMetadata{
				InvocationID: w.began.Run, StartedOn: w.began.Started.UTC().Truncate(time.Second), FinishedOn: time.Now().UTC().Truncate(time.Second),
			},
			Byproducts: []attest.Resource{w.billed},
		},
	})
	sum, size, err := w.write(provenanceFile, s)
	if err != nil {
		return nil, err
	}
	files = append(slices.DeleteFunc(files, func(e node.Entry) bool { return e.Path == provenanceFile }), node.Entry{Path: provenanceFile, Mode: 0o644, Size: size, SHA256: sum})
	slices.SortFunc(files, func(a, b node.Entry) int { return cmp.Compare(a.Path, b.Path) })
	return files, nil
}

// treeOf names the files that a manifest lists, but for the provenance itself; sums are
// theirs by path.
func treeOf(files []node.Entry) (tree string, sums map[string]string) {
	var t attest.Tree
	sums = map[string]string{}
	for _, e := range files {
		if e.Regular() && e.Path != provenanceFile {
			t.Add(e.Path, e.SHA256)
			sums[e.Path] = e.SHA256
		}
	}
	return t.Digest(), sums
}

// materials are what the release was made from.
func (w *witness) materials(sums map[string]string) []attest.Resource {
	out := []attest.Resource{{
		Name: "source", URI: "git+" + w.in.Claims.Repository + "@refs/tags/" + w.src.Tag.Name,
		Digest: map[string]string{"gitCommit": w.src.Tag.Commit, "gitTree": w.src.Tag.Tree},
	}}
	for _, t := range w.tools {
		r := attest.Resource{Name: t.Name, Annotations: map[string]string{"version": t.Version}}
		if t.SHA256 != "" {
			r.Digest, r.Annotations["file"] = map[string]string{"sha256": t.SHA256}, t.File
		}
		if t.Name == "yarn" && w.in.Toolchain.YarnHash != "" {
			r.Annotations["hash"] = w.in.Toolchain.YarnHash
		}
		out = append(out, r)
	}
	for _, t := range w.toolchains {
		out = append(out, attest.Resource{
			Name: t.Name, Digest: map[string]string{"sha256": t.Digest},
			Annotations: map[string]string{"of": "the manifest of " + t.Name + " on the builder", "recipe": t.Recipe},
		})
	}
	for _, lock := range []string{"Gemfile.lock", "yarn.lock"} {
		if sum := sums[lock]; sum != "" {
			out = append(out, attest.Resource{Name: lock, Digest: map[string]string{"sha256": sum}})
		}
	}
	repositories := map[string]string{}
	for _, g := range w.gems {
		if g.Revision != "" {
			repositories["git+"+g.Remote+"@"+g.Revision] = g.Revision
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(repositories)) {
		out = append(out, attest.Resource{URI: uri, Digest: map[string]string{"gitCommit": repositories[uri]}})
	}
	return out
}
