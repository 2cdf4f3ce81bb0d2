package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
)

// StateIn asks what a host is, to be held against others and against what it should be.
type StateIn struct {
	// Home as in WantIn, to tell a process's release.
	Home string `json:"home,omitempty"`
	// Units are names of units, which may hold systemctl(1)'s patterns: "stunnel*.service".
	Units []string `json:"units,omitempty"`
	// EnvFile is a file of KEY=value lines; empty for none. Key is what its values are
	// hashed with, 32 bytes that are good for one comparison.
	EnvFile string `json:"env_file,omitempty"`
	Key     []byte `json:"key,omitempty"`
	// Packages are names or dpkg-query(1)'s patterns of Debian's packages.
	Packages []string `json:"packages,omitempty"`
}

// State is what a host is. What could not be read has its reason in Blind, by the name of
// the field; it is then not known, which is something else than empty.
type State struct {
	Units []UnitShape `json:"units,omitempty"`
	// Env is, by name, the keyed hash of a value. No value is in it.
	Env map[string]string `json:"env,omitempty"`
	// Packages are the versions of those that are installed, the kernel's that runs under "kernel".
	Packages map[string]string `json:"packages,omitempty"`
	Ports    []Port            `json:"ports,omitempty"`
	// Firewall are the rules that hold, without counters and without this host's own addresses.
	Firewall Firewall          `json:"firewall"`
	Blind    map[string]string `json:"blind,omitempty"`
}

// UnitShape is a unit as it is set up, and whether it runs.
type UnitShape struct {
	UnitState
	// Enabled is systemctl's word: "enabled", "disabled", "static", "masked", …
	Enabled string `json:"enabled"`
	// File is the unit's own file, DropIns those that change it, as systemd has them loaded.
	File    string   `json:"file,omitempty"`
	DropIns []string `json:"drop_ins,omitempty"`
}

// Port is something that a host listens on.
type Port struct {
	// Protocol is "tcp" or "udp".
	Protocol string `json:"protocol"`
	// Address is "*" for every one of the host's, "self" for one of its own, else loopback's.
	Address string `json:"address"`
	Port    int    `json:"port"`
	// Program is the name of the process; empty where it could not be told.
	Program string `json:"program"`
}

// Firewall is the rules of a host.
type Firewall struct {
	// Tool told them: "nft", "ufw" or both; empty for a host that has neither.
	Tool string `json:"tool,omitempty"`
	Text string `json:"text,omitempty"`
}

// ReadState asks a host what it is. It changes nothing, and no value of the environment
// file leaves the host.
func (a *Agent) ReadState(ctx context.Context, in StateIn) (State, error) {
	return call[State](ctx, a, "state.read", in, nil, nil)
}

// readState is the verb state.read.
func (m Machine) readState(ctx context.Context, in StateIn, _ io.Reader, _ func(string)) (State, error) {
	s := State{Blind: map[string]string{}}
	try := func(what string, err error) {
		if err != nil {
			s.Blind[what] = err.Error()
		}
	}
	var err error
	if len(in.Units) > 0 {
		s.Units, err = m.shapes(ctx, in)
		try("units", err)
	}
	if in.EnvFile != "" {
		s.Env, err = keyedEnv(m.root(in.EnvFile), in.Key)
		try("env", err)
	}
	s.Packages, err = m.packages(ctx, in.Packages)
	try("packages", err)
	s.Ports, err = m.listening(m.own())
	try("ports", err)
	s.Firewall, err = m.firewall(ctx)
	try("firewall", err)
	return s, ctx.Err()
}

// shapeProperties are asked beside those of UnitState.
const shapeProperties = "Id,UnitFileState,FragmentPath,DropInPaths"

