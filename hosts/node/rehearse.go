package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// RehearseIn makes a clone forget the fleet that its image is of, before anything starts
// on it.
type RehearseIn struct {
	// Instance is the machine that is meant: any other refuses.
	Instance string `json:"instance"`
	// EnvFile is the file of KEY=value lines that is rewritten.
	EnvFile string `json:"env_file"`
	// Drop are the names that are removed, and Prefixes what the names of others begin with.
	Drop     []string `json:"drop"`
	Prefixes []string `json:"prefixes"`
	// Set are the lines that are put in, by name. They may hold secrets.
	Set map[string]string `json:"set"`
	// Hosts are the addresses of names that the machine cannot ask a name server for.
	Hosts map[string]string `json:"hosts,omitempty"`
}

// RehearseOut tells what was rewritten, without any value.
type RehearseOut struct {
	// Dropped and Set are names of the environment file.
	Dropped []string `json:"dropped"`
	Set     []string `json:"set"`
	// Tunnels are the units that were stopped for good, and the files in which they do not
	// lead anywhere any more.
	Tunnels []string `json:"tunnels,omitempty"`
}

// Rehearse makes a clone forget its fleet. It is repeated safely, and refuses on a machine
// that has a permit and was not made for a rehearsal.
func (a *Agent) Rehearse(ctx context.Context, in RehearseIn) (RehearseOut, error) {
	return call[RehearseOut](ctx, a, "env.rehearse", in, nil, nil)
}

// rehearsalRecord is the file that makes a machine one for a rehearsal, for good.
type rehearsalRecord struct {
	Instance string `json:"instance"`
	Run      string `json:"run"`
}

// rehearse is the verb env.rehearse.
func (m Machine) rehearse(ctx context.Context, in RehearseIn, _ io.Reader, _ func(string)) (RehearseOut, error) {
	var out RehearseOut
	if err := m.mayRehearse(in.Instance); err != nil {
		return out, err
	}
	record := fmt.Appendf(nil, "{\"instance\": %q, \"run\": %q}\n", in.Instance, RequestOf(ctx).Run)
	if err := writeFile(m.state("rehearsal"), record, 0o600); err != nil {
		return out, fmt.Errorf("cannot mark the machine as one for a rehearsal: %w", err)
	}
	if err := m.cutTunnels(ctx, &out); err != nil {
		return out, err
	}
	if err := m.rewriteEnv(in, &out); err != nil {
		return out, fmt.Errorf("cannot rewrite %s: %w", in.EnvFile, err)
	}
	if err := m.nameHosts(in.Hosts); err != nil {
		return out, fmt.Errorf("cannot rewrite /etc/hosts: %w", err)
	}
	return out, nil
}

