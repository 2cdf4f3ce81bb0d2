package mastodon

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/node"
)

func TestEveryFileOfAManifestIsAskedForAndTheMissingOnesNamed(t *testing.T) {
	a := newApp(t)
	a.answer("/packs/assets/gone-1.js", 404, "")
	l := Layout{Releases: t.TempDir()}
	sum := strings.Repeat("0", 64)
	m := node.Manifest{Format: node.ManifestFormat, Release: "v4.5.15", Files: []node.Entry{
		{Path: "app.rb", SHA256: sum},
		{Path: "public/packs", Dir: true},
		{Path: "public/packs/.vite/manifest.json", SHA256: sum},
		{Path: "public/packs/assets/gone-1.js", SHA256: sum},
		{Path: "public/packs/assets/there-2.js", SHA256: sum},
		{Path: "public/packs/sw.js", SHA256: sum},
	}}
	if _, err := m.Write(l.Release("v4.5.15")); err != nil {
		t.Fatal(err)
	}
	got, err := askPacks(context.Background(), PacksIn{Layout: l, Domain: domain, WebPort: a.in.WebPort, Releases: []string{"v4.5.15"}, Files: []string{"/packs/x-3.js"}}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if got.Asked != 3 || len(got.Failed) != 1 || got.Failed[0].Path != "/packs/assets/gone-1.js" || !strings.Contains(got.Failed[0].Error, "answers 404") {
		t.Errorf("%+v", got)
	}
	if _, err := askPacks(context.Background(), PacksIn{Layout: l, Domain: domain, Releases: []string{"v9"}}, func(string) {}); err == nil {
		t.Error("a missing manifest is no error")
	}
}

func TestAnAbandonedRoundOfPacksIsNoSuccess(t *testing.T) {
	a := newApp(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := askPacks(ctx, PacksIn{Domain: domain, WebPort: a.in.WebPort, Files: []string{"/packs/a.js"}}, func(string) {}); err == nil {
		t.Errorf("no error: %+v", got)
	}
}

func TestHashedFilesAreThoseWithoutAManifestOrAServiceWorker(t *testing.T) {
	files := []string{
		"public/assets/500.html", "public/assets/.manifest.json", "public/assets/.sprockets-manifest-1.json", "public/assets/icon-1.svg",
		"public/packs/.vite/manifest-assets.json", "public/packs/assets/a b-1.js", "public/packs/manifest.json", "public/packs/sw.js", "public/packs/sw.js.map", "public/sw.js",
	}
	var m node.Manifest
	for _, f := range files {
		m.Files = append(m.Files, node.Entry{Path: f})
	}
	if diff := cmp.Diff([]string{"/assets/icon-1.svg", "/packs/assets/a%20b-1.js"}, PackFiles(m)); diff != "" {
		t.Error(diff)
	}
}
