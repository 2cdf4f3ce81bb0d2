package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/pipeline"
)

// What this machine sees of the lab's hosts from outside, without asking them and
// without refit: their files, and their processes in their control groups. It costs
// no connection, so it can be looked at every few milliseconds.

// webNodes are the lab's web nodes with their addresses.
var webNodes = map[string]string{"kirk": "10.77.0.21", "spock": "10.77.0.22"}

// proxyNodes are the lab's proxies with their addresses.
var proxyNodes = map[string]string{"sulu": "10.77.0.11", "chekov": "10.77.0.12"}

const journalDir = "/var/lib/refit/keeper/journal"

// journals are the IDs of the runs whose journals the keeper has.
func (f *fleet) journals() (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(f.Root("uhura"), journalDir, "*.json"))
	out := map[string]bool{}
	for _, file := range files {
		out[strings.TrimSuffix(filepath.Base(file), ".json")] = true
	}
	return out, err
}

// journal reads a run's journal where the keeper has it: a line about the file,
// then the journal. It is nil where there is none.
func (f *fleet) journal(run string) (*pipeline.Journal, error) {
	b, err := os.ReadFile(filepath.Join(f.Root("uhura"), journalDir, run+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(b, []byte("\n"))
	return pipeline.ParseJournal(body)
}

// groupOf is the folder of a unit's control group on a host; instances of a
// template have a slice of their own (systemd.slice, systemd-escape(1)).
func groupOf(host, unit string) string {
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root = "/sys/fs/cgroup"
	}
	elem := []string{root, "refit-lab", host, "payload", "system.slice"}
	if name, _, ok := strings.Cut(unit, "@"); ok {
		elem = append(elem, "system-"+strings.ReplaceAll(name, "-", `\x2d`)+".slice")
	}
	return filepath.Join(append(elem, unit)...)
}

// process is a process of a host.
type process struct {
	pid string // on this machine
	dir string // working directory, as the host sees it
}

// processes of a unit on a host; none if it does not run.
func processes(host, unit string) ([]process, error) {
	b, err := os.ReadFile(filepath.Join(groupOf(host, unit), "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []process
	for _, pid := range strings.Fields(string(b)) {
		if dir, err := os.Readlink(filepath.Join("/proc", pid, "cwd")); err == nil { // else it has just ended
			out = append(out, process{pid, dir})
		}
	}
	return out, err
}

// inner is a process's ID on its own host; "" once it has ended.
func (p process) inner() string {
	b, err := os.ReadFile(filepath.Join("/proc", p.pid, "status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
			return f[len(f)-1]
		}
	}
	return ""
}

// runs is the release that all processes of a unit run: "off" for a unit without
// processes, "in between" while they do not agree or are about to start.
func runs(host, unit string) (string, error) {
	all, err := processes(host, unit)
	if err != nil {
		return "", err
	}
	var out string
	for _, p := range all {
		name, ok := strings.CutPrefix(p.dir, "/home/mastodon/releases/")
		if name, _, _ = strings.Cut(name, "/"); !ok || (out != "" && out != name) {
			return "in between", nil
		}
		out = name
	}
	if out == "" {
		return "off", nil
	}
	return out, nil
}

// live is the release that a node's link names.
func (f *fleet) live(host string) (string, error) {
	to, err := os.Readlink(filepath.Join(f.Root(host), "home/mastodon/live"))
	return filepath.Base(to), err
}

// down tells which servers a proxy's include file takes out of rotation.
func (f *fleet) down(proxy, file string) (map[string]bool, error) {
	b, err := os.ReadFile(filepath.Join(f.Root(proxy), "etc/nginx/refit", file))
	out := map[string]bool{}
	for _, m := range serverLine.FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = strings.Contains(m[2], "down")
	}
	if err == nil && len(out) != len(webNodes) {
		err = fmt.Errorf("%s of %s names %d servers: %s", file, proxy, len(out), b)
	}
	return out, err
}

var serverLine = regexp.MustCompile(`(?m)^server ([0-9.]+):\d+([^;]*);`)

// facts is how the hosts stand: one line for each thing that a run changes there.
func (f *fleet) facts() ([]string, error) {
	var out []string
	var errs []error
	for host, units := range appUnits {
		release, err := f.live(host)
		out, errs = append(out, host+" live "+release), append(errs, err)
		for _, u := range units {
			r, err := runs(host, u)
			out, errs = append(out, host+" "+u+" "+r), append(errs, err)
		}
	}
	for proxy := range proxyNodes {
		down, err := f.down(proxy, "web.conf")
		errs = append(errs, err)
		for server, is := range down {
			out = append(out, fmt.Sprintf("%s down on %s: %v", server, proxy, is))
		}
	}
	work, err := jobs()
	return append(out, work...), errors.Join(append(errs, err)...)
}

// jobs are the long deeds of refit's that are at work as units, on any host that it
// works on.
func jobs() ([]string, error) {
	var out []string
	hosts := slices.Collect(maps.Keys(appUnits))
	for _, host := range append(hosts, "uhura") {
		units, err := filepath.Glob(filepath.Join(filepath.Dir(groupOf(host, "any.service")), "refit-*.service", "cgroup.procs"))
		if err != nil {
			return nil, err
		}
		for _, file := range units {
			b, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if len(bytes.TrimSpace(b)) > 0 {
				out = append(out, host+" is at work on "+filepath.Base(filepath.Dir(file)))
			}
		}
	}
	return out, nil
}

// migrators are all processes of all hosts that migrate a database, by their unit.
func migrators() ([]string, error) { return commands("db:migrate") }

// agents are all processes of all hosts that run refit's own program, by their unit.
func agents() ([]string, error) { return commands("/var/lib/refit/bin/refit-") }

// commands are the processes of all hosts whose command line has a word, by host and unit.
func commands(word string) ([]string, error) {
	found := map[string]bool{}
	top := strings.TrimSuffix(filepath.Dir(groupOf("kirk", "any.service")), "/kirk/payload/system.slice")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a unit that has just ended
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // it has just ended
		}
		for _, pid := range strings.Fields(string(b)) {
			words, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			if err == nil && bytes.Contains(words, []byte(word)) {
				host, _, _ := strings.Cut(strings.TrimPrefix(path, top+"/"), "/")
				found[host+" "+filepath.Base(filepath.Dir(path))] = true
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(found)), err
}
