package standin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// gemDate is the day of a gem's only commit.
const gemDate = "2026-01-15"

// Gems names the repositories of gems that a Gemfile takes from git, each as
// OWNER/NAME: what follows the host in the Gemfile's address. src is
// testdata/mastodon.
func Gems(src string) ([]string, error) {
	owners, err := os.ReadDir(filepath.Join(src, "gems"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the gems taken from git: %w", err)
	}
	var names []string
	for _, owner := range owners {
		gems, err := os.ReadDir(filepath.Join(src, "gems", owner.Name()))
		if err != nil {
			return nil, fmt.Errorf("cannot list the gems taken from git: %w", err)
		}
		for _, gem := range gems {
			names = append(names, owner.Name()+"/"+gem.Name())
		}
	}
	return names, nil
}

// AssembleGem makes the bare git repository dst of the gem OWNER/NAME: one commit,
// the one that Gemfile.lock names. Nothing may be at dst yet; its folder is there.
func AssembleGem(ctx context.Context, src, name, dst string) error {
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("cannot make the repository %s: %w", dst, ErrTargetExists)
	}
	work, err := os.MkdirTemp(filepath.Dir(dst), ".standin-")
	if err != nil {
		return fmt.Errorf("cannot make the repository %s: %w", dst, err)
	}
	err = gem(ctx, filepath.Join(src, "gems", filepath.FromSlash(name)), work, dst)
	if gone := os.RemoveAll(work); err == nil && gone != nil {
		err = fmt.Errorf("cannot remove %s: %w", work, gone)
	}
	return err
}

func gem(ctx context.Context, from, work, dst string) error {
	tree, repo := filepath.Join(work, "tree"), repository{dir: filepath.Join(work, "git")}
	if err := overlay(from, tree); err != nil {
		return fmt.Errorf("cannot read the gem: %w", err)
	}
	if err := repo.create(ctx); err != nil {
		return err
	}
	commit, err := repo.commit(ctx, tree, Tag{Name: "v1.0.0", Date: gemDate, About: "the only release"}, "")
	if err != nil {
		return err
	}
	if err := repo.finish(ctx, commit); err != nil {
		return err
	}
	if err := os.Rename(repo.dir, dst); err != nil {
		return fmt.Errorf("cannot make the repository %s: %w", dst, err)
	}
	return nil
}
