package stages

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// systemTools are libraries and programs of the system, which refit neither builds nor
// changes: how a node is asked for the version, the package that brings it, and the
// versions that distributions ship (packages.debian.org, packages.ubuntu.com).
var systemTools = []struct {
	name    string
	argv    []string
	pack    string
	shipped map[string]string
}{
	{
		// Without its command-line tools, the package knows the library's version.
		"libvips",
		[]string{"sh", "-c", `vips --version 2>/dev/null || dpkg-query -W -f='${Version}\n' 'libvips42*' 2>/dev/null | grep .`},
		"libvips-tools",
		map[string]string{"debian 11": "8.10", "debian 12": "8.14", "debian 13": "8.16", "ubuntu 22.04": "8.12", "ubuntu 24.04": "8.15"},
	},
	{
		"ffmpeg",
		[]string{"ffmpeg", "-version"},
		"ffmpeg",
		map[string]string{"debian 11": "4.3", "debian 12": "5.1", "debian 13": "7.1", "ubuntu 22.04": "4.4", "ubuntu 24.04": "6.1"},
	},
}

// systemCommands ask a host for them. They come behind the toolchain's.
func systemCommands() []node.FactCommand {
	var out []node.FactCommand
	for _, t := range systemTools {
		out = append(out, node.FactCommand{Argv: t.argv})
	}
	return out
}

var firstNumbers = regexp.MustCompile(`\d+(?:\.\d+)+`)

// Requires judges what a release asks for by its source and its notes, beyond what the
// survey judged without them: libraries and programs of the nodes' systems, newer
// services than its series asked for so far, and queues that its code alone names. minimums are by name in lower case, as
// builds.Understanding has them; changes are its.
func (d Deps) Requires(v *View, f *Facts, minimums map[string]builds.Minimum, changes builds.Changes) (refused, said []string) {
	j := &judgement{d: d, f: f, v: v}
	j.services(minimums)
	for _, n := range d.Fleet.Apps() {
		for i := range systemTools {
			j.system(n, i, minimums)
		}
	}
	for _, q := range changes.Queues.Added {
		if !slices.Contains(d.queues(f), q) { // those of config/sidekiq.yml were judged
			j.queue(q)
		}
	}
	return j.refused, j.said
}

// services: what the source asks of PostgreSQL and Redis where that is more than what
// refit knows of the series, which the survey holds them to.
func (j *judgement) services(minimums map[string]builds.Minimum) {
	known := needs(j.f.To.Version)
	if n := j.v.Database.Number; j.v.DatabaseErr == nil && n/10000 >= known.postgres && older(fmt.Sprintf("%d.%d", n/10000, n%10000), minimums["postgresql"].Min) {
		j.refuse("PostgreSQL is %s, and %s needs %s or newer (%s): upgrade the database first", j.v.Database.Server, j.f.To.Version, minimums["postgresql"].Min, minimums["postgresql"].By)
	}
	for _, n := range j.d.Fleet.Apps() {
		for _, r := range j.v.Redis[n.Name].Servers {
			if v, err := major(r.Version); err == nil && v >= known.redis && older(r.Version, minimums["redis"].Min) {
				j.refuse("%s: the Redis at %s is %s, and %s needs %s or newer (%s): upgrade it first", n.Name, r.Address, r.Version, j.f.To.Version, minimums["redis"].Min, minimums["redis"].By)
			}
		}
	}
}

// system: a library or a program of a node's system. What a node's own environment may
// do without is only said: its values are not read, and the trial boot proves it.
func (j *judgement) system(n Node, tool int, minimums map[string]builds.Minimum) {
	t, f := systemTools[tool], j.v.Facts[n.Name]
	least, asked := minimums[t.name]
	if !asked {
		return
	}
	os, has := f.OS+" "+f.OSVersion, probed(f, tool)
	ships := t.shipped[os]
	_, without := f.Env[least.Unless]
	remedy := "on that node, apt-get update && apt-get install " + t.pack
	if ships != "" && older(ships, least.Min) {
		remedy = "its system has no newer one: put the node on a newer image"
	}
	switch {
	case without && (has == "" || older(has, least.Min)):
		j.say("%s has no %s from %s on, which %s wants unless %s says that it does without; its value is not read, so see that it does (%s)",
			n.Name, t.name, least.Min, j.f.To.Version, least.Unless, least.By)
	case has != "" && older(has, least.Min):
		j.refuse("%s has %s %s (%s), and %s needs %s (%s): %s", n.Name, t.name, has, os, j.f.To.Version, least.Min, least.By, remedy)
	case has == "" && ships != "" && older(ships, least.Min):
		j.refuse("%s runs %s, which has %s %s, and %s needs %s (%s): %s", n.Name, os, t.name, ships, j.f.To.Version, least.Min, least.By, remedy)
	case has == "":
		j.say("%s: it could not be found out which %s it has; %s needs %s (%s)", n.Name, t.name, j.f.To.Version, least.Min, least.By)
	}
}

// Dropped are the environment names that a release reads no more and nodes set, each with
// those nodes. A name of which only comments spoke is none.
func (d Deps) Dropped(v *View, env builds.EnvChanges) map[string][]string {
	out := map[string][]string{}
	for _, n := range d.Fleet.Apps() {
		for _, name := range env.Removed {
			if _, set := v.Facts[n.Name].Env[name]; set && !slices.Contains(env.Comments, name) {
				out[name] = append(out[name], n.Name)
			}
		}
	}
	return out
}

// probed is the version of a tool that a node told; empty where it told none.
func probed(f node.Facts, tool int) string {
	at := len(f.Commands) - len(systemTools) + tool
	if at < 0 || at >= len(f.Commands) || f.Commands[at].Error != "" {
		return ""
	}
	// An epoch of Debian's ("7:5.1.9") ends in a colon, and is no part of the version.
	return firstNumbers.FindString(f.Commands[at].Line)
}

// older compares dotted numbers: "8.10" is older than "8.13".
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		if m, n := part(x, i), part(y, i); m != n {
			return m < n
		}
	}
	return false
}

// part is a number of a version, 0 where it has none there.
func part(v []string, i int) int {
	var n int
	if i < len(v) {
		if _, err := fmt.Sscanf(v[i], "%d", &n); err != nil {
			return 0
		}
	}
	return n
}
