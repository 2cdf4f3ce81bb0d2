package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/lab/standin"
)

// prepareStandin gives a function for lab.Options.Prepare: it assembles the stand-in
// upstream from testdata/mastodon once and keeps the repository in the cache under
// what it is made from. The gems that a release takes from git go where the lab's
// git mirror serves them.
func prepareStandin(cache, files string, tell lab.Say) func(ctx context.Context, ruby, gems string) (string, error) {
	return prepareServing(cache, "", files, tell)
}

// prepareServing is prepareStandin for a mirror that serves the folder git instead
// of the cache's own; empty for that one.
func prepareServing(cache, git, files string, tell lab.Say) func(ctx context.Context, ruby, gems string) (string, error) {
	if cache == "" {
		cache = lab.DefaultCache()
	}
	if git == "" {
		git = filepath.Join(cache, "git")
	}
	return func(ctx context.Context, ruby, gems string) (string, error) {
		// The repositories are made from within other folders.
		cache, cerr := filepath.Abs(cache)
		git, gerr := filepath.Abs(git)
		if err := errors.Join(cerr, gerr); err != nil {
			return "", fmt.Errorf("cannot make the stand-in: %w", err)
		}
		source := filepath.Join(filepath.Dir(files), "mastodon")
		if err := serveGems(ctx, source, git); err != nil {
			return "", err
		}
		key, err := treeKey(source, filepath.Base(gems)+" "+ruby)
		if err != nil {
			return "", fmt.Errorf("cannot read the stand-in: %w", err)
		}
		target := filepath.Join(cache, "standin-"+key+".git")
		if _, err := os.Stat(target); err == nil {
			return target, nil
		}
		began := time.Now()
		if err := standin.AssembleWith(ctx, standin.Options{Source: source, Target: target, Relock: lab.Relock(gems), Repin: lab.Repin(ruby)}); err != nil {
			return "", err
		}
		tell("stand-in: repository assembled in %.1f s", time.Since(began).Seconds())
		return target, nil
	}
}

// serveGems puts the repositories of the gems that the stand-in takes from git into
// the folder that the git mirror serves, as OWNER/NAME.git. They are made anew each
// time: their name says nothing of what they are made from.
func serveGems(ctx context.Context, source, git string) error {
	names, err := standin.Gems(source)
	if err != nil {
		return err
	}
	for _, name := range names {
		target := filepath.Join(git, filepath.FromSlash(name)+".git")
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("cannot serve the gem %s: %w", name, err)
		}
		fresh := target + ".new"
		if err := os.RemoveAll(fresh); err != nil {
			return fmt.Errorf("cannot serve the gem %s: %w", name, err)
		}
		if err := standin.AssembleGem(ctx, source, name, fresh); err != nil {
			return fmt.Errorf("cannot serve the gem %s: %w", name, err)
		}
		if err := os.RemoveAll(target); err != nil {
			return fmt.Errorf("cannot serve the gem %s: %w", name, err)
		}
		if err := os.Rename(fresh, target); err != nil {
			return fmt.Errorf("cannot serve the gem %s: %w", name, err)
		}
	}
	return nil
}

// treeKey names a folder's content together with a word.
func treeKey(dir, word string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, word)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, rel, info.Mode())
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			fmt.Fprintln(h, to)
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h.Write(b)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}
