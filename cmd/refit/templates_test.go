package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/stages"
)

// oldSite is what the older releases of someReleases ship, but for the size of uploads.
const oldSite = "server {\n  listen 443 ssl;\n  server_name example.com;\n  root /srv;\n  client_max_body_size 99m;\n  keepalive_timeout 70;\n  sendfile on;\n}\n"

// shippedReleases is a clone with two releases that ship other files, and a source of it.
func shippedReleases(t *testing.T) *upstream.Source {
	t.Helper()
	clone, err := upstream.OpenClone(someReleases(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clone.Close(); err != nil {
			t.Error(err)
		}
	})
	return clone.Source
}

// oneTree is a config repository of one commit.
type oneTree struct {
	stages.Configs
	tree fs.FS
}

func (o oneTree) FS(string) (fs.FS, error) { return o.tree, nil }

// planOver is a way over the templates of a config repository.
func planOver(t *testing.T, source *upstream.Source, templates map[string]string) way {
	t.Helper()
	tree := fstest.MapFS{"README.md": {Data: []byte("theirs")}}
	for name, text := range templates {
		tree["templates/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	f := &stages.Facts{Configs: &stages.Configured{Base: "base"}, From: builds.Release{Version: parsed(t, "v4.5.15")}, To: builds.Release{Version: parsed(t, "v4.6.0")}}
	var w way
	w.templates(t.Context(), source, &stages.Configuration{Repo: oneTree{tree: tree}}, f)
	return w
}

const vmstSite = "proxy/etc/nginx/sites-available/vmst.conf.tmpl"

func TestWhatAReleaseChangesWhereTheTeamDidStandsAgainstAPlan(t *testing.T) {
	source := shippedReleases(t)
	site := strings.Replace(oldSite, "size 99m", "size 50m", 1)
	w := planOver(t, source, map[string]string{vmstSite: site})
	const name = "template-proxy-etc-nginx-sites-available-vmst-conf-tmpl"
	left := w.left()
	if len(left) != 1 || left[0].Name != name || left[0].By != notes.Admin || len(left[0].Texts) != 1 {
		t.Fatalf("%+v", left)
	}
	for _, part := range []string{vmstSite + ", line 5", "client_max_body_size 50m;", "client_max_body_size 99m;", "client_max_body_size 199m;"} {
		if !strings.Contains(left[0].Texts[0], part) {
			t.Errorf("%q is not said:\n%s", part, left[0].Texts[0])
		}
	}
	if open := w.unacknowledged(nil); len(open) != 1 || !strings.Contains(open[0], "--ack "+name) {
		t.Errorf("%q", open)
	}
	if open := w.unacknowledged([]string{name}); len(open) > 0 {
		t.Errorf("acknowledged: %q", open)
	}
	// Who acknowledged it has read these words: with other words it is another plan.
	other := planOver(t, source, map[string]string{vmstSite: strings.Replace(oldSite, "size 99m", "size 60m", 1)})
	if a, b := w.asked(), other.asked(); len(a) != 1 || len(b) != 1 || strings.Join(a[0], "") == strings.Join(b[0], "") {
		t.Errorf("%q and %q are one plan", a, b)
	}
}

func TestWhatFitsIsSaidAndWhatNobodyHasATemplateOfToo(t *testing.T) {
	source := shippedReleases(t)
	own := strings.Replace(oldSite, "example.com", "{{.Fleet.Domain}}", 1)
	w := planOver(t, source, map[string]string{vmstSite: own})
	said := strings.Join(w.said, "\n")
	if len(w.left()) != 0 || !strings.Contains(said, "without touching what is yours; `refit templates --to v4.6.0 --write`") || !strings.Contains(said, "dist/mastodon-web.service is new in this release") {
		t.Errorf("%+v\n%s", w.left(), said)
	}
	if w := planOver(t, source, map[string]string{"web/etc/motd": "hello"}); len(w.left()) != 0 || !strings.Contains(strings.Join(w.said, "\n"), "no template is known to be made of it") {
		t.Errorf("%+v, %q", w.left(), w.said)
	}
	if w := planOver(t, source, nil); len(w.left())+len(w.said) != 0 {
		t.Errorf("without templates: %+v, %q", w.left(), w.said)
	}
	var without way
	without.templates(t.Context(), source, nil, &stages.Facts{})
	if len(without.left())+len(without.said) != 0 {
		t.Error("without a config repository something is said")
	}
}

func TestTemplatesThatCannotBeHeldAgainstTheReleaseAreAPersons(t *testing.T) {
	source := shippedReleases(t)
	f := &stages.Facts{Configs: &stages.Configured{Base: "base"}, From: builds.Release{Version: parsed(t, "v4.5.15")}, To: builds.Release{Version: parsed(t, "v9.9.9")}}
	tree := fstest.MapFS{"templates/web/etc/motd": {Data: []byte("hello")}}
	var w way
	w.templates(t.Context(), source, &stages.Configuration{Repo: oneTree{tree: tree}}, f)
	if open := w.unacknowledged(nil); len(open) != 1 || !strings.Contains(open[0], templatesUnread) {
		t.Errorf("%q", open)
	}
}

func TestACleanMergeIsWrittenIntoACheckoutAndAConflictNever(t *testing.T) {
	source := shippedReleases(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "templates", vmstSite)
	put := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	look := func(write bool) (string, int) {
		t.Helper()
		var out bytes.Buffer
		err := streams{out: &out, err: &out}.templates(context.Background(), source, parsed(t, "v4.5.15"), parsed(t, "v4.6.0"), dir, write)
		return out.String(), exitCode(err)
	}
	own := strings.Replace(oldSite, "example.com", "{{.Fleet.Domain}}", 1)
	put(own)
	if out, code := look(false); code != exitDone || !strings.Contains(out, "merged: ") || strings.Contains(out, "written") {
		t.Errorf("code %d: %s", code, out)
	}
	is := func(want string) {
		t.Helper()
		b, err := os.ReadFile(file)
		info, serr := os.Stat(file)
		if err != nil || serr != nil || string(b) != want || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v, %q", err, serr, b)
		}
	}
	is(own)
	if out, code := look(true); code != exitDone || !strings.Contains(out, "written: ") {
		t.Errorf("code %d: %s", code, out)
	}
	is(strings.Replace(own, "99m", "199m", 1))
	if out, _ := look(true); strings.Contains(out, "merged") {
		t.Errorf("it is merged twice: %s", out)
	}
	put(strings.Replace(oldSite, "99m", "50m", 1))
	if out, code := look(true); code != exitPerson || !strings.Contains(out, "conflict: ") || !strings.Contains(out, "the new release's:\n        client_max_body_size 199m;") {
		t.Errorf("code %d: %s", code, out)
	}
	is(strings.Replace(oldSite, "99m", "50m", 1))
}

func TestTheReleaseThatRunsIsTheLocksUnlessItIsSaid(t *testing.T) {
	dir := t.TempDir()
	if _, err := fromRelease(dir, ""); err == nil || !strings.Contains(err.Error(), "--from") {
		t.Errorf("without a lock: %v", err)
	}
	if v, err := fromRelease(dir, "v4.5.14"); err != nil || v.String() != "v4.5.14" {
		t.Errorf("%s, %v", v, err)
	}
	if _, err := fromRelease(dir, "yesterday"); err == nil {
		t.Error("yesterday is a release")
	}
}