// mayRehearse refuses wherever this could be one of the fleet's own machines.
func (m Machine) mayRehearse(instance string) error {
	here, err := m.instance()
	if err != nil {
		return err
	}
	if instance == "" || here.ID != instance {
		return Failf(CodeSealed, "this is machine %s, and %q was to forget its fleet: nothing was changed", here.ID, instance)
	}
	var record rehearsalRecord
	err = readJSON(m.state("rehearsal"), &record)
	switch {
	case err == nil && record.Instance == instance:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	permit, err := m.readPermit()
	if err != nil {
		return err
	}
	if permit != nil && permit.Instance == instance {
		return Failf(CodeSealed, "machine %s has a permit to serve and was not made for a rehearsal: nothing was changed", instance)
	}
	return nil
}

// tunnelConnect is where a tunnel of stunnel's leads to.
var tunnelConnect = regexp.MustCompile(`(?mi)^([ \t]*connect[ \t]*=[ \t]*)\S.*$`)

// nowhere is an address on which nothing listens (port 9, discard).
const nowhere = "127.0.0.1:9"

// cutTunnels stops stunnel for good, and leads its tunnels nowhere, should somebody start it.
func (m Machine) cutTunnels(ctx context.Context, out *RehearseOut) error {
	listed, err := m.exec(ctx, "systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "stunnel*.service")
	if err != nil {
		return fmt.Errorf("cannot ask systemd for tunnels: %w", err)
	}
	units := map[string]bool{}
	for line := range strings.Lines(string(listed)) {
		if words := strings.Fields(line); len(words) > 0 && strings.HasSuffix(words[0], ".service") {
			units[words[0]] = true
		}
	}
	out.Tunnels = slices.Sorted(maps.Keys(units))
	// A unit whose file is in /etc cannot be masked (systemctl(1)); this holds for all, also
	// where Mastodon's units want it started.
	for _, u := range out.Tunnels {
		text := "# Written by refit: this machine is a copy for a rehearsal.\n[Unit]\nConditionPathExists=!" + m.state("rehearsal") + "\n"
		if err := writeFile(m.root(unitsDir, u+".d", "50-refit-rehearsal.conf"), []byte(text), 0o644); err != nil {
			return fmt.Errorf("cannot keep %s from starting: %w", u, err)
		}
	}
	if len(out.Tunnels) > 0 {
		if _, err := m.exec(ctx, "systemctl", "--no-ask-password", "daemon-reload"); err != nil {
			return fmt.Errorf("cannot keep tunnels from starting: %w", err)
		}
		if _, err := m.exec(ctx, append([]string{"systemctl", "--no-ask-password", "stop"}, out.Tunnels...)...); err != nil {
			return fmt.Errorf("cannot stop %s: %w", strings.Join(out.Tunnels, ", "), err)
		}
	}
	files, err := filepath.Glob(m.root("etc/stunnel", "*.conf"))
	if err != nil {
		return err
	}
	for _, file := range files {
		was, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read a tunnel's settings: %w", err)
		}
		if now := tunnelConnect.ReplaceAll(was, []byte("${1}"+nowhere)); !bytes.Equal(now, was) {
			if err := replaceFile(file, now); err != nil {
				return fmt.Errorf("cannot rewrite a tunnel's settings: %w", err)
			}
			out.Tunnels = append(out.Tunnels, file)
		}
	}
	return nil
}

// envLine is a line of the environment file that gives a name a value.
var envLine = regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*[=:]`)

// rewriteEnv removes names and puts others in, in one write. Its errors hold no line.
func (m Machine) rewriteEnv(in RehearseIn, out *RehearseOut) error {
	file := m.root(in.EnvFile)
	was, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var lines, dropped []string
	quoted := byte(0)
	skip := false
	for line := range strings.Lines(string(was)) {
		line = strings.TrimSuffix(line, "\n")
		if quoted == 0 {
			name := envLine.FindStringSubmatch(line)
			skip = name != nil && in.drops(name[1])
			if skip {
				dropped = append(dropped, name[1])
			}
		}
		quoted = openQuote(line, quoted)
		if !skip {
			lines = append(lines, line)
		}
	}
	if quoted != 0 {
		return errors.New("a value in it has a quote that does not end")
	}
	for _, name := range slices.Sorted(maps.Keys(in.Set)) {
		if strings.ContainsAny(in.Set[name], "\n'") {
			return fmt.Errorf("the value of %s cannot be written in one line", name)
		}
		lines = append(lines, name+"='"+in.Set[name]+"'")
		out.Set = append(out.Set, name)
	}
	out.Dropped = slices.Compact(slices.Sorted(slices.Values(dropped)))
	return replaceFile(file, []byte(strings.Join(lines, "\n")+"\n"))
}

func (in RehearseIn) drops(name string) bool {
	if _, set := in.Set[name]; set || slices.Contains(in.Drop, name) {
		return true
	}
	return slices.ContainsFunc(in.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// openQuote tells which quote is open at a line's end, since values may have several lines.
func openQuote(line string, open byte) byte {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case open == 0 && c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return 0
		case c == '\\' && open != '\'':
			i++
		case open == 0 && (c == '"' || c == '\''):
			open = c
		case c == open:
			open = 0
		}
	}
	return open
}

// nameHosts gives names addresses; lines of an earlier call are replaced.
func (m Machine) nameHosts(names map[string]string) error {
	const mark = " # refit: for this rehearsal"
	file := m.root("etc/hosts")
	was, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(was)) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasSuffix(line, mark) {
			lines = append(lines, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if _, err := netip.ParseAddr(names[name]); err != nil || strings.ContainsAny(name, " \t\n#") {
			return fmt.Errorf("%q cannot be given the address %q", name, names[name])
		}
		lines = append(lines, names[name]+" "+name+mark)
	}
	return writeFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// replaceFile writes a file whole, with the owner and the mode that it has.
func replaceFile(file string, b []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), tempPrefix+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()))
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		err = errors.Join(err, f.Chown(int(sys.Uid), int(sys.Gid)))
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(file))
}
