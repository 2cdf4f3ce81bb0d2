package builds

import (
	"fmt"
	"strings"
)

// YarnPackage is a package of yarn.lock that is fetched from somewhere.
type YarnPackage struct {
	// Name and Version: "@babel/core", "7.28.5".
	Name    string
	Version string
	// Resolution is what yarn fetches: "@babel/core@npm:7.28.5".
	Resolution string
	// Checksum is yarn's own, of the archive that it makes of the package; empty
	// where the lock has none. Yarn writes none of packages that have Conditions.
	Checksum string
	// Conditions say for which platform alone it is: "os=linux & cpu=x64".
	Conditions string
}

// fits tells whether yarn fetches the package on a Linux host with that processor, in
// yarn's words: "x64". What is not understood fits.
func (p YarnPackage) fits(cpu string) bool {
	for term := range strings.SplitSeq(p.Conditions, "&") {
		switch key, value, _ := strings.Cut(strings.TrimSpace(term), "="); {
		case key == "os" && value != "linux", key == "cpu" && value != cpu, key == "libc" && value == "musl":
			return false
		}
	}
	return true
}

// yarnCPU is a processor in yarn's words, from Go's.
func yarnCPU(goarch string) string {
	if goarch == "amd64" {
		return "x64"
	}
	return goarch
}

// yarnMark is in every lock of yarn 2 and later.
const yarnMark = "__metadata:"

// ReadYarnLock reads a yarn.lock of yarn 2 and later. The tree's own workspaces
// are no packages of it.
func ReadYarnLock(text string) ([]YarnPackage, error) {
	if text != "" && !strings.Contains(text, yarnMark) {
		return nil, fmt.Errorf("cannot read yarn.lock: it has no __metadata, so yarn 2 or later did not write it")
	}
	var all []YarnPackage
	var p *YarnPackage
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != ' ':
			p = nil
			if line != yarnMark {
				all = append(all, YarnPackage{})
				p = &all[len(all)-1]
			}
		case p == nil || strings.HasPrefix(line, "   "): // of the metadata, or a list's
		default:
			key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
			if !ok {
				return nil, fmt.Errorf("cannot read yarn.lock: %q is no field", line)
			}
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch key {
			case "version":
				p.Version = value
			case "resolution":
				p.Resolution = value
			case "checksum":
				p.Checksum = value
			case "conditions":
				p.Conditions = value
			}
		}
	}
	var out []YarnPackage
	for _, p := range all {
		at := strings.IndexByte(p.Resolution[min(1, len(p.Resolution)):], '@') + 1
		if at == 0 {
			return nil, fmt.Errorf("cannot read yarn.lock: %q is no resolution", p.Resolution)
		}
		if strings.HasPrefix(p.Resolution[at:], "@workspace:") {
			continue
		}
		p.Name = p.Resolution[:at]
		out = append(out, p)
	}
	return out, nil
}