// shapes are the units that the patterns name: those that systemd has loaded, and those
// that it would at the next boot.
func (m Machine) shapes(ctx context.Context, in StateIn) ([]UnitShape, error) {
	var names []string
	for _, list := range []string{"list-units", "list-unit-files"} {
		argv := append([]string{"systemctl", list, "--all", "--plain", "--no-legend", "--no-pager", "--full", "--"}, in.Units...)
		b, err := m.exec(ctx, argv...)
		// It ends with 1 where no unit's file fits.
		if exit, ok := errors.AsType[*hosts.ExitError](err); err != nil && (!ok || exit.Code != 1 || exit.Stderr != "") {
			return nil, fmt.Errorf("cannot ask systemd for its units: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			w := strings.Fields(line)
			// A template is no unit, and what was removed and is nowhere wanted is none any more.
			if len(w) < 2 || strings.Contains(w[0], "@.") || w[1] == "not-found" {
				continue
			}
			names = append(names, w[0])
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil, nil
	}
	states, err := m.show(ctx, in.Home, names)
	if err != nil {
		return nil, err
	}
	b, err := m.exec(ctx, append([]string{"systemctl", "show", "--property=" + shapeProperties, "--"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd: %w", err)
	}
	blocks := strings.Split(strings.TrimSpace(string(b)), "\n\n")
	if len(blocks) != len(names) {
		return nil, fmt.Errorf("cannot ask systemd: %d answers for %d units", len(blocks), len(names))
	}
	var out []UnitShape
	for i, block := range blocks {
		u := UnitShape{UnitState: states[i]}
		for line := range strings.Lines(block) {
			k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			switch k {
			case "Id":
				u.Name = v // an alias has the name of what it stands for
			case "UnitFileState":
				u.Enabled = v
			case "FragmentPath":
				u.File = v
			case "DropInPaths":
				u.DropIns = slices.Sorted(slices.Values(strings.Fields(v)))
			}
		}
		if !slices.ContainsFunc(out, func(x UnitShape) bool { return x.Name == u.Name }) {
			out = append(out, u)
		}
	}
	return out, nil
}

// packages are the versions of installed packages, and of the kernel.
func (m Machine) packages(ctx context.Context, names []string) (map[string]string, error) {
	out := map[string]string{}
	kernel, err := os.ReadFile(m.proc("sys/kernel/osrelease"))
	if err != nil {
		return nil, err
	}
	out["kernel"] = strings.TrimSpace(string(kernel))
	if len(names) == 0 {
		return out, nil
	}
	b, err := m.exec(ctx, append([]string{"dpkg-query", "--show", "--showformat=${binary:Package}\t${db:Status-Status}\t${Version}\n", "--"}, names...)...)
	// It ends with 1 where a name fits nothing, and tells the others all the same.
	if exit, ok := errors.AsType[*hosts.ExitError](err); err != nil && (!ok || exit.Code != 1) {
		return nil, fmt.Errorf("cannot ask dpkg: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if w := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(w) == 3 && w[1] == "installed" {
			out[w[0]] = w[2]
		}
	}
	return out, nil
}

// own are this host's addresses but for loopback's.
func (Machine) own() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then its addresses stand in what is told as they are
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// firewall reads the rules that hold: all of the kernel's by nft(8), and ufw(8)'s own word,
// which also tells that it is switched off.
func (m Machine) firewall(ctx context.Context) (Firewall, error) {
	var f Firewall
	var parts []string
	for _, tool := range [][]string{{"nft", "--stateless", "list", "ruleset"}, {"ufw", "status", "verbose"}} {
		b, err := m.exec(ctx, tool...)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return f, fmt.Errorf("cannot ask %s for the rules: %w", tool[0], err)
		}
		parts = append(parts, strings.TrimSpace(plainRules(string(b), m.own())))
		f.Tool = strings.TrimPrefix(f.Tool+" and "+tool[0], " and ")
	}
	f.Text = strings.TrimSpace(strings.Join(parts, "\n"))
	return f, nil
}

var (
	ruleCounter = regexp.MustCompile(`\bcounter packets [0-9]+ bytes [0-9]+`)
	ruleExpires = regexp.MustCompile(`\b(expires|timeout) [0-9a-z]+`)
	ruleBlank   = regexp.MustCompile(`[ \t]+`)
	ruleTable   = regexp.MustCompile(`^table \S+ (\S+) \{`)
)

// plainRules is a ruleset without what changes by itself: counters, members of sets that
// expire, and what fail2ban writes; and with "self" for the host's own addresses, so that
// the rules of peers can be compared.
func plainRules(text string, own []netip.Addr) string {
	for _, a := range own {
		text = regexp.MustCompile(`(^|[^0-9a-fA-F.:])`+regexp.QuoteMeta(a.String())+`($|[^0-9a-fA-F.:])`).ReplaceAllString(text, "${1}self${2}")
	}
	var out []string
	banned, elements, dynamic := false, false, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		words := strings.TrimSpace(ruleBlank.ReplaceAllString(line, " "))
		if t := ruleTable.FindStringSubmatch(words); t != nil {
			banned = strings.HasPrefix(t[1], "f2b")
		}
		if strings.HasPrefix(words, "set ") {
			dynamic = false
		}
		if strings.HasPrefix(words, "flags ") && (strings.Contains(words, "dynamic") || strings.Contains(words, "timeout")) {
			dynamic = true
		}
		if strings.HasPrefix(words, "elements = ") {
			elements = true
		}
		skip := banned || words == "" || elements && dynamic
		if elements && strings.HasSuffix(words, "}") {
			elements = false
		}
		if banned && line == "}" {
			banned = false
		}
		if skip || strings.HasPrefix(words, "# Warning:") {
			continue
		}
		words = ruleCounter.ReplaceAllString(words, "counter")
		words = ruleExpires.ReplaceAllString(words, "$1")
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		out = append(out, strings.Repeat("  ", min(indent, 8))+words)
	}
	return strings.Join(out, "\n")
}
