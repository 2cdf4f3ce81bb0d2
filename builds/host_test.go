package builds_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// host is a builder host in this process: the real verbs over a folder, jobs as
// plain processes, and what a test wants to go wrong.
type host struct {
	t *testing.T
	// memory available, bytes; files that can be made.
	memory int64
	// releases that lie there.
	releases []node.ReleaseFact
	files    uint64
	// running are units that an earlier build left.
	running map[string]bool
	// before is called before each verb; an error is the verb's answer.
	before func(verb string) error

	// cut: what gets no network has none, which only root can see to.
	cut bool

	jobs    map[string]node.Job
	logs    map[string]string
	started []node.JobIn
	stopped []string
}

func (h *host) Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error {
	if h.before != nil {
		if err := h.before(verb); err != nil {
			return err
		}
	}
	if say == nil {
		say = func(string) {}
	}
	res, err := h.answer(ctx, verb, in, payload, say)
	if err != nil {
		return &node.Error{Host: "uhura", Verb: verb, Code: node.CodeFailed, Text: err.Error()}
	}
	if out == nil {
		return nil
	}
	b, err := json.Marshal(res)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

func (h *host) answer(ctx context.Context, verb string, in any, payload io.Reader, say func(string)) (any, error) {
	switch verb {
	case "facts":
		f := node.Facts{MemoryAvailable: h.memory, Releases: h.releases}
		for _, p := range in.(node.FactsIn).Paths {
			f.Disks = append(f.Disks, node.Disk{Path: p, Free: 10 << 30, FreeFiles: h.files, Files: 1 << 20})
		}
		f.Commands = make([]node.CommandFact, len(in.(node.FactsIn).Commands))
		return f, nil
	case "job.status":
		unit := in.(node.UnitIn).Unit
		if h.running[unit] {
			return node.Job{Unit: unit, State: node.JobRunning}, nil
		}
		if j, ok := h.jobs[unit]; ok {
			return j, nil
		}
		return node.Job{Unit: unit, State: node.JobNone}, nil
	case "units":
		h.stopped = append(h.stopped, in.(node.UnitsIn).Units...)
		for _, u := range in.(node.UnitsIn).Units {
			delete(h.running, u)
		}
		return node.UnitsOut{}, nil
	case "job.start":
		return h.start(ctx, in.(node.JobIn)), nil
	case "job.log":
		q := in.(node.JobLogIn)
		log := h.logs[q.Unit]
		return node.JobLogOut{Data: []byte(log[q.Offset:]), Next: int64(len(log)), Size: int64(len(log))}, nil
	}
	for _, v := range slices.Concat(builds.Verbs(), node.Verbs()) {
		if v.Name == verb {
			b, err := json.Marshal(in)
			if err != nil {
				return nil, err
			}
			return v.Run(ctx, b, payload, say)
		}
	}
	return nil, fmt.Errorf("no verb %s", verb)
}

func (h *host) start(ctx context.Context, in node.JobIn) node.Job {
	h.started = append(h.started, in)
	cmd := exec.CommandContext(ctx, in.Argv[0], in.Argv[1:]...)
	cmd.Dir, cmd.Env = in.Dir, in.Env
	if in.NoNetwork && h.cut {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	out, err := cmd.CombinedOutput()
	j := node.Job{Unit: in.Unit, State: node.JobDone, Result: "success"}
	if err != nil {
		j.Result, j.Code = "exit-code", 1
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			j.Code = exit.ExitCode()
		} else {
			out = append(out, err.Error()...)
		}
	}
	h.jobs[in.Unit], h.logs[in.Unit] = j, string(out)
	return j
}

// world is all that a build touches, in temporary folders and on loopback.
type world struct {
	t        *testing.T
	host     *host
	upstream string // the repository's folder
	registry *httptest.Server
	builder  *builds.Builder
	layout   builds.Layout
	prefix   string
	said     []string
	// tarball and integrity are what the npm registry gives out.
	tarball   []byte
	integrity string
	// info answers what the gem registry knows of a gem; of a real world, all of it.
	info http.HandlerFunc
	// npm and tagName are a real world's.
	npm, tagName string
}

const (
	// gemLock names one gem, of which the registry alone has a checksum, and bootsnap,
	// which the stand-in for Bundler does not fetch.
	gemLock = "GEM\n  remote: https://rubygems.org/\n  specs:\n    bootsnap (1.18.4)\n    rack (3.1.20)\n\nBUNDLED WITH\n  2.7.2\n"
	// gemSum is the checksum of the gem as the stand-in for Bundler fetches it.
	gemSum   = "d535a32ae4ccd17fb41897c4ba5077d9e1aaa9ae82e6ad990e2c93b0dd10821d"
	yarnLock = "__metadata:\n  version: 10\n\n\"ws@npm:^8.0.0\":\n  version: 8.18.3\n  resolution: \"ws@npm:8.18.3\"\n  checksum: 10c0/abc\n  linkType: hard\n\n" +
		"\"@mastodon/streaming@workspace:streaming\":\n  version: 0.0.0-use.local\n  resolution: \"@mastodon/streaming@workspace:streaming\"\n  linkType: soft\n"
	// yarnJS installs one package, and fetching leaves what yarn leaves of it. A program of a
	// package it runs only where it remembers the install.
	yarnJS = `#!/bin/sh
if [ "$1" = vite ]; then [ -e node_modules/ws/all.js ] && exec cat .yarn/install-state.gz; fi
if [ "$YARN_NODE_LINKER" = pnp ]; then echo > .pnp.cjs; mkdir -p .yarn/unplugged; exit 0; fi
[ -e node_modules ] && { echo "YN0001: node_modules was there already"; exit 1; }
mkdir -p node_modules/ws && env > node_modules/ws/env.txt && [ "$1" = workspaces ] || echo all > node_modules/ws/all.js
mkdir -p .yarn && echo installed > .yarn/install-state.gz
`
)

// impatient asks registries as the real patience does, but for the time.
var impatient = builds.Patience{Each: time.Second, Tries: 2, Pause: time.Millisecond}

// bundler is a stand-in for Bundler: it leaves what the real one leaves. assets is
// what assets:precompile does.
func (w *world) bundler(assets string) string {
	return `path=$(sed -n 's/^BUNDLE_PATH: "\(.*\)"/\1/p' "${BUNDLE_APP_CONFIG:-.bundle}/config")/ruby/3.3.0
case "$1 $2 $3" in
"install  ") [ "$BUNDLE_NO_INSTALL" = true ] && mkdir -p "$path/cache" && echo packed > "$path/cache/rack-3.1.20.gem" && echo "Fetching rack 3.1.20";;
"install --local ") [ -e "$BUNDLE_CACHE_PATH/rack-3.1.20.gem" ] && mkdir -p "$path/bundler/gems/webpush-1/.git" "$path/cache" "$path/gems/rack" "$path/extensions/x/3.3.0/rack" && echo gem > "$path/gems/rack/rack.rb" && date +%N > "$path/extensions/x/3.3.0/rack/gem_make.out" && echo "Bundle complete!";;
"exec bootsnap precompile") mkdir -p tmp/cache/bootsnap/compile-cache-iseq && stat -c '%n %Y' app config Gemfile vendor/bundle/ruby/3.3.0/gems/rack/rack.rb > tmp/cache/bootsnap/compile-cache-iseq/a;;
"exec rails environment") echo paths > tmp/cache/bootsnap/load-path-cache;;
"exec rails assets:precompile") ` + assets + `;;
*) echo "unknown: $*"; exit 9;;
esac`
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, upstream: filepath.Join(t.TempDir(), "up"), prefix: t.TempDir()}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	w.layout = builds.Layout{Home: t.TempDir(), User: me.Username, Cache: filepath.Join(t.TempDir(), "cache")}
	w.host = &host{t: t, memory: 8 << 30, files: 1 << 20, running: map[string]bool{}, jobs: map[string]node.Job{}, logs: map[string]string{}}

	w.program("bundle", w.bundler(`yarn vite | grep -q installed && mkdir -p public/packs/.vite tmp/cache && printf js > public/packs/app-1.js && echo '{"app.js":{"file":"app-1.js"}}' > public/packs/.vite/manifest.json && echo secret > tmp/local_secret.txt`))
	w.program("ruby", "echo ruby")
	w.program("node", `exec /bin/sh "$@"`)
	w.pack(yarnJS)

	mux := http.NewServeMux()
	mux.HandleFunc("/@yarnpkg/cli-dist", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `{"versions":{"4.10.3":{"dist":{"integrity":%q}}}}`, w.integrity)
	})
	mux.HandleFunc("/@yarnpkg/cli-dist/-/cli-dist-4.10.3.tgz", func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := rw.Write(w.tarball); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/versions", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/info/{gem}", func(rw http.ResponseWriter, req *http.Request) { w.info(rw, req) })
	w.info = func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, "---\n3.1.19 |checksum:00,ruby:>= 2.4.0\n3.1.20 |checksum:%s,ruby:>= 2.4.0\n", gemSum)
	}
	w.registry = httptest.NewServer(mux)
	t.Cleanup(w.registry.Close)

	if err := os.Mkdir(w.upstream, 0o755); err != nil {
		t.Fatal(err)
	}
	w.git("init", "-q", "-b", "main")
	seed := tree(nil)
	for _, f := range seed.Files {
		b, err := seed.Read(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		w.write(f.Path, string(b))
	}
	w.write("log/.keep", "")
	w.write("Gemfile.lock", gemLock)
	w.write("yarn.lock", yarnLock)
	w.tag("v4.5.15")
	w.builder = &builds.Builder{Host: w.host, Name: "uhura", Upstream: "file://" + w.upstream, Poll: 1, Patience: impatient}
	return w
}

