package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
)

// clone opens the repository of a test as a clone, and names the commits of its tags.
func clone(t *testing.T, url string) (*upstream.Source, func(tag string) string) {
	t.Helper()
	dir := strings.TrimPrefix(url, "file://")
	c, err := upstream.OpenClone(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.Source, func(ref string) string {
		out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "rev-parse", ref).Output()
		if err != nil {
			t.Fatalf("git rev-parse %s: %v", ref, err)
		}
		return strings.TrimSpace(string(out))
	}
}

func commits(t *testing.T, text string) upstream.Commits {
	t.Helper()
	c, err := upstream.ReadCommits(strings.NewReader(text), "commits.txt")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACloneIsUnderstoodByItsTagsAndByNamedCommits(t *testing.T) {
	source, rev := clone(t, repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10"))
	from, to := parse(t, "v4.5.9"), parse(t, "v4.5.10")
	byTag, err := upstream.Reader{Dir: t.TempDir()}.Understand(t.Context(), source, from, to)
	if err != nil || byTag.Changes.Files != 1 || !byTag.MigrationFree || byTag.To.Tag.Commit != rev("v4.5.10^{commit}") {
		t.Fatalf("%+v (%v)", byTag, err)
	}
	named := source.Named(commits(t, fmt.Sprintf("# made by hand\n\nv4.5.9 %s\nv4.5.10 %s %s\n", rev("v4.5.9^{commit}"), rev("v4.5.10^{commit}"), rev("v4.5.10^{tree}"))))
	byCommit, err := upstream.Reader{Dir: t.TempDir()}.Understand(t.Context(), named, from, to)
	if err != nil || byCommit.To.Tag.Tree != byTag.To.Tag.Tree || byCommit.Changes.Files != 1 {
		t.Errorf("%+v (%v)", byCommit, err)
	}
	tags, err := named.Tags(t.Context())
	if err != nil || len(tags) != 2 || tags[0].Compare(to) != 0 {
		t.Errorf("%v (%v)", tags, err)
	}
}

func TestNamedCommitsThatAreNotWhatTheySayAreRefused(t *testing.T) {
	source, rev := clone(t, repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10"))
	good := "v4.5.9 " + rev("v4.5.9^{commit}") + "\n"
	for name, c := range map[string]struct{ line, says string }{
		"another tree":         {"v4.5.10 " + rev("v4.5.10^{commit}") + " " + rev("v4.5.9^{tree}"), "one of the two is not what it says"},
		"another version":      {"v4.5.11 " + rev("v4.5.10^{commit}"), "holds version v4.5.10"},
		"a commit not there":   {"v4.5.10 " + strings.Repeat("ab", 20), "fetch it into the clone"},
		"not named":            {"v4.5.12 " + rev("v4.5.10^{commit}"), "names no commit for"},
		"a tree and no commit": {"v4.5.10 " + rev("v4.5.10^{tree}"), "has no commit"},
	} {
		to := parse(t, strings.Fields(c.line)[0])
		if name == "not named" {
			to = parse(t, "v4.5.10")
		}
		_, err := upstream.Reader{Dir: t.TempDir()}.Understand(t.Context(), source.Named(commits(t, good+c.line)), parse(t, "v4.5.9"), to)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := upstream.OpenClone(t.TempDir()); !errors.Is(err, git.ErrNoClone) {
		t.Errorf("got %v", err)
	}
}

func TestAFileOfCommitsThatCannotBeReadSaysWhere(t *testing.T) {
	hash := strings.Repeat("ab", 20)
	for text, says := range map[string]string{
		"":                                         "names no commit",
		"# nothing\n":                              "names no commit",
		"latest " + hash:                           "line 1 of commits.txt",
		"\nv4.5.9":                                 "line 2 of commits.txt",
		"v4.5.9 abcdef":                            "no whole hash",
		"v4.5.9 " + strings.ToUpper(hash):          "no whole hash",
		"v4.5.9 " + hash + " tree":                 "no whole hash",
		"v4.5.9 " + hash + " " + hash + " x":       "is no \"version commit\" line",
		"v4.5.9 " + hash + "\nv4.5.9 " + hash:      "a second time",
		"v4.5.9 " + hash + "\n4.5.9 " + hash:       "a second time",
		"v4.5.9 " + strings.Repeat("ab", 1<<16*20): "cannot read",
	} {
		if _, err := upstream.ReadCommits(strings.NewReader(text), "commits.txt"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q gave %v, want %q", text, err, says)
		}
	}
}

func TestWhatWasReadOnceIsNotReadAgain(t *testing.T) {
	url := repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10")
	source, rev := clone(t, url)
	named := source.Named(commits(t, "v4.5.9 "+rev("v4.5.9^{commit}")+"\nv4.5.10 "+rev("v4.5.10^{commit}")+"\n"))
	from, to := parse(t, "v4.5.9"), parse(t, "v4.5.10")
	dir := filepath.Join(t.TempDir(), "made", "when", "needed")
	first, err := upstream.Reader{Dir: dir}.Understand(t.Context(), named, from, to)
	if err != nil {
		t.Fatal(err)
	}
	// Without the objects only what was kept can answer.
	objects := filepath.Join(strings.TrimPrefix(url, "file://"), ".git", "objects")
	if err := os.Rename(objects, objects+".away"); err != nil {
		t.Fatal(err)
	}
	again, err := upstream.Reader{Dir: dir}.Understand(t.Context(), named, from, to)
	if err != nil || asJSON(t, again) != asJSON(t, first) {
		t.Errorf("what is kept is not what was read (%v)", err)
	}
	// The other way round is another question.
	if _, err := (upstream.Reader{Dir: dir}).Understand(t.Context(), named, to, from); err == nil {
		t.Error("the way back was answered by the way there")
	}
	if err := os.Rename(objects+".away", objects); err != nil {
		t.Fatal(err)
	}

	// What was kept and is spoilt is read again, and said.
	kept, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v (%v)", kept, err)
	}
	if err := os.WriteFile(kept[0], []byte(`{"from":`), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	mended, err := upstream.Reader{Dir: dir, Say: say}.Understand(t.Context(), named, from, to)
	if err != nil || asJSON(t, mended) != asJSON(t, first) || len(said) != 1 || !strings.Contains(said[0], "read again") {
		t.Errorf("%q (%v)", said, err)
	}
}

// A server lists all of its references for each question.
func TestEachReleaseIsAskedForOnceWhetherItWasReadBeforeOrNot(t *testing.T) {
	source, _ := clone(t, repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10"))
	times, _ := source.Counted()
	reader := upstream.Reader{Dir: t.TempDir()}
	for _, how := range []string{"read", "kept"} {
		*times = 0
		if _, err := reader.Understand(t.Context(), source, parse(t, "v4.5.9"), parse(t, "v4.5.10")); err != nil || *times != 2 {
			t.Errorf("%s: asked %d times (%v)", how, *times, err)
		}
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	source, _ := clone(t, repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10"))
	_, files := source.Counted()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (upstream.Reader{Dir: t.TempDir()}).Understand(ctx, source, parse(t, "v4.5.9"), parse(t, "v4.5.10")); !errors.Is(err, context.Canceled) || *files > 0 {
		t.Errorf("%d files were read (%v)", *files, err)
	}
}

func TestAPlaceThatCannotBeWrittenCostsTimeNotThePlan(t *testing.T) {
	source, _ := clone(t, repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10"))
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	u, err := upstream.Reader{Dir: filepath.Join(file, "below"), Say: say}.Understand(t.Context(), source, parse(t, "v4.5.9"), parse(t, "v4.5.10"))
	if err != nil || u.Changes.Files != 1 || !strings.Contains(strings.Join(said, "\n"), "not kept") {
		t.Errorf("%q (%v)", said, err)
	}
}

func TestAFetchedRepositoryIsUnderstoodAsAClone(t *testing.T) {
	url := repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10")
	here, _ := clone(t, url)
	fetched, err := upstream.Open(git.Options{URL: url, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, source := range []*upstream.Source{here, fetched} {
		u, err := upstream.Reader{Dir: t.TempDir()}.Understand(t.Context(), source, parse(t, "v4.5.9"), parse(t, "v4.5.10"))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, asJSON(t, u))
	}
	if got[0] != got[1] {
		t.Errorf("%s\n%s", got[0], got[1])
	}
}
