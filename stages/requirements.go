package stages

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// systemProbes ask which version of a library or a program of the system a node has. It
// is the system's own: refit neither builds nor changes it.
var systemProbes = []struct {
	tool string
	argv []string
}{
	// Without its command-line tools, the package knows the library's version.
	{"libvips", []string{"sh", "-c", `vips --version 2>/dev/null || dpkg-query -W -f='${Version}\n' 'libvips42*' 2>/dev/null | grep .`}},
	{"ffmpeg", []string{"ffmpeg", "-version"}},
}

// systemCommands are systemProbes for a host. They come behind the toolchain's.
func systemCommands() []node.FactCommand {
	var out []node.FactCommand
	for _, p := range systemProbes {
		out = append(out, node.FactCommand{Argv: p.argv})
	}
	return out
}

// libvipsOf are the versions that distributions ship (packages.debian.org, packages.ubuntu.com).
var libvipsOf = map[string]string{"debian 11": "8.10", "debian 12": "8.14", "debian 13": "8.16", "ubuntu 22.04": "8.12", "ubuntu 24.04": "8.15"}

var firstNumbers = regexp.MustCompile(`\d+(?:\.\d+)+`)

// Requires judges what a release asks of the systems of the nodes and was not judged by
// the survey: libraries and programs. minimums are by name in lower case, as
// builds.Understanding has them.
func (d Deps) Requires(v *View, to builds.Version, minimums map[string]builds.Minimum) (refused, said []string) {
	for _, n := range d.Fleet.Apps() {
		f := v.Facts[n.Name]
		for i, p := range systemProbes {
			least, asked := minimums[p.tool]
			if !asked {
				continue
			}
			os := f.OS + " " + f.OSVersion
			has := probed(f, i)
			shipped := ""
			if p.tool == "libvips" {
				shipped = libvipsOf[os]
			}
			_, without := f.Env[least.Unless]
			switch {
			case without && (has == "" || older(has, least.Min)):
				said = append(said, fmt.Sprintf("%s has no %s from %s on, which %s wants unless %s says that it does without; its value is not read, so see that it does (%s)",
					n.Name, p.tool, least.Min, to, least.Unless, least.By))
			case has == "" && shipped != "" && older(shipped, least.Min):
				refused = append(refused, fmt.Sprintf("%s runs %s, which has %s %s, and %s needs %s: put the node on a newer image of its system", n.Name, os, p.tool, shipped, to, least.Min))
			case has == "":
				said = append(said, fmt.Sprintf("%s: it could not be found out which %s it has; %s needs %s (%s)", n.Name, p.tool, to, least.Min, least.By))
			case older(has, least.Min):
				refused = append(refused, fmt.Sprintf("%s has %s %s (%s), and %s needs %s (%s): %s", n.Name, p.tool, has, os, to, least.Min, least.By, remedy(shipped, least.Min)))
			}
		}
	}
	return refused, said
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

// remedy is what to do about what is too old.
func remedy(shipped, least string) string {
	if shipped != "" && older(shipped, least) {
		return "its system has no newer one: put the node on a newer image"
	}
	return "upgrade the package"
}

// probed is the version that a node's probe told; empty where it told none.
func probed(f node.Facts, probe int) string {
	at := len(f.Commands) - len(systemProbes) + probe
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
