package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/node"
)

// sudoersFile is where refit's right stands on a host.
const sudoersFile = "/etc/sudoers.d/refit"

// trust gives refit its right on the hosts as docs/adopt.md recommends: root puts this
// program there, in a folder of root's, and sudo allows it and nothing else.
func trust(ctx context.Context, l *lab.Lab, program string) error {
	sudoers, err := exec.CommandContext(ctx, program, "example", "--sudoers").Output()
	if err != nil {
		return fmt.Errorf("cannot ask %s for its sudoers file: %w", program, err)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("cannot read refit: %w", err)
	}
	agent, _, err := node.AgentPath(bytes.NewReader(b))
	if err != nil {
		return err
	}
	for _, m := range lab.Machines() {
		if !m.Managed {
			continue
		}
		bin := filepath.Join(l.Root(m.Name), node.BinDir)
		if err := os.MkdirAll(bin, 0o755); err != nil {
			return fmt.Errorf("cannot put refit on %s: %w", m.Name, err)
		}
		if err := os.Chown(bin, 0, 0); err != nil {
			return fmt.Errorf("cannot put refit on %s: %w", m.Name, err)
		}
		if err := install(l, m.Name, agent, b, 0o755); err != nil {
			return err
		}
		if err := install(l, m.Name, sudoersFile, sudoers, 0o440); err != nil {
			return err
		}
	}
	return nil
}

// install writes a file of root's on a host whole, from below, so that it needs no
// right of anybody there.
func install(l *lab.Lab, host, path string, b []byte, mode os.FileMode) error {
	to := filepath.Join(l.Root(host), path)
	temp := filepath.Join(filepath.Dir(to), ".lab-"+filepath.Base(to)) // sudo passes over names with a dot
	err := os.WriteFile(temp, b, mode)
	if err == nil {
		err = os.Chmod(temp, mode)
	}
	if err == nil {
		err = os.Rename(temp, to)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s on %s: %w", path, host, err)
	}
	return nil
}
