package builds_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/builds"
)

// fails builds and gives the error, with nothing taken for whole.
func (w *world) fails(r builds.Recipe) error {
	w.t.Helper()
	_, err := w.builder.Build(w.t.Context(), r, w.say)
	if err == nil {
		w.t.Fatal("it was built")
	}
	var look builds.LookOut
	if lerr := w.host.Call(w.t.Context(), "build.look", builds.LookIn{Layout: w.layout, Version: r.Release.Version}, nil, &look, nil); lerr != nil || look.State == builds.Whole {
		w.t.Errorf("what lies there is %q (%v)", look.State, lerr)
	}
	return err
}

func TestAGemOfTheWrongChecksumIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		lock string
		info string
		says []string
	}{
		"than the registry's index": {info: "---\n3.1.20 |checksum:00\n", says: []string{"rack-3.1.20", gemSum, "the registry's index says 00: it is not used"}},
		"than Gemfile.lock": {
			lock: strings.Replace(gemLock, "BUNDLED", "CHECKSUMS\n  rack (3.1.20) sha256=11\n\nBUNDLED", 1),
			says: []string{"rack-3.1.20", gemSum, "Gemfile.lock says 11: it is not used"},
		},
		"than any that is locked": {lock: strings.Replace(gemLock, "rack (3.1.20)", "rack (3.1.21)", 1), says: []string{"rack-3.1.20, which Gemfile.lock does not name"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.lock != "" {
				w.write("Gemfile.lock", c.lock)
				w.tag("v4.5.15")
			}
			if c.info != "" {
				w.info = func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, c.info) }
			}
			err := w.fails(w.recipe())
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			for _, j := range w.host.started {
				if j.Unit == "refit-build-bundle.service" {
					t.Error("it was installed all the same")
				}
			}
		})
	}
}

func TestARegistryThatIsNotWellEndsTheBuildAndSaysSo(t *testing.T) {
	hang := make(chan struct{})
	for says, info := range map[string]http.HandlerFunc{
		"the server answered 500 Internal Server Error (asked 2 times)": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) },
		"the server answered 403 Forbidden":                             func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) },
		"it did not answer within 1s (asked 2 times)":                   func(http.ResponseWriter, *http.Request) { <-hang },
		"unexpected EOF (asked 2 times)": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000")
			fmt.Fprint(rw, "---\n3.1.20 |che")
		},
	} {
		w := newWorld(t)
		w.info = info
		if err := w.fails(w.recipe()); !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "/info/rack") {
			t.Errorf("want %q, got %v", says, err)
		}
		if says[:6] == "it did" {
			close(hang)
		}
	}
}

func TestARegistryThatStumblesOnceIsAskedAgain(t *testing.T) {
	w := newWorld(t)
	good, asked := w.info, 0
	w.info = func(rw http.ResponseWriter, req *http.Request) {
		if asked++; asked == 1 {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		good(rw, req)
	}
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestAFetchThatFallsSilentIsStopped(t *testing.T) {
	w := newWorld(t)
	w.builder.Silence = 1
	w.host.before = func(verb string) error {
		if verb == "job.start" {
			w.host.running["refit-build-gems.service"] = true
		}
		return nil
	}
	err := w.fails(w.recipe())
	if !strings.Contains(err.Error(), "said nothing for") || !strings.Contains(err.Error(), "what it fetches from does not answer") || w.host.running["refit-build-gems.service"] {
		t.Errorf("got %v; it goes on: %v", err, w.host.running)
	}
}

func TestWhatWasHeldToNoChecksumIsOnRecord(t *testing.T) {
	const platform = "rack (3.1.20)\n    json (2.9.1)"
	w := newWorld(t)
	w.write("Gemfile.lock", "GIT\n  remote: https://github.com/mastodon/webpush.git\n  revision: 9631ac63045cfabddacc69fc06e919b4c13eb913\n  specs:\n    webpush (1.1.0)\n\n"+
		strings.Replace(gemLock, "rack (3.1.20)", platform, 1)+"\nCHECKSUMS\n  rack (3.1.20) sha256="+gemSum+"\n")
	w.tag("v4.5.15")
	w.program("bundle", strings.Replace(w.bundler(`mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json`),
		`echo "Fetching rack 3.1.20"`, `echo binary > "$path/cache/json-2.9.1-x86_64-linux.gem"`, 1))
	built, err := w.builder.Build(t.Context(), w.recipe(), w.say)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"1 of 2 gems: neither Gemfile.lock nor the registry has a checksum: json 2.9.1",
		"1 of 1 yarn: package.json has no hash, the registry has its own: yarn 4.10.3",
	}
	if strings.Join(built.Unverified, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", built.Unverified)
	}
	f, err := builds.ReadFetches(w.dir())
	if err != nil || f.Counts["gem"] != 2 || f.Counts["git"] != 1 || f.Counts["npm"] != 1 || f.Counts["yarn"] != 1 || len(f.Items) != 4 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, i := range f.Items {
		if i.Name == "json" && (i.Platform != "x86_64-linux" || i.Held != builds.HeldToNothing || i.SHA256 == "") || i.Name == "rack" && i.Held != builds.HeldToLock {
			t.Errorf("%+v", i)
		}
	}
	again, err := w.builder.Build(t.Context(), w.recipe(), w.say)
	if err != nil || !again.Cached || strings.Join(again.Unverified, "\n") != strings.Join(want, "\n") {
		t.Errorf("found again it says %q (%v)", again.Unverified, err)
	}
}

func TestALogIsKeptWholeWhenTheNextJobBeginsAnother(t *testing.T) {
	w := newWorld(t)
	from := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(from, []byte("all of it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out builds.LogOut
	if err := w.host.Call(t.Context(), "build.log", builds.LogIn{Layout: w.layout, Of: "v4.5.15", Step: "gems", From: from}, nil, &out, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out.Path)
	if err != nil || string(b) != "all of it\n" || filepath.Dir(out.Path) != filepath.Join(w.layout.Cache, "logs") {
		t.Errorf("%q at %s, %v", b, out.Path, err)
	}
	if fi, err := os.Stat(filepath.Dir(out.Path)); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("everybody may read logs: %v, %v", fi.Mode(), err)
	}
}
