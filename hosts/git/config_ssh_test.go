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
	if err := c.MayPush(t.Context()); err != nil {
		t.Errorf("asked whether it may be pushed to: %v", err)
	}
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
	if err := os.WriteFile(filepath.Join(o.dir, "config"), []byte("this is no config of git's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.MayPush(t.Context()); err == nil {
		t.Error("a repository that cannot be pushed to may be")
	}
	if _, err := clone(t, url, way(other.KnownHosts, s.KeyFile)).Fetch(t.Context()); !errors.Is(err, git.ErrHostKey) {
		t.Errorf("a host that is not known: %v", err)
	}
	if _, err := clone(t, url, way(s.KnownHosts, other.KeyFile)).Fetch(t.Context()); !errors.Is(err, git.ErrAuth) {
		t.Errorf("a key that is not taken: %v", err)
	}
}

// The words are GitHub's, for a deploy key without write access.
func TestAKeyThatMayOnlyReadIsFoundOut(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	bin := t.TempDir()
	script := "#!/bin/sh\necho 'ERROR: The key you are authenticating with has been marked as read only.' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "git-receive-pack"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	s := hoststest.NewServer(t)
	c := clone(t, fmt.Sprintf("ssh://git@127.0.0.1:%d%s", s.Port, o.dir), func(opts *git.ConfigOptions) {
		opts.KnownHosts, opts.Key = s.KnownHosts, s.KeyFile
	})
	fetch(t, c)
	if err := c.MayPush(t.Context()); !errors.Is(err, git.ErrAuth) {
		t.Error(err)
	}
}