func (w *world) write(path, text string) {
	w.t.Helper()
	full := filepath.Join(w.upstream, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(args ...string) {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.upstream
	cmd.Env = append(os.Environ(), "HOME="+w.upstream, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (w *world) tag(name string) {
	w.t.Helper()
	w.git("add", "-A", "-f")
	w.git("commit", "-q", "--allow-empty", "-m", name)
	w.git("tag", "-f", "-a", "-m", name, name)
}

func (w *world) program(name, script string) {
	w.t.Helper()
	at := filepath.Join(w.prefix, "bin", name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// pack makes the registry's package of yarn.
func (w *world) pack(js string) {
	w.t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	if err := tw.WriteHeader(&tar.Header{Name: "package/bin/yarn.js", Mode: 0o644, Size: int64(len(js)), Typeflag: tar.TypeReg}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(tw, js); err != nil {
		w.t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		w.t.Fatal(err)
	}
	sum := sha512.Sum512(buf.Bytes())
	w.tarball, w.integrity = buf.Bytes(), "sha512-"+base64.StdEncoding.EncodeToString(sum[:])
}

func (w *world) say(s string) { w.said = append(w.said, s) }

func (w *world) heard(part string) bool {
	return strings.Contains(strings.Join(w.said, "\n"), part)
}

// recipe resolves the tag as an operator's machine does.
func (w *world) recipe() builds.Recipe { return w.recipeOf("v4.5.15") }

// release makes another release upstream, of what stands there now.
func (w *world) release(name, patch string) {
	w.t.Helper()
	w.write("lib/mastodon/version.rb", "def major\n4\nend\ndef minor\n5\nend\ndef patch\n"+patch+"\nend\ndef default_prerelease\n''\nend\n")
	w.tag(name)
}

// recipeOf is recipe for any release.
func (w *world) recipeOf(name string) builds.Recipe {
	w.t.Helper()
	src, err := upstream.Open(git.Options{URL: "file://" + w.upstream, Dir: filepath.Join(w.t.TempDir(), "cache")})
	if err != nil {
		w.t.Fatal(err)
	}
	rel, err := src.Tag(w.t.Context(), version(w.t, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return builds.Recipe{
		Release: rel, Layout: w.layout, Mirrors: builds.Mirrors{Gems: w.registry.URL, NPM: w.registry.URL}, Precompile: true,
		Toolchain: builds.Toolchain{
			Ruby:    builds.Runtime{Version: "3.3.8", Pinned: "3.4.7", Prefix: w.prefix, Why: "a test"},
			Node:    builds.Runtime{Version: "24.10.0", Pinned: "24.10", Prefix: w.prefix},
			Bundler: "2.6.7", BundlerPinned: "2.7.2", Yarn: "4.10.3",
		},
	}
}

func (w *world) dir() string { return filepath.Join(w.layout.Home, "releases/v4.5.15") }
