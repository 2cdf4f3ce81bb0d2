package toolchain

import (
	"archive/tar"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

func TestAToolchainIsMadeOnceProvedAndFoundAgain(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	made, err := w.maker().Make(t.Context(), tools, w.say)
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 3 || made[0].Artifact.Name != "ruby-3.4.7" || made[1].Artifact.Name != "bundler-2.7.2" || made[2].Artifact.Name != "node-24.10.2" {
		t.Fatalf("made %+v", made)
	}
	for _, m := range made {
		manifest, head, err := node.ReadManifest(m.Artifact.Prefix)
		if err != nil || head.Digest != m.Manifest.Digest || m.Cached {
			t.Fatalf("%s: %+v, %v", m.Artifact.Name, head, err)
		}
		if manifest.Kind != node.KindToolchain || manifest.Release != m.Artifact.Name || manifest.Recipe != m.Artifact.Recipe || manifest.OS == "" || manifest.Arch == "" {
			t.Errorf("%s: manifest %+v", m.Artifact.Name, manifest)
		}
		if different, err := manifest.Compare(t.Context(), m.Artifact.Prefix); err != nil || len(different) > 0 {
			t.Errorf("%s: %v, %v", m.Artifact.Name, different, err)
		}
		if exists(t, filepath.Join(m.Artifact.Prefix, builds.MarkFile)) || exists(t, work(w.layout, m.Artifact)) {
			t.Errorf("%s: the mark or the working folder is still there", m.Artifact.Name)
		}
		if info, err := os.Stat(m.Artifact.Prefix); err != nil || info.Mode() != os.ModeDir|0o755 {
			t.Errorf("%s has mode %v, %v", m.Artifact.Name, info.Mode(), err)
		}
	}
	for file, want := range map[string]bool{
		"ruby-3.4.7/bin/ruby": true, "ruby-3.4.7/lib/ruby/gems/3.4.0/cache/racc.gem": false,
		"bundler-2.7.2/specifications/bundler-2.7.2.gemspec": true, "bundler-2.7.2/cache": false,
		"node-24.10.2/bin/npm": true, "node-24.10.2/include/node/node.h": true,
	} {
		if exists(t, filepath.Join(w.layout.Toolchains, file)) != want {
			t.Errorf("%s is there: %v", file, !want)
		}
	}
	jobs, asked := len(w.started), len(w.asked)
	again, err := w.maker().Make(t.Context(), tools, w.say)
	if err != nil || len(again) != 3 || !again[0].Cached || !again[2].Cached || again[1].Manifest.Digest != made[1].Manifest.Digest || len(w.started) != jobs || len(w.asked) != asked {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestWhatCompilesHasNoNetworkAndNothingOfTheEnvironment(t *testing.T) {
	t.Setenv("RUBY_CONFIGURE_OPTS", "--with-evil")
	t.Setenv("RUBYOPT", "-revil")
	w := newWorld(t)
	if _, err := w.maker().Make(t.Context(), w.tools(), w.say); err != nil {
		t.Fatal(err)
	}
	if len(w.started) != 5 {
		t.Errorf("%d jobs", len(w.started))
	}
	for _, j := range w.started {
		if !j.NoNetwork || j.User != w.layout.User || !strings.HasPrefix(j.Unit, "refit-toolchain-") {
			t.Errorf("%+v", j)
		}
	}
	options, err := os.ReadFile(filepath.Join(w.layout.Toolchains, "ruby-3.4.7/lib/options"))
	if err != nil || strings.TrimSpace(string(options)) != "--with-jemalloc --disable-install-doc" {
		t.Errorf("options %q, %v", options, err)
	}
	env, err := os.ReadFile(filepath.Join(w.layout.Toolchains, "ruby-3.4.7/lib/env"))
	if err != nil || strings.Contains(string(env), "evil") || !strings.Contains(string(env), "LANG=C.UTF-8") {
		t.Errorf("environment %q, %v", env, err)
	}
}

func TestAToolchainCutOffAnywhereIsBegunAgainFromNothing(t *testing.T) {
	for _, at := range []string{"toolchain.begin", "toolchain.fetch", "toolchain.unpack", "job.start", "toolchain.finish"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			tools := w.tools()
			cut := errors.New("power lost")
			var during builds.Artifact
			w.before = func(verb string) error {
				if verb == at {
					return cut
				}
				return nil
			}
			if _, err := w.maker().Make(t.Context(), tools, w.say); !errors.Is(err, cut) {
				t.Fatalf("got %v", err)
			}
			w.before = nil
			for _, a := range tools.Artifacts {
				if state, err := look(t.Context(), LookIn{Artifact: a}); err != nil || state.State == builds.Unfinished {
					during = a
				} else if state.State == builds.Whole {
					continue
				} else if state.State != builds.Absent {
					t.Errorf("%s is %s", a.Name, state.State)
				}
			}
			if at != "toolchain.begin" {
				if during.Name == "" {
					t.Fatal("nothing is unfinished")
				}
				if err := os.WriteFile(filepath.Join(during.Prefix, "half"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				w.running[unit(during, "prove")] = true
			}
			made, err := w.maker().Make(t.Context(), tools, w.say)
			if err != nil || len(made) != 3 {
				t.Fatalf("%+v, %v", made, err)
			}
			if at != "toolchain.begin" && (exists(t, filepath.Join(during.Prefix, "half")) || !slices.Contains(w.stopped, unit(during, "prove"))) {
				t.Errorf("the half-made one was built upon, or its job was left at work: stopped %v", w.stopped)
			}
		})
	}
}

func TestAnUnfinishedToolchainIsRemovedAndAFinishedOneStays(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	w.before = func(verb string) error {
		if verb == "toolchain.unpack" {
			return errors.New("power lost")
		}
		return nil
	}
	if _, err := w.maker().Make(t.Context(), tools, w.say); err == nil {
		t.Fatal("no error")
	}
	w.before = nil
	if err := w.maker().Remove(t.Context(), tools, w.say); err != nil {
		t.Fatal(err)
	}
	if exists(t, tools.Node.Prefix) || !exists(t, tools.Ruby.Prefix) || !w.heard("the unfinished node-24.10.2 was removed") {
		t.Errorf("said %q", w.said)
	}
}

// pen is a key that signs with its name.
type pen string

func (pen) Ready(context.Context) error { return nil }

func (p pen) Sign(_ context.Context, message []byte) ([]byte, error) {
	return []byte(string(p) + " signed " + string(message)), nil
}

func (p pen) Verify(message, signature []byte) error {
	if string(signature) != string(p)+" signed "+string(message) {
		return errors.New("it is no signature of " + string(p))
	}
	return nil
}

func (p pen) Key() (line, fingerprint string, err error) {
	return "ssh-test", "SHA256:" + string(p), nil
}

func TestAToolchainIsSignedAndMadeAgainWithoutThatSignature(t *testing.T) {
	w := newWorld(t)
	tools, m := w.tools(), w.maker()
	m.Builder.Signer = pen("us")
	made, err := m.Make(t.Context(), tools, w.say)
	if err != nil || !w.heard("node-24.10.2 is signed with SHA256:us") {
		t.Fatalf("%v; said %q", err, w.said)
	}
	signature, err := node.ReadSignature(tools.Node.Prefix)
	if err != nil || pen("us").Verify(node.SignedText(made[2].Manifest.Digest), signature) != nil {
		t.Errorf("%q, %v", signature, err)
	}
	if err := os.Remove(filepath.Join(tools.Node.Prefix, ".refit/manifest.json.sig")); err != nil {
		t.Fatal(err)
	}
	again, err := m.Make(t.Context(), tools, w.say)
	if err != nil || !again[0].Cached || again[2].Cached || !w.heard("node-24.10.2 is made again: it is not signed") {
		t.Errorf("%+v, %v; said %q", again, err, w.said)
	}
}

func TestAToolchainThatIsKeptElsewhereIsNotMade(t *testing.T) {
	w := newWorld(t)
	tools, m := w.tools(), w.maker()
	if _, err := m.Make(t.Context(), tools, w.say); err != nil {
		t.Fatal(err)
	}
	kept := tools.Node.Prefix + "-kept"
	if err := os.Rename(tools.Node.Prefix, kept); err != nil {
		t.Fatal(err)
	}
	var asked []string
	m.Fetch = func(_ context.Context, a builds.Artifact, _ func(string)) (bool, error) {
		asked = append(asked, a.Name)
		return true, os.Rename(kept, a.Prefix)
	}
	jobs := len(w.started)
	made, err := m.Make(t.Context(), tools, w.say)
	if err != nil || len(made) != 3 || !made[2].Cached || len(w.started) != jobs || !slices.Equal(asked, []string{"node-24.10.2"}) {
		t.Errorf("%+v, %v after asking for %v", made, err, asked)
	}
	// What came and is not whole is made.
	if err := os.RemoveAll(tools.Node.Prefix); err != nil {
		t.Fatal(err)
	}
	m.Fetch = func(context.Context, builds.Artifact, func(string)) (bool, error) { return true, nil }
	if made, err := m.Make(t.Context(), tools, w.say); err != nil || made[2].Cached || !w.heard("node-24.10.2 came as") {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestACompilerThatFailsIsShownWithItsLines(t *testing.T) {
	w := newWorld(t)
	w.write("bin/ruby-build", "echo 'checking for gcc'; echo 'error: jemalloc requested but not found'; exit 1\n")
	w.commit()
	_, err := w.maker().Make(t.Context(), w.tools(), w.say)
	var failed *builds.BuildError
	if !errors.As(err, &failed) || failed.Step != "compile" || !slices.Contains(failed.Lines, "error: jemalloc requested but not found") {
		t.Errorf("got %v", err)
	}
}

func TestARubyThatSaysAnotherVersionIsNotTaken(t *testing.T) {
	w := newWorld(t)
	b := targz(t, map[string]string{"ruby-3.4.7/ruby": "#!/bin/sh\necho 'it says 3.4.6' >&2; exit 1\n", "ruby-3.4.7/gem": ""})
	w.served["/ruby/3.4/ruby-3.4.7.tar.gz"] = b
	w.write(definitionsDir+"3.4.7", w.definition(sum(b)))
	w.commit()
	tools := w.tools()
	_, err := w.maker().Make(t.Context(), tools, w.say)
	failsWith(t, err, "it says 3.4.6")
	if state, err := look(t.Context(), LookIn{Artifact: tools.Artifacts[0]}); err != nil || state.State != builds.Unfinished {
		t.Errorf("it is %s, %v", state.State, err)
	}
}

func TestAServerThatFailsLeavesNothingWhole(t *testing.T) {
	const archive = "/ruby/3.4/ruby-3.4.7.tar.gz"
	for name, c := range map[string]struct {
		answer func(w *world, rw http.ResponseWriter)
		says   string
		asked  int // a server that is not well is asked again
	}{
		"500": {func(_ *world, rw http.ResponseWriter) { http.Error(rw, "no", http.StatusInternalServerError) }, "answered 500", 2},
		"404": {func(_ *world, rw http.ResponseWriter) { http.Error(rw, "no", http.StatusNotFound) }, "answered 404", 1},
		"another file": {func(w *world, rw http.ResponseWriter) {
			if _, err := rw.Write([]byte("evil")); err != nil {
				w.t.Error(err)
			}
		}, "was promised: it is not used", 1},
		"cut short": {func(w *world, rw http.ResponseWriter) {
			rw.Header().Set("Content-Length", "1000")
			if _, err := rw.Write([]byte("half")); err != nil {
				w.t.Error(err)
			}
		}, "unexpected EOF", 2},
		"silence": {nil, "nothing came for 50ms", 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tools := w.tools()
			quit := make(chan struct{})
			w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != archive {
					return false
				}
				if c.answer == nil {
					rw.WriteHeader(http.StatusOK)
					if err := http.NewResponseController(rw).Flush(); err == nil {
						select {
						case <-quit:
						case <-r.Context().Done():
						}
					}
					return true
				}
				c.answer(w, rw)
				return true
			}
			if c.answer == nil {
				w.shop.fetcher.silence = 50 * time.Millisecond
			}
			_, err := w.maker().Make(t.Context(), tools, w.say)
			close(quit)
			failsWith(t, err, c.says, archive)
			if asked := slices.DeleteFunc(slices.Clone(w.asked), func(path string) bool { return path != archive }); len(asked) != c.asked {
				t.Errorf("it was asked %d times, wanted %d", len(asked), c.asked)
			}
			left, err := filepath.Glob(filepath.Join(archives(w.layout), "*"))
			hidden, herr := filepath.Glob(filepath.Join(archives(w.layout), ".*"))
			if err != nil || herr != nil || len(left)+len(hidden) > 0 {
				t.Errorf("left %v %v", left, hidden)
			}
			w.answer, w.shop.fetcher.silence = nil, time.Minute
			if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
				t.Errorf("the server is well again, and: %v", err)
			}
		})
	}
}

func TestAServerThatWasNotWellOnceDoesNotEndTheMaking(t *testing.T) {
	w := newWorld(t)
	ill := map[string]bool{"/ruby/3.4/ruby-3.4.7.tar.gz": true, "/node/v24.10.2/SHASUMS256.txt": true}
	w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
		if !ill[r.URL.Path] {
			return false
		}
		delete(ill, r.URL.Path)
		http.Error(rw, "later", http.StatusServiceUnavailable)
		return true
	}
	if _, err := w.maker().Make(t.Context(), w.tools(), w.say); err != nil || len(ill) > 0 {
		t.Errorf("%v; never asked: %v", err, ill)
	}
}

func TestAnArchiveThatWasDamagedInTheCacheIsFetchedAnew(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	if err := os.MkdirAll(archives(w.layout), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(archives(w.layout), "ruby-3.4.7.tar.gz"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
		t.Error(err)
	}
}

func TestRubyBuildThatWasChangedInTheCacheIsNotRun(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	program := filepath.Join(w.layout.Cache, "ruby-build", w.revision, "bin/ruby-build")
	if err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, []byte("exit 7\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
		t.Error(err)
	}
}

func TestAFullDiskIsToldAndLeavesNothingWhole(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can mount a small disk")
		return
	}
	w := newWorld(t)
	tools := w.tools()
	if err := os.MkdirAll(w.layout.Toolchains, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", w.layout.Toolchains, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(w.layout.Toolchains, 0); err != nil {
			t.Error(err)
		}
	})
	_, err := w.maker().Make(t.Context(), tools, w.say)
	failsWith(t, err, "space left on device")
	for _, a := range tools.Artifacts {
		if state, err := look(t.Context(), LookIn{Artifact: a}); err != nil || state.State == builds.Whole {
			t.Errorf("%s is %s, %v", a.Name, state.State, err)
		}
	}
}

