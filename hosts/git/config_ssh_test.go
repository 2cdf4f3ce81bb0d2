package git_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/hoststest"
)

func TestTheConfigRepositoryIsPushedToOverSSH(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	s, other := hoststest.NewServer(t), hoststest.NewServer(t)
	url := fmt.Sprintf("ssh://git@127.0.0.1:%d%s", s.Port, o.dir)
	way := func(known, key string) func(*git.ConfigOptions) {
		return func(opts *git.ConfigOptions) { opts.KnownHosts, opts.Key = known, key }
	}
	c := clone(t, url, way(s.KnownHosts, s.KeyFile))
	base := fetch(t, c)
	mine := commit(t, c, base, "rendered/x", "1")
	if err := c.Push(t.Context(), mine, base); err != nil || o.head() != mine {
		t.Fatalf("pushed: %v", err)
	}
	next := commit(t, c, mine, "rendered/x", "2")
	theirs := o.person("main", "a", "2")
	if err := c.Push(t.Context(), next, mine); !errors.Is(err, git.ErrMoved) || o.head() != theirs {
		t.Fatalf("pushed over a moved branch: %v", err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "hooks", "update"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	base = fetch(t, c)
	if err := c.Push(t.Context(), commit(t, c, base, "rendered/x", "3"), base); !errors.Is(err, git.ErrRejected) {
		t.Errorf("a protected branch: %v", err)
	}
	if _, err := clone(t, url, way(other.KnownHosts, s.KeyFile)).Fetch(t.Context()); !errors.Is(err, git.ErrHostKey) {
		t.Errorf("a host that is not known: %v", err)
	}
	if _, err := clone(t, url, way(s.KnownHosts, other.KeyFile)).Fetch(t.Context()); !errors.Is(err, git.ErrAuth) {
		t.Errorf("a key that is not taken: %v", err)
	}
}
