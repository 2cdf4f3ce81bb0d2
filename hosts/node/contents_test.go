package node

import (
	"encoding/json"
	"strings"
	"testing"
)

var twoFiles = []Entry{{Path: "a", Size: 1, SHA256: strings.Repeat("a", 64)}, {Path: "b", Dir: true}, {Path: "c", Size: 2, SHA256: strings.Repeat("c", 64)}}

func TestContentsThatDoNotFitTheManifestsAreRefused(t *testing.T) {
	base := &baseManifest{Manifest: Manifest{Release: "v1.0.0", Files: append(twoFiles, Entry{Path: "large", Size: maxWindow, SHA256: strings.Repeat("d", 64)})}}
	group := func(files, from []int, times ...int64) packContents {
		return packContents{Groups: []packGroup{{files, from, times}}}
	}
	for what, c := range map[string]packContents{
		"a file that is not there": {Indexes: []int{3}},
		"a negative place":         {Indexes: []int{-1}},
		"a directory":              {Indexes: []int{1}},
		"out of order":             {Indexes: []int{2, 0}},
		"a file twice":             {Indexes: []int{0, 0}},
		"an empty group":           group(nil, []int{0}, 1),
		"no time":                  group([]int{0}, []int{0}),
		"too many times":           group([]int{0}, []int{0}, 1, 2),
		"from a directory":         group([]int{0}, []int{1}, 1),
		"from nowhere":             group([]int{0}, []int{9}, 1),
		"from a negative place":    group([]int{0}, []int{-1}, 1),
		"too much memory":          group([]int{0}, []int{3, 3}, 1),
		"a group out of order":     group([]int{2, 0}, []int{0}, 1),
		"once alone, once grouped": {Indexes: []int{0}, Groups: []packGroup{{[]int{0}, []int{0}, []int64{1}}}},
		"in two groups":            {Groups: []packGroup{{[]int{0}, []int{0}, []int64{1}}, {[]int{0}, []int{0}, []int64{1}}}},
	} {
		if err := c.check(twoFiles, base); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if err := group([]int{0, 2}, []int{0}, 1, 2).check(twoFiles, nil); err == nil {
		t.Error("a group without a base was accepted")
	}
	if err := group([]int{0, 2}, []int{2, 0}, 1, 2).check(twoFiles, base); err != nil {
		t.Error(err)
	}
}

func TestAPatchOfAManifestThatDoesNotFitIsRefused(t *testing.T) {
	from := []byte(`{"format":1,"files":[{"path":"a"},{"path":"b"}]}` + "\n")
	entry := []json.RawMessage{json.RawMessage(`{"path":"c"}`)}
	for what, runs := range map[string][]manifestRun{
		"beyond the end":   {{From: 1, N: 2}},
		"a negative place": {{From: -1, N: 1}},
		"a negative count": {{From: 1, N: -1}},
		"an overflow":      {{From: 1 << 62, N: 1 << 62}},
	} {
		if _, err := (manifestPatch{Head: "h", Runs: runs}).apply(from); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if _, err := (manifestPatch{}).apply([]byte("no manifest")); err == nil {
		t.Error("a patch of no manifest was accepted")
	}
	got, err := manifestPatch{Head: "[", Tail: "!", Runs: []manifestRun{{New: entry}, {From: 1, N: 1}, {From: 0, N: 1, New: entry}}}.apply(from)
	if want := `[{"path":"c"},{"path":"b"},{"path":"a"},{"path":"c"}]!`; err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestAPatchThatGrowsWithoutEndIsRefused(t *testing.T) {
	long := `{"path":"` + strings.Repeat("x", 1<<20) + `"}`
	from := []byte(`{"files":0,"files":[` + long + `]}`)
	var p manifestPatch
	for range 200 {
		p.Runs = append(p.Runs, manifestRun{From: 0, N: 1})
	}
	if b, err := p.apply(from); err == nil {
		t.Errorf("it made %d bytes", len(b))
	}
}

func TestEveryManifestIsReachedFromEveryOther(t *testing.T) {
	manifests := []string{
		`{"format":1,"release":"v1.0.0","files":[]}` + "\n",
		`{"format":1,"release":"v1.0.0","files":[{"path":"a"}]}` + "\n",
		`{"format":1,"release":"v2.0.0","files":[{"path":"a"},{"path":"b\u003c"},{"path":"c"}]}` + "\n",
		`{"format":1,"release":"v3.0.0","files":[{"path":"c"},{"path":"a"},{"path":"d"},{"path":"a"}]}`,
		`{"format":1,"release":"v4.0.0","files":[{"path":"x"},{"path":"y"}],"later":{"files":[1]}}`,
	}
	for _, from := range manifests {
		for _, to := range manifests {
			p, err := diffManifest(Base{Release: "v1.0.0", Digest: "d"}, []byte(from), []byte(to))
			if err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
				continue
			}
			if b, err := applyPatch(p, []byte(from)); err != nil || string(b) != to {
				t.Errorf("%s to %s: got %s, %v", from, to, b, err)
			}
		}
	}
}

func TestAFilesKinIsOfTheSameFormAndNearestInSize(t *testing.T) {
	old := []Entry{
		{Path: "app/a.rb", Size: 10},
		{Path: "public/packs/index-1a2B_c3d.js", Size: 100},
		{Path: "public/packs/index-9x8y7z6w.js", Size: 5000},
		{Path: "public/packs/index-1a2B_c3d.js.map", Size: 300},
		{Path: "vendor/bundle/ruby/3.3.0/gems/rack-3.1.2/lib/rack.rb", Size: 7},
		{Path: "vendor/bundle/ruby/3.3.0/bundler/gems/webpush-9631ac63b0e1/lib/webpush.rb", Size: 7},
		{Path: "public/assets/logo-0123456789abcdef0123456789abcdef.svg", Size: 9},
		{Path: "tmp/cache/x", Size: 5},
		{Path: "config/empty", Size: 0},
		{Path: "lib/facade.rb", Size: 3},
	}
	k := newKin(old, []string{"tmp"})
	for path, want := range map[string]struct {
		size int64
		kin  string
	}{
		"app/a.rb": {10, "app/a.rb"}, "app/b.rb": {10, ""},
		"public/packs/index-Q1-w2_E3.js":                                            {120, "public/packs/index-1a2B_c3d.js"},
		"public/packs/index-aaaaaaaa.js":                                            {4000, "public/packs/index-9x8y7z6w.js"},
		"public/packs/index-Q1w2_E3r.js.map":                                        {120, "public/packs/index-1a2B_c3d.js.map"},
		"public/packs/other-Q1w2_E3r.js":                                            {120, ""},
		"vendor/bundle/ruby/3.4.0/gems/rack-3.2.0/lib/rack.rb":                      {9, "vendor/bundle/ruby/3.3.0/gems/rack-3.1.2/lib/rack.rb"},
		"vendor/bundle/ruby/3.4.0/bundler/gems/webpush-f14a4d52e2aa/lib/webpush.rb": {9, "vendor/bundle/ruby/3.3.0/bundler/gems/webpush-9631ac63b0e1/lib/webpush.rb"},
		"public/assets/logo-fedcba9876543210fedcba9876543210.svg":                   {9, "public/assets/logo-0123456789abcdef0123456789abcdef.svg"},
		"tmp/cache/x":   {5, ""},
		"config/empty":  {5, ""},
		"lib/decade.rb": {3, ""},
	} {
		i, ok := k.of(Entry{Path: path, Size: want.size})
		got := ""
		if ok {
			got = old[i].Path
		}
		if got != want.kin {
			t.Errorf("the kin of %s (%s) is %q, want %q", path, form(path), got, want.kin)
		}
	}
}