func TestTooLittleRoomIsToldBeforeAnythingIsTouched(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	w.memory = 1 << 20
	if err := w.maker().Check(t.Context(), tools, w.say); err == nil || !strings.Contains(err.Error(), "add memory or swap") {
		t.Errorf("memory: %v", err)
	}
	w.memory, w.free = 8<<30, 1<<20
	if _, err := w.maker().Make(t.Context(), tools, w.say); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("disk: %v", err)
	}
	if exists(t, tools.Ruby.Prefix) {
		t.Error("something was made all the same")
	}
}

func TestADamagedToolchainIsMadeAgainAndAForeignOneIsNotTouched(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tools.Node.Prefix, "lib/npm.js"), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	made, err := w.maker().Make(t.Context(), tools, w.say)
	if err != nil || made[2].Cached || !made[0].Cached || !w.heard("node-24.10.2 is damaged (lib/npm.js: other content)") {
		t.Errorf("%+v, %v, %q", made, err, w.said)
	}
	if err := os.RemoveAll(filepath.Join(tools.Node.Prefix, ".refit")); err != nil {
		t.Fatal(err)
	}
	_, err = w.maker().Make(t.Context(), tools, w.say)
	failsWith(t, err, tools.Node.Prefix, "was not made by refit", "toolchain.node")
	failsWith(t, w.maker().Check(t.Context(), tools, w.say), "was not made by refit")
	if err := w.maker().Remove(t.Context(), tools, w.say); err != nil || !exists(t, filepath.Join(tools.Node.Prefix, "bin/node")) {
		t.Errorf("a foreign Node was removed (%v)", err)
	}
	p, err := w.plan(w.planIn())
	if err != nil || len(p.Refused) != 1 || !strings.Contains(p.Refused[0], "was not made by refit") {
		t.Errorf("planned %q, %v", p.Refused, err)
	}
}

