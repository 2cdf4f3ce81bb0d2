package attest

import (
	"encoding/json"
	"strings"
	"testing"
)

func aStatement() Statement {
	return NewStatement("v4.5.15", strings.Repeat("0a", 32), Provenance{BuildDefinition: BuildDefinition{ResolvedDependencies: []Resource{
		{Name: "ruby"}, {Name: "source", Digest: map[string]string{"gitCommit": "c1", "gitTree": "t1"}},
	}}})
}

func TestAStatementOfAnotherReleaseSourceOrKindIsTold(t *testing.T) {
	check := func(s Statement) error { return s.Check("v4.5.15", strings.Repeat("0a", 32), "c1", "t1") }
	if err := check(aStatement()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*Statement)
		want  string
	}{
		"another kind":       {func(s *Statement) { s.PredicateType = "https://slsa.dev/provenance/v0.2" }, "no statement of a build"},
		"another format":     {func(s *Statement) { s.Type = "https://in-toto.io/Statement/v0.1" }, "no statement of a build"},
		"another's build":    {func(s *Statement) { s.Predicate.BuildDefinition.BuildType = "x" }, "no statement of a build"},
		"another release":    {func(s *Statement) { s.Subject[0].Name = "v4.5.14" }, "not of v4.5.15"},
		"two releases":       {func(s *Statement) { s.Subject = append(s.Subject, s.Subject[0]) }, "not of v4.5.15"},
		"no release":         {func(s *Statement) { s.Subject = nil }, "not of v4.5.15"},
		"other files":        {func(s *Statement) { s.Subject[0].Digest["dirHash"] = "0b" }, "other files"},
		"files without hash": {func(s *Statement) { s.Subject[0].Digest = nil }, "other files"},
		"another commit":     {func(s *Statement) { s.Predicate.BuildDefinition.ResolvedDependencies[1].Digest["gitCommit"] = "c2" }, "another source"},
		"another tree":       {func(s *Statement) { s.Predicate.BuildDefinition.ResolvedDependencies[1].Digest["gitTree"] = "t2" }, "another source"},
		"no source":          {func(s *Statement) { s.Predicate.BuildDefinition.ResolvedDependencies = nil }, "another source"},
	} {
		s := aStatement()
		c.spoil(&s)
		if err := check(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, wanted %q", name, err, c.want)
		}
	}
}

func TestAStatementSaysWhatTheFrameworksAskFor(t *testing.T) {
	b, err := json.Marshal(aStatement())
	if err != nil {
		t.Fatal(err)
	}
	// The required fields, by the specifications of both (in-toto Statement v1, SLSA v1).
	for _, field := range []string{
		`"_type":"https://in-toto.io/Statement/v1"`, `"subject":[{`, `"digest":{"dirHash":`, `"predicateType":"https://slsa.dev/provenance/v1"`, `"predicate":{`,
		`"buildDefinition":{"buildType":"https://vmst.io/refit/builds/v1"`, `"externalParameters":{`, `"runDetails":{"builder":{"id":`,
	} {
		if !strings.Contains(string(b), field) {
			t.Errorf("%s is missing in %s", field, b)
		}
	}
}

func TestAPackageURLIsWrittenByItsRules(t *testing.T) {
	for want, got := range map[string]string{
		"pkg:npm/%40scope/a.b@1.0.0-rc.1%2Bx":                             purl("npm", "@scope/a.b", "1.0.0-rc.1+x"),
		"pkg:gem/a~b_c?platform=java":                                     purl("gem", "a~b_c", "", [2]string{"none", ""}, [2]string{"platform", "java"}),
		"pkg:generic/a%20b@1?x=1&y=%C3%A9":                                purl("generic", "a b", "1", [2]string{"x", "1"}, [2]string{"y", "é"}),
		"pkg:github/mastodon/mastodon@v4":                                 sourcePurl("https://github.com/Mastodon/mastodon.git", "v4"),
		"pkg:generic/mastodon@v4?vcs_url=git%2Bhttp:%2F%2Fmirror%2Fm.git": sourcePurl("http://mirror/m.git", "v4"),
	} {
		if got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
