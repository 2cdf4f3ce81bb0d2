package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Relock gives a function that brings a release's Gemfile.lock in line with the
// versions that a gem registry has. Debian's security updates move them, and a
// frozen install takes no other than those locked.
func Relock(registry string) func(ctx context.Context, dir string) error {
	return func(ctx context.Context, dir string) error {
		have, err := gemVersions(filepath.Join(registry, "versions"))
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "Gemfile.lock")
		lock, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("cannot relock: %w", err)
		}
		now := relock(lock, have)
		if bytes.Equal(lock, now) {
			return ctx.Err()
		}
		if err := os.WriteFile(path, now, 0o644); err != nil {
			return fmt.Errorf("cannot relock: %w", err)
		}
		return ctx.Err()
	}
}

// gemVersions reads a compact index's list: name, version, sum.
func gemVersions(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the gem registry: %w", err)
	}
	defer f.Close()
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) == 3 {
			out[w[0]] = w[1]
		}
	}
	return out, lines.Err()
}

// lockedGem is a line of a lock file: a gem with its version (four blanks), or what
// a gem needs exactly (six blanks, "= ").
var lockedGem = regexp.MustCompile(`(?m)^( {4}| {6})([\w.-]+) \((= )?([0-9][\w.]*)\)$`)

func relock(lock []byte, have map[string]string) []byte {
	return lockedGem.ReplaceAllFunc(lock, func(line []byte) []byte {
		m := lockedGem.FindSubmatch(line)
		indent, name, exact := string(m[1]), string(m[2]), string(m[3])
		version, ok := have[name]
		if !ok || (len(indent) == 6) != (exact != "") {
			return line
		}
		return fmt.Appendf(nil, "%s%s (%s%s)", indent, name, exact, version)
	})
}
