package builds_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds/attest"
)

func TestWhatWasKeptIsNamedAndItsStepsAreNotClaimed(t *testing.T) {
	w := newWorld(t)
	w.build(w.recipe())
	w.write("app/models/account.rb", "class Account\nend\n")
	w.release("v4.5.16", "16")
	w.build(w.recipeOf("v4.5.16"))
	of := func(release string) attest.Internal {
		var s attest.Statement
		readInto(t, filepath.Join(w.layout.Home, "releases", release, ".refit/provenance.json"), &s)
		return s.Predicate.BuildDefinition.InternalParameters
	}
	steps := func(in attest.Internal) (names []string) {
		for _, s := range in.Steps {
			names = append(names, s.Name)
		}
		return names
	}
	first, second := of("v4.5.15"), of("v4.5.16")
	if diff := cmp.Diff([]string{"gems", "bundle", "packages", "yarn", "assets", "focus", "compile", "boot"}, steps(first)); diff != "" || len(first.Kept) > 0 {
		t.Errorf("the first kept %+v and ran:\n%s", first.Kept, diff)
	}
	if diff := cmp.Diff([]string{"assets", "compile", "boot"}, steps(second)); diff != "" {
		t.Error(diff)
	}
	if len(second.Kept) != 3 {
		t.Fatalf("kept %+v", second.Kept)
	}
	for i, want := range []attest.Kept{
		{Name: "bundle", Mirrors: map[string]string{"gems": w.registry.URL}},
		{Name: "packages", Mirrors: map[string]string{"npm": w.registry.URL}},
		{Name: "streaming", Mirrors: map[string]string{"npm": w.registry.URL}},
	} {
		got := second.Kept[i]
		if got.Name != want.Name || got.Release != "v4.5.15" || got.Made.IsZero() || !cmp.Equal(got.Mirrors, want.Mirrors) {
			t.Errorf("%+v", got)
		}
	}
}
