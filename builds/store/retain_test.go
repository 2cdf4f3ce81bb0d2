package store_test

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

// aged is an artifact of so many days, named in one word: "v4.5.1/1".
func aged(name, digest string, days int) store.Artifact {
	a := release(name, "a", digest)
	if strings.HasPrefix(name, "ruby") {
		a.Kind = store.Toolchain
	}
	a.Stored = noon.AddDate(0, 0, -days)
	return a
}

func expired(all []store.Artifact, r store.Rule, inUse ...string) string {
	var out []string
	for _, a := range store.Expired(all, r, func(d string) bool { return slices.Contains(inUse, d[:1]) }, noon) {
		out = append(out, a.Digest[:1])
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

func TestAnArtifactStaysForAnyOneReason(t *testing.T) {
	all := []store.Artifact{aged("v4.5.1", "1", 50), aged("v4.5.2", "2", 40), aged("v4.5.3", "3", 30), aged("v4.5.4", "4", 20), aged("v4.5.5", "5", 10)}
	const days = 24 * time.Hour
	for name, test := range map[string]struct {
		rule  store.Rule
		inUse []string
		want  string
	}{
		"the newest two":                      {store.Rule{Keep: 2}, nil, "123"},
		"young ones":                          {store.Rule{Age: 35 * days}, nil, "12"},
		"either":                              {store.Rule{Keep: 4, Age: 15 * days}, nil, "1"},
		"what a node has, however old":        {store.Rule{Keep: 1}, []string{"1", "3"}, "24"},
		"a rule of nothing, but what is used": {store.Rule{}, []string{"5"}, "1234"},
		"more than there is":                  {store.Rule{Keep: 9}, nil, ""},
		"on the day":                          {store.Rule{Age: 30 * days}, nil, "123"},
	} {
		if got := expired(all, test.rule, test.inUse...); got != test.want {
			t.Errorf("%s: %q go, want %q", name, got, test.want)
		}
	}
}

func TestReleasesOfAnotherSystemAreCountedByThemselves(t *testing.T) {
	old := aged("v4.5.1", "1", 50)
	old.OS = "debian 12"
	arm := aged("v4.5.1", "2", 50)
	arm.Arch = "arm64"
	all := []store.Artifact{old, arm, aged("v4.5.2", "3", 40), aged("v4.5.3", "4", 30)}
	if got := expired(all, store.Rule{Keep: 1}); got != "3" {
		t.Errorf("%q go, want 3", got)
	}
}

func TestAToolchainStaysWithTheReleasesThatNeedIt(t *testing.T) {
	ruby1, ruby2, ruby3 := aged("ruby-3.3.8", "1", 90), aged("ruby-3.4.7", "2", 80), aged("ruby-3.4.8", "3", 1)
	old, now := aged("v4.5.1", "4", 70), aged("v4.5.2", "5", 60)
	old.Needs, now.Needs = []string{ruby1.Digest}, []string{ruby2.Digest}
	all := []store.Artifact{ruby1, ruby2, ruby3, old, now}
	if got := expired(all, store.Rule{Keep: 1, Age: 48 * time.Hour}); got != "14" {
		t.Errorf("%q go, want the old release and its Ruby (14)", got)
	}
	if got := expired(all, store.Rule{Keep: 1}, "4"); got != "3" {
		t.Errorf("%q go: a release that a node has keeps its Ruby", got)
	}
	// Toolchains do not count among the newest releases.
	if got := expired([]store.Artifact{ruby3, old, now}, store.Rule{Keep: 2, Age: 48 * time.Hour}); got != "" {
		t.Errorf("%q go", got)
	}
}

func TestPruningRemovesWhatTheRuleDoesNotKeepAndOldStrays(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		now := time.Now().AddDate(0, 0, -100)
		s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
		for _, d := range []string{"1", "2", "3"} {
			now = now.AddDate(0, 0, 1)
			stored(t, s, release("v4.5."+d, "a", d), "pack "+d)
		}
		put(t, b, path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), hex64("9"), store.ManifestObject), "half")
		out, err := s.Prune(t.Context(), store.Rule{Keep: 1}, func(d string) bool { return d == hex64("1") })
		if err != nil || len(out.Artifacts) != 1 || out.Artifacts[0].Name != "v4.5.2" || out.Strays != 0 {
			t.Errorf("removed %+v, %v", out, err)
		}
		now = time.Now().Add(48 * time.Hour)
		out, err = s.Prune(t.Context(), store.Rule{Keep: 1}, func(d string) bool { return d == hex64("1") })
		if err != nil || len(out.Artifacts) != 0 || out.Strays != 1 || out.Bytes != 4 {
			t.Errorf("then removed %+v, %v", out, err)
		}
		list, err := s.List(t.Context())
		if err != nil || len(list.Artifacts) != 2 || len(list.Strays) != 0 {
			t.Errorf("left %+v, %v", list, err)
		}
	})
}

func TestPruningGoesOnAfterAnErrorAndTellsWhatWent(t *testing.T) {
	d := store.Dir{Path: t.TempDir()}
	s := &store.Store{Bucket: d, Now: func() time.Time { return noon }}
	for _, x := range []string{"1", "2"} {
		stored(t, s, release("v4.5."+x, "a", x), "pack "+x)
	}
	s.Bucket = &failing{Bucket: d, left: 1} // the list succeeds, the first removal fails
	out, err := s.Prune(t.Context(), store.Rule{}, func(string) bool { return false })
	if err == nil || len(out.Artifacts) != 1 {
		t.Errorf("removed %+v, %v", out, err)
	}
}
