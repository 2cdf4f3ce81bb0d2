package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unitPaths are where system services' files lie (systemd.unit(5)), the most precise first.
var unitPaths = []string{unitsDir, "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// beside finds what starts Mastodon's code by itself and asks no permit: services of
// the user under other names, its lines in cron's tables, its own systemd.
func (m Machine) beside(ctx context.Context, in PermitIn) ([]string, error) {
	user, base := cmp.Or(in.User, "mastodon"), home(in.Home)
	units, err := m.unitsOf(user, base)
	if err != nil {
		return nil, err
	}
	units = slices.DeleteFunc(units, func(u string) bool { return slices.Contains(in.Units, u) })
	var out []string
	// A template is asked for by an instance of it: both have the same drop-ins.
	asked := make([]string, len(units))
	for i, u := range units {
		asked[i] = strings.Replace(u, "@.service", "@refit.service", 1)
	}
	states, err := m.show(ctx, in.Home, asked)
	if err != nil {
		return nil, err
	}
	for i, s := range states {
		if s.Load != "not-found" && s.Load != "masked" && !s.Guarded {
			out = append(out, "the service "+units[i])
		}
	}
	tables, err := m.cronOf(user, base)
	out = append(out, tables...)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(m.root("var/lib/systemd/linger", user)); err == nil {
		out = append(out, "the user's own systemd, which starts with the machine (loginctl disable-linger "+user+")")
	}
	return out, nil
}

// unitsOf are the services whose files, or drop-ins, name the user or its folder. refit's
// own are left out: they do not outlive a boot.
func (m Machine) unitsOf(user, base string) ([]string, error) {
	var out []string
	for _, dir := range unitPaths {
		for _, pattern := range []string{"*.service", "*.service.d/*.conf"} {
			files, err := filepath.Glob(m.root(dir, pattern))
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".d")
				if strings.HasSuffix(file, ".conf") {
					name = strings.TrimSuffix(filepath.Base(filepath.Dir(file)), ".d")
				}
				// A folder for many names ("mastodon-.service.d") is no unit.
				if strings.HasPrefix(name, "refit-") || strings.HasSuffix(name, "-.service") || slices.Contains(out, name) || !unitName.MatchString(name) {
					continue
				}
				b, _, err := readSmall(file)
				if err != nil {
					continue // a link to nowhere, or masked: nothing starts by it
				}
				if slices.ContainsFunc(strings.Split(string(b), "\n"), func(line string) bool { return runsAs(line, user, base) }) {
					out = append(out, name)
				}
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// runsAs tells whether a unit's line makes it run as the user, or something of its folder.
func runsAs(line, user, base string) bool {
	key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
	switch {
	case key == "User":
		return strings.TrimSpace(value) == user
	case strings.HasPrefix(key, "Exec"), key == "WorkingDirectory":
		return strings.Contains(value, base+"/")
	}
	return false
}

// cronOf are cron's tables with lines of the user's: its own, and the system's (crontab(5)).
func (m Machine) cronOf(user, base string) ([]string, error) {
	var out []string
	files, err := filepath.Glob(m.root("etc/cron.d/*"))
	if err != nil {
		return nil, err
	}
	own := m.root("var/spool/cron/crontabs", user)
	for _, file := range append(files, m.root("etc/crontab"), own) {
		// cron reads nothing but files, and neither a folder nor a pipe must hold this up.
		if fi, err := os.Stat(file); err == nil && !fi.Mode().IsRegular() {
			continue
		}
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot look for what cron starts: %w", err)
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			if len(words) == 0 || strings.HasPrefix(words[0], "#") || strings.Contains(words[0], "=") {
				continue
			}
			who := 5
			if strings.HasPrefix(words[0], "@") {
				who = 1
			}
			if file == own || len(words) > who && words[who] == user || strings.Contains(line, base+"/") {
				n++
			}
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("cron, by %d lines of %s", n, file))
		}
	}
	return out, nil
}
