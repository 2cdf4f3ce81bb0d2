package git_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/hoststest"
)

func TestATagComesOverSSHFromAKnownHostAlone(t *testing.T) {
	u := awkward(t)
	s := hoststest.NewServer(t)
	other := hoststest.NewServer(t) // for a key and a known host that are not s's
	empty := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	url := func(path string) string { return fmt.Sprintf("ssh://git@127.0.0.1:%d%s", s.Port, path) }

	m := open(t, git.Options{URL: url(u.dir), KnownHosts: s.KnownHosts, KeyFile: s.KeyFile})
	tag, err := m.Tag(t.Context(), "v4.5.14")
	if err != nil || tag.Tree != u.git("rev-parse", "v4.5.14^{tree}") {
		t.Fatalf("%+v %v", tag, err)
	}
	if _, err := m.Checkout(t.Context(), tag, t.TempDir()); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		opts git.Options
		want error
	}{
		"a host that is not known": {git.Options{URL: url(u.dir), KnownHosts: empty, KeyFile: s.KeyFile}, git.ErrHostKey},
		"a key that is not taken":  {git.Options{URL: url(u.dir), KnownHosts: s.KnownHosts, KeyFile: other.KeyFile}, git.ErrAuth},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := open(t, c.opts).Tag(t.Context(), "v4.5.14"); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := git.Open(git.Options{URL: url(u.dir), Dir: t.TempDir(), KnownHosts: s.KnownHosts, KeyFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, git.ErrAuth) {
		t.Errorf("a key file that is not there gave %v", err)
	}
	if _, err := open(t, git.Options{URL: url("/nowhere.git"), KnownHosts: s.KnownHosts, KeyFile: s.KeyFile}).Tags(t.Context()); err == nil || errors.Is(err, git.ErrHostKey) || errors.Is(err, git.ErrAuth) {
		t.Errorf("a repository that is not there gave %v", err)
	}
}

func TestAGitServerIsHeldToItsKnownKey(t *testing.T) {
	u := awkward(t)
	s := hoststest.NewServer(t)
	line, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	revoked := filepath.Join(t.TempDir(), "revoked")
	if err := os.WriteFile(revoked, append(line, []byte("@revoked * "+strings.SplitN(string(line), " ", 2)[1])...), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := func(known string) error {
		_, err := open(t, git.Options{URL: fmt.Sprintf("ssh://git@127.0.0.1:%d%s", s.Port, u.dir), KnownHosts: known, KeyFile: s.KeyFile}).Tag(t.Context(), "v4.5.14")
		return err
	}
	if err := fetch(s.KnownHosts); err != nil {
		t.Fatal(err)
	}
	if err := fetch(revoked); !errors.Is(err, git.ErrHostKey) || !strings.Contains(err.Error(), revoked+":2") {
		t.Errorf("a revoked key gave %v", err)
	}
	s.ChangeHostKey()
	if err := fetch(s.KnownHosts); !errors.Is(err, git.ErrHostKey) || !strings.Contains(err.Error(), s.KnownHosts+":1") {
		t.Errorf("a changed key gave %v", err)
	}
	s.ChangeHostKeyType()
	if err := fetch(s.KnownHosts); !errors.Is(err, git.ErrHostKey) || !strings.Contains(err.Error(), s.KnownHosts) {
		t.Errorf("a key of another type gave %v", err)
	}
}

func TestAFrozenSSHHostEndsTheFetch(t *testing.T) {
	u := awkward(t)
	s := hoststest.NewServer(t)
	s.Freeze()
	o := git.Options{URL: fmt.Sprintf("ssh://git@127.0.0.1:%d%s", s.Port, u.dir), KnownHosts: s.KnownHosts, KeyFile: s.KeyFile}
	short := o
	short.Silence = 200 * time.Millisecond
	if _, err := open(t, short).Tag(t.Context(), "v4.5.14"); !errors.Is(err, git.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	s.Thaw()
	if _, err := open(t, o).Tag(t.Context(), "v4.5.14"); err != nil {
		t.Errorf("thawed: %v", err)
	}
}
