package toolchain

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// world is a builder in this process, and the servers that it fetches from: the real
// verbs over folders, jobs as plain processes, a ruby-build of a few lines.
type world struct {
	t        *testing.T
	shop     workshop
	layout   builds.Layout
	upstream string // ruby-build's repository
	revision string
	server   *httptest.Server
	served   map[string][]byte // by path
	asked    []string
	// answer, when set, answers in the server's place; false leaves it to that.
	answer func(http.ResponseWriter, *http.Request) bool

	memory  int64
	free    uint64
	running map[string]bool
	before  func(verb string) error
	started []node.JobIn
	stopped []string
	jobs    map[string]node.Job
	logs    map[string]string
	said    []string
}

const fakeRubyBuild = `#!/usr/bin/env bash
set -e
[ "$1" = --verbose ]; prefix=$3
install_package() {
  case "$*" in *"--if needs_openssl"*) return;; esac
  cd "$TMPDIR"
  tar xzf "$RUBY_BUILD_CACHE_PATH/$1.tar.gz"
  mkdir -p "$prefix/bin" "$prefix/lib/ruby/gems/3.4.0/cache"
  cp "$1/ruby" "$1/gem" "$prefix/bin/"
  echo "$RUBY_CONFIGURE_OPTS" > "$prefix/lib/options"
  env > "$prefix/lib/env"
  echo packed > "$prefix/lib/ruby/gems/3.4.0/cache/racc.gem"
}
. "$RUBY_BUILD_DEFINITIONS/$2"
`

const (
	fakeRuby = "#!/bin/sh\nif [ \"$1\" = -e ]; then echo \"ruby $3\"; else exec sh \"$@\"; fi\n"
	fakeGem  = `while [ "$1" != --install-dir ]; do shift; done
mkdir -p "$2/gems/bundler-2.7.2/lib" "$2/specifications" "$2/cache" && echo spec > "$2/specifications/bundler-2.7.2.gemspec" && echo lib > "$2/gems/bundler-2.7.2/lib/bundler.rb" && echo gem > "$2/cache/bundler-2.7.2.gem"
`
)

func newWorld(t *testing.T) *world {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := &world{
		t: t, layout: builds.Layout{Home: filepath.Join(dir, "home"), User: me.Username, Cache: filepath.Join(dir, "cache"), Toolchains: filepath.Join(dir, "opt")},
		upstream: filepath.Join(dir, "ruby-build"), served: map[string][]byte{}, memory: 8 << 30, free: 10 << 30,
		running: map[string]bool{}, jobs: map[string]node.Job{}, logs: map[string]string{},
	}
	w.shop = workshop{fetcher: fetcher{silence: 10 * time.Second, patience: builds.Patience{Tries: 2, Pause: time.Millisecond}}, try: func(context.Context, ...string) error { return nil }}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked = append(w.asked, r.URL.Path)
		if w.answer != nil && w.answer(rw, r) {
			return
		}
		b, ok := w.served[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		if _, err := rw.Write(b); err != nil && w.answer == nil {
			t.Error(err)
		}
	}))
	t.Cleanup(w.server.Close)
	ruby := targz(t, map[string]string{"ruby-3.4.7/ruby": fakeRuby, "ruby-3.4.7/gem": fakeGem})
	w.served["/ruby/3.4/ruby-3.4.7.tar.gz"] = ruby
	w.write("bin/ruby-build", fakeRubyBuild)
	w.write(definitionsDir+"3.4.6", "")
	w.write(definitionsDir+"3.4.7", w.definition(sum(ruby)))
	w.commit()
	w.serveNode("24.10.2", map[string]string{"bin/node": "#!/bin/sh\necho \"node $3\"\n", "include/node/node.h": "h", "bin/npm": "-> ../lib/npm.js", "lib/npm.js": "js"})
	w.served["/node/index.json"] = []byte(`[{"version":"v25.0.0","files":["linux-x64","linux-arm64"]},{"version":"v24.10.2","files":["linux-x64","linux-arm64"]},
		{"version":"v24.10.3","files":["win-x64-zip"]},{"version":"v24.10.1","files":["linux-x64","linux-arm64"]},{"version":"v24.1.9","files":["linux-x64","linux-arm64"]}]`)
	gem := []byte("a gem")
	w.served["/info/bundler"] = []byte("---\n2.7.1 |checksum:" + strings.Repeat("0", 64) + "\n2.7.2 |checksum:" + sum(gem) + ",ruby:>= 3.2.0\n")
	w.served["/gems/bundler-2.7.2.gem"] = gem
	return w
}

// definition is ruby-build's of 3.4.7, with the OpenSSL that no test has.
func (w *world) definition(sum string) string {
	return `install_package "openssl-3.0.18" "https://example.org/openssl-3.0.18.tar.gz#` + strings.Repeat("d", 64) + `" openssl --if needs_openssl:1.0.2-3.x.x
install_package "ruby-3.4.7" "` + PublicRuby + `/3.4/ruby-3.4.7.tar.gz#` + sum + `" enable_shared standard
`
}

