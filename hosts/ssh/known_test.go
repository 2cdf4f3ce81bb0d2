package ssh_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

func TestKnownHostsAreReadOnceAndAgainWhenTheyChange(t *testing.T) {
	first, second := hoststest.NewServer(t), hoststest.NewServer(t)
	read := func(s *hoststest.Server) []byte {
		t.Helper()
		b, err := os.ReadFile(s.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, read(first), 0o600); err != nil {
		t.Fatal(err)
	}
	known := ssh.NewKnown(file)
	run := func(s *hoststest.Server) error {
		c := ssh.New(ssh.Options{Name: "kirk", Address: "127.0.0.1", Port: s.Port, User: "refit", KeyFile: s.KeyFile, KnownHosts: []string{file}, Known: known})
		return errors.Join(c.Run(t.Context(), sh("true"), nil), c.Close())
	}
	for range 2 {
		if err := run(first); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(second); !errors.Is(err, ssh.ErrHostKey) {
		t.Errorf("a host that is not known: %v", err)
	}
	if err := os.WriteFile(file, append(read(first), read(second)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*hoststest.Server{first, second} {
		if err := run(s); err != nil {
			t.Errorf("after its line was added: %v", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := run(first); !errors.Is(err, ssh.ErrHostKey) {
		t.Errorf("without the file: %v", err)
	}
}

func TestAHostThatWasHungUpOnIsReachedAgain(t *testing.T) {
	s := hoststest.NewServer(t)
	c := ssh.New(ssh.Options{
		Name: "kirk", Address: "127.0.0.1", Port: s.Port, User: "refit", KeyFile: s.KeyFile, KnownHosts: []string{s.KnownHosts},
		Retry: ssh.Retry{First: 1, Longest: 1},
	})
	if err := c.HangUp(); err != nil {
		t.Errorf("before there was a connection: %v", err)
	}
	for range 2 {
		if err := c.Run(t.Context(), sh("true"), nil); err != nil {
			t.Fatal(err)
		}
		if err := c.HangUp(); err != nil {
			t.Error(err)
		}
	}
	if s.Accepted() != 2 {
		t.Errorf("%d connections", s.Accepted())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Run(t.Context(), sh("true"), nil); err == nil {
		t.Error("a closed connection was opened again")
	}
}
