package standin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab/standin"
)

func TestAGemFromGitHasTheCommitThatTheLockFileNames(t *testing.T) {
	gems, err := standin.Gems(source)
	if err != nil {
		t.Fatal(err)
	}
	if len(gems) != 1 {
		t.Fatalf("gems %v, want one", gems)
	}
	lock, err := os.ReadFile(filepath.Join(source, "tags/v4.6.6/Gemfile.lock"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range gems {
		repo := filepath.Join(t.TempDir(), "gem.git")
		if err := standin.AssembleGem(context.Background(), source, name, repo); err != nil {
			t.Fatal(err)
		}
		commit := git(t, repo, "rev-parse", "main")
		want := "remote: https://github.com/" + name + ".git\n  revision: " + commit + "\n"
		if !strings.Contains(string(lock), want) {
			t.Errorf("Gemfile.lock of v4.6.6 does not hold %q", want)
		}
		if err := standin.AssembleGem(context.Background(), source, name, repo); !errors.Is(err, standin.ErrTargetExists) {
			t.Errorf("making it again: error %v, want %v", err, standin.ErrTargetExists)
		}
	}
}

func TestAGemThatIsNotThereIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := standin.AssembleGem(context.Background(), source, "nobody/nothing", filepath.Join(dir, "gem.git")); err == nil {
		t.Error("no error")
	}
}
