package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
)

// front stands before one of the lab's mirrors: bad answers in its place, or leaves it to
// that by giving false.
func (f *fleet) front(t *testing.T, port int, bad func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("%s:%d", lab.Gateway, port)})
	proxy.Transport = &http.Transport{DialContext: f.DialContext}
	return f.serve(t, lab.Gateway+":0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bad(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
}

// brokenBuild is the release whose build a test breaks off; one of its gems comes from git.
const brokenBuild = "v4.6.6"

// TestLabABuildThatIsDisturbedEndsClearlyAndIsNeverTakenForWhole builds with nothing kept, so
// that every registry is asked.
func TestLabABuildThatIsDisturbedEndsClearlyAndIsNeverTakenForWhole(t *testing.T) {
	full(t)
	f := theFleet(t)
	release := filepath.Join(f.Root("uhura"), "home/mastodon/releases", brokenBuild)
	clear := func(t *testing.T) {
		t.Helper()
		if out, err := f.Exec(t.Context(), "uhura", "sh", "-ec", "cd /var/cache/refit; rm -rf kept bundle yarn /home/mastodon/releases/"+brokenBuild); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	build := []string{"build", "--to", brokenBuild}
	over := make(chan struct{})
	defer close(over)
	of := func(part string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, part) && !strings.Contains(r.URL.Path, "yarnpkg") { // yarn's own package has come
				answer(w, r)
				return true
			}
			return false
		}
	}
	ill := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "ill", http.StatusInternalServerError) }
	other := func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, strings.Repeat("another content ", 64)); err != nil {
			t.Log(err)
		}
	}
	hangs := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}
	gems, npm := fmt.Sprintf("gems: http://%s:%d", lab.Gateway, lab.PortGems), fmt.Sprintf("npm: http://%s:%d", lab.Gateway, lab.PortNpm)
	const quick = "build:\n  silence: 1m\n\nwaits:\n"
	for _, c := range []struct {
		name   string
		mirror string
		port   int
		bad    func(http.ResponseWriter, *http.Request) bool
		words  []string
	}{
		{"a gem server answers 500", gems, lab.PortGems, of("/gems/", ill), []string{"500"}},
		{"a gem server hangs", gems, lab.PortGems, of("/gems/", hangs), []string{"said nothing for"}},
		{"a gem server gives other gems", gems, lab.PortGems, of("/gems/", other), nil},
		{"a node registry answers 500", npm, lab.PortNpm, of(".tgz", ill), []string{"500"}},
		{"a node registry hangs", npm, lab.PortNpm, of(".tgz", hangs), []string{"said nothing for"}},
		{"a node registry gives other packages", npm, lab.PortNpm, of(".tgz", other), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(t)
			name, _, _ := strings.Cut(c.mirror, ":")
			a := f.must(t, 1, f.config(t, c.mirror, name+": "+f.front(t, c.port, c.bad), "waits:\n", quick), build, append(c.words, "FAILED before anything was touched", "refit build --to "+brokenBuild)...)
			_, failed, _ := strings.Cut(a.err, "What failed")
			failed, _, _ = strings.Cut(failed, "Where every host")
			t.Logf("it says:%s", failed)
			if _, err := os.Stat(filepath.Join(release, ".refit/manifest.json")); err == nil {
				t.Error("it is taken for whole")
			}
		})
	}
	t.Run("the disk is full", func(t *testing.T) {
		clear(t)
		full := &meddling{step: "build", host: "uhura", fault: isFull}
		a := f.meddle(t, "", build, full)
		f.mendAll(t, full)
		if a.code != 1 || !strings.Contains(a.err, "make room") {
			t.Errorf("a full disk: %s", a)
		}
	})
	for _, step := range []string{"gems", "bundle", "packages", "assets"} {
		t.Run("refit and the step are killed in "+step, func(t *testing.T) {
			clear(t)
			f.killAt(t, " "+step+": ", build...)
			if out, err := f.Exec(t.Context(), "uhura", "systemctl", "kill", "--signal=KILL", "refit-build-*"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f.must(t, 0, "", build, "DONE", "unmodified after the build")
		})
	}
	clear(t)
	f.well(t)
}

// killAt runs refit, kills it with SIGKILL when it says some words, and frees its lease.
func (f *fleet) killAt(t *testing.T, words string, args ...string) {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	c := refitUnder(t.Context(), f.Lab, self, f.refit, args...)
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	killed := false
	for lines := bufio.NewScanner(io.TeeReader(errs, &said)); lines.Scan(); {
		if !killed && strings.Contains(lines.Text(), words) {
			killed = true
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = c.Wait()
	f.said.add(args, "", said.String())
	if !killed {
		t.Fatalf("it never said %q (%v):\n%s", words, err, said.String())
	}
}
