package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lay puts in their places what the contenders need: their files, the key, refit.yml,
// and on the hosts the scripts that they call. The hosts' disks are written from
// below, so that it costs no connection.
func (b *bench) lay() error {
	copies := map[string]string{
		b.Lab.AdminKeyFile(): "keys/admin", b.Lab.KnownHosts(): "keys/known_hosts",
	}
	for _, tool := range []string{Hand, Capistrano, Ansible} {
		dir := filepath.Join(b.Files, tool)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, rerr := filepath.Rel(b.Files, path)
				copies[path], err = rel, rerr
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot read the files of %s: %w", tool, err)
		}
	}
	for from, to := range copies {
		if err := copyFile(from, filepath.Join(b.Dir, to)); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(b.Lab.Config())
	if err != nil {
		return fmt.Errorf("cannot read the lab's refit.yml: %w", err)
	}
	config, err := zeroHolds(string(text))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "refit.yml"), []byte(config), 0o644); err != nil {
		return fmt.Errorf("cannot write refit.yml: %w", err)
	}
	return b.layHosts()
}

func (b *bench) layHosts() error {
	scripts, err := filepath.Glob(filepath.Join(b.Files, "hosts", "*"))
	if err == nil && len(scripts) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return fmt.Errorf("cannot find the hosts' scripts in %s: %w", b.Files, err)
	}
	for _, m := range append(b.fleet.nodes(), b.fleet.proxies...) {
		to := filepath.Join(b.Lab.Root(m.Name), helpers)
		for _, s := range scripts {
			if err := copyFile(s, filepath.Join(to, filepath.Base(s))); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(to, "host.env"), []byte(b.fleet.hostEnv(m, b.Lab.Database)), 0o644); err != nil {
			return fmt.Errorf("cannot write host.env on %s: %w", m.Name, err)
		}
	}
	return nil
}

// copyFile copies a file with its mode, making the folders above it.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("cannot copy: %w", err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot copy: %w", err)
	}
	err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode().Perm()), os.Chmod(to, info.Mode().Perm()))
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", from, err)
	}
	return nil
}