func TestAnArchiveOfNodeWritesNowhereElse(t *testing.T) {
	top := "node-v24.10.2-linux-" + nodeArch["amd64"]
	for name, c := range map[string]struct{ path, text, says string }{
		"a path that climbs": {top + "/../../evil", "x", "does not belong there"},
		"an absolute path":   {"/evil", "x", "does not belong there"},
		"no folder on top":   {"evil", "x", "does not belong there"},
		"refit's own folder": {top + "/.refit/manifest.json", "{}", "does not belong there"},
		"a link that climbs": {top + "/bin/npm", "-> ../../evil", "leads out of it"},
		"a link to anywhere": {top + "/bin/npm", "-> /etc/passwd", "leads out of it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := MakeIn{Layout: w.layout, Artifact: builds.Artifact{Tool: "node", Version: "24.10.2", Name: "node-24.10.2", Prefix: w.layout.Prefix("node-24.10.2"), Recipe: strings.Repeat("a", 64)}}
			b := targz(t, map[string]string{c.path: c.text})
			in.Artifact.Archives = []builds.Archive{{File: "node.tar.gz", SHA256: sum(b)}}
			if _, err := begin(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(archives(w.layout), "node.tar.gz"), b, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := unpack(t.Context(), in)
			failsWith(t, err, c.says)
			if exists(t, filepath.Join(w.layout.Toolchains, "evil")) || exists(t, filepath.Join(filepath.Dir(w.layout.Toolchains), "evil")) {
				t.Error("it wrote elsewhere")
			}
		})
	}
}

