package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
// what it is made from.
func prepareStandin(cache, files string, tell lab.Say) func(ctx context.Context, image, gems string) (string, error) {
	return func(ctx context.Context, _, gems string) (string, error) {
		if cache == "" {
			cache = lab.DefaultCache()
		}
		source := filepath.Join(filepath.Dir(files), "mastodon")
		key, err := treeKey(source, filepath.Base(gems))
		if err != nil {
			return "", fmt.Errorf("cannot read the stand-in: %w", err)
		}
		target := filepath.Join(cache, "standin-"+key+".git")
		if _, err := os.Stat(target); err == nil {
			return target, nil
		}
		began := time.Now()
		if err := standin.AssembleWith(ctx, standin.Options{Source: source, Target: target, Relock: lab.Relock(gems)}); err != nil {
			return "", err
		}
		tell("stand-in: repository assembled in %.1f s", time.Since(began).Seconds())
		return target, nil
	}
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