func (w *world) serveNode(version string, files map[string]string) {
	top := "node-v" + version + "-linux-" + nodeArch[runtime.GOARCH]
	all := map[string]string{}
	for name, text := range files {
		all[top+"/"+name] = text
	}
	b := targz(w.t, all)
	w.served["/node/v"+version+"/"+top+".tar.gz"] = b
	w.served["/node/v"+version+"/SHASUMS256.txt"] = []byte(strings.Repeat("1", 64) + "  node-v" + version + ".tar.gz\n" + sum(b) + "  " + top + ".tar.gz\n")
}

func (w *world) write(name, text string) {
	w.t.Helper()
	at := filepath.Join(w.upstream, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o755)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit() {
	w.t.Helper()
	git := func(args ...string) string {
		c := exec.Command("git", args...)
		c.Dir = w.upstream
		c.Env = append(os.Environ(), "HOME="+w.upstream, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org")
		out, err := c.CombinedOutput()
		if err != nil {
			w.t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	git("add", "-A")
	git("commit", "-q", "-m", "ruby-build")
	w.revision = git("rev-parse", "HEAD")
}

func (w *world) sources() Sources {
	return Sources{Repository: "file://" + w.upstream, Revision: w.revision, Ruby: w.server.URL + "/ruby", Node: w.server.URL + "/node/", Gems: w.server.URL}
}

func (w *world) planIn() PlanIn {
	return PlanIn{Layout: w.layout, Ruby: "3.4.7", Bundler: "2.7.2", Node: "24.10", Sources: w.sources()}
}

func (w *world) plan(in PlanIn) (Planned, error) { return Plan(w.t.Context(), w, in, w.say) }

// tools is the toolchain that the plan makes.
func (w *world) tools() builds.Toolchain {
	w.t.Helper()
	p, err := w.plan(w.planIn())
	if err != nil || len(p.Refused) > 0 {
		w.t.Fatalf("%v, refused %q", err, p.Refused)
	}
	t := builds.Toolchain{Artifacts: p.Artifacts}
	for _, a := range p.Artifacts {
		switch a.Tool {
		case "ruby":
			t.Ruby = builds.Runtime{Version: a.Version, Prefix: a.Prefix}
		case "node":
			t.Node = builds.Runtime{Version: a.Version, Prefix: a.Prefix}
		}
	}
	return t
}

func (w *world) maker() Maker {
	return Maker{Builder: &builds.Builder{Host: w, Name: "uhura", Poll: 1}, Layout: w.layout, Repository: "file://" + w.upstream}
}

func (w *world) say(line string) { w.said = append(w.said, line) }

func (w *world) heard(part string) bool { return strings.Contains(strings.Join(w.said, "\n"), part) }

// Call implements builds.Host.
func (w *world) Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error {
	if w.before != nil {
		if err := w.before(verb); err != nil {
			return err
		}
	}
	if say == nil {
		say = func(string) {}
	}
	res, err := w.do(ctx, verb, in, payload, say)
	if err != nil {
		return err
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

func (w *world) do(ctx context.Context, verb string, in any, payload io.Reader, say func(string)) (any, error) {
	switch verb {
	case "facts":
		f := node.Facts{MemoryAvailable: w.memory}
		for _, p := range in.(node.FactsIn).Paths {
			f.Disks = append(f.Disks, node.Disk{Path: p, Free: w.free})
		}
		return f, nil
	case "job.status":
		name := in.(node.UnitIn).Unit
		if w.running[name] {
			return node.Job{Unit: name, State: node.JobRunning}, nil
		}
		return w.jobs[name], nil
	case "units":
		for _, u := range in.(node.UnitsIn).Units {
			w.stopped = append(w.stopped, u)
			delete(w.running, u)
		}
		return node.UnitsOut{}, nil
	case "job.start":
		return w.start(ctx, in.(node.JobIn)), nil
	case "job.log":
		q := in.(node.JobLogIn)
		log := w.logs[q.Unit]
		return node.JobLogOut{Data: []byte(log[q.Offset:]), Next: int64(len(log)), Size: int64(len(log))}, nil
	}
	for _, v := range slices.Concat(w.shop.verbs(), builds.Verbs(), node.Verbs()) {
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

func (w *world) start(ctx context.Context, in node.JobIn) node.Job {
	w.started = append(w.started, in)
	c := exec.CommandContext(ctx, in.Argv[0], in.Argv[1:]...)
	c.Dir, c.Env = in.Dir, in.Env
	out, err := c.CombinedOutput()
	j := node.Job{Unit: in.Unit, State: node.JobDone, Result: "success", Code: c.ProcessState.ExitCode()}
	if err != nil {
		j.Result = "exit-code"
	}
	w.jobs[in.Unit], w.logs[in.Unit] = j, string(out)
	return j
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// targz packs files; content that begins with "-> " is a link.
func targz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var headers []*tar.Header
	for name, text := range files {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			h.Size, h.Typeflag, h.Linkname = 0, tar.TypeSymlink, to
		}
		headers = append(headers, h)
	}
	return packed(t, headers, files)
}

func packed(t *testing.T, headers []*tar.Header, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		err := w.WriteHeader(h)
		if err == nil && h.Typeflag == tar.TypeReg {
			_, err = io.WriteString(w, files[h.Name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func failsWith(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}