func TestWhatIsNoFileIsNotUnpacked(t *testing.T) {
	for name, h := range map[string]*tar.Header{
		"a hard link": {Name: "node/bin/node", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		"a device":    {Name: "node/bin/node", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		"a pipe":      {Name: "node/bin/node", Typeflag: tar.TypeFifo},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "a.tar.gz")
		if err := os.WriteFile(file, packed(t, []*tar.Header{h}, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unpackTo(t.Context(), file, dir); err == nil || !strings.Contains(err.Error(), "neither a file, a directory nor a link") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "a.tar.gz")
	suid := &tar.Header{Name: "node/bin/node", Mode: 0o4755, Size: 1, Typeflag: tar.TypeReg}
	if err := os.WriteFile(file, packed(t, []*tar.Header{suid}, map[string]string{"node/bin/node": "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unpackTo(t.Context(), file, dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "bin/node")); err != nil || info.Mode() != 0o755 {
		t.Errorf("a setuid bit came through: %v, %v", info.Mode(), err)
	}
}

func TestALinkOutOfAToolchainIsNotSealed(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	w.before = func(verb string) error {
		if verb == "toolchain.finish" && !exists(t, filepath.Join(tools.Ruby.Prefix, "lib/away")) {
			return os.Symlink("/usr/lib", filepath.Join(tools.Ruby.Prefix, "lib/away"))
		}
		return nil
	}
	_, err := w.maker().Make(t.Context(), tools, w.say)
	failsWith(t, err, "lib/away leads out of it, to /usr/lib")
}

func TestNobodyIsAskedToWriteElsewhereByAnArtifactsName(t *testing.T) {
	w := newWorld(t)
	good := w.tools().Artifacts[0]
	for name, change := range map[string]func(*builds.Artifact){
		"another prefix": func(a *builds.Artifact) { a.Prefix = "/usr" },
		"a name that climbs": func(a *builds.Artifact) {
			a.Name = "ruby-3.4.7/../../x"
			a.Prefix = w.layout.Prefix(a.Name)
		},
		"another tool": func(a *builds.Artifact) { a.Tool = "etc" },
		"no recipe":    func(a *builds.Artifact) { a.Recipe = "" },
		"an archive's path": func(a *builds.Artifact) {
			a.Archives = []builds.Archive{{File: "../x", SHA256: strings.Repeat("a", 64)}}
		},
		"an archive unproved": func(a *builds.Artifact) { a.Archives = []builds.Archive{{File: "x", SHA256: ""}} },
	} {
		a := good
		change(&a)
		for verb, err := range map[string]error{
			"begin":  w.Call(t.Context(), "toolchain.begin", MakeIn{Layout: w.layout, Artifact: a}, nil, nil, nil),
			"remove": w.Call(t.Context(), "toolchain.remove", MakeIn{Layout: w.layout, Artifact: a}, nil, nil, nil),
			"finish": w.Call(t.Context(), "toolchain.finish", MakeIn{Layout: w.layout, Artifact: a}, nil, nil, nil),
		} {
			if err == nil {
				t.Errorf("%s: %s did not refuse", name, verb)
			}
		}
	}
}
