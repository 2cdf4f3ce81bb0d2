package standin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// setVersion writes a release's numbers into its lib/mastodon/version.rb, so that
// no overlay has to hold that file: major, minor and patch are methods whose
// bodies are one number each.
func setVersion(file string, numbers [3]string) error {
	source, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot set the version: %w", err)
	}
	for i, method := range [3]string{"major", "minor", "patch"} {
		body := regexp.MustCompile(`(def ` + method + `\n\s+)\d+\n`)
		if !body.Match(source) {
			return fmt.Errorf("cannot set the version: %s has no method %s that is one number", file, method)
		}
		source = body.ReplaceAll(source, []byte("${1}"+numbers[i]+"\n"))
	}
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return fmt.Errorf("cannot set the version: %w", err)
	}
	return nil
}

// lockKey is what a lock file follows from.
type lockKey struct{ gemfile, lock [sha256.Size]byte }

// rubyLine is the Gemfile's demand on Ruby. It decides nothing about the gems, and
// the machine that locks need not meet it.
var rubyLine = regexp.MustCompile(`(?m)^ruby .*$`)

func newLockKey(gemfile, lock []byte) lockKey {
	return lockKey{sha256.Sum256(rubyLine.ReplaceAll(gemfile, nil)), sha256.Sum256(lock)}
}

// relock replaces a tree's Gemfile.lock by what Options.Relock makes of it.
func (a *assembler) relock(ctx context.Context, tree string) error {
	if a.options.Relock == nil {
		return nil
	}
	file := filepath.Join(tree, "Gemfile.lock")
	gemfile, err := os.ReadFile(filepath.Join(tree, "Gemfile"))
	if err != nil {
		return fmt.Errorf("cannot lock the gems: %w", err)
	}
	lock, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot lock the gems: %w", err)
	}
	key := newLockKey(gemfile, lock)
	if made, ok := a.locks[key]; ok {
		return os.WriteFile(file, made, 0o644)
	}
	if err := a.options.Relock(ctx, tree); err != nil {
		return fmt.Errorf("cannot lock the gems: %w", err)
	}
	made, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot lock the gems: %w", err)
	}
	a.locks[key] = made
	// What a later release inherits is not made yet another time.
	a.locks[newLockKey(gemfile, made)] = made
	return nil
}
