package configs

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// right is one entry of files.yml.
type right struct {
	// Path is a glob of paths on hosts: * and ? stay within a part, ** is any number of parts.
	Path  string `yaml:"path"`
	Owner string `yaml:"owner"`
	Group string `yaml:"group"`
	// Mode is octal, four digits, as in "0640".
	Mode    string   `yaml:"mode"`
	Check   string   `yaml:"check"`
	Restart []string `yaml:"restart"`
	Reload  []string `yaml:"reload"`

	line int
	used bool
}

// Checks are the programs that can be asked whether they accept a file.
const (
	CheckNginx   = "nginx"
	CheckSystemd = "systemd"
	CheckStunnel = "stunnel"
	CheckNone    = "none"
)

var (
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	octal       = regexp.MustCompile(`^0[0-7]{3}$`)
	// unitName is what systemd.unit(5) allows, of the kinds that can be restarted.
	unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|path|target)$`)
)

// readRights reads files.yml. Later entries win over earlier ones, key by key.
func readRights(text []byte) ([]right, error) {
	const at = Templates + "/" + FilesYML
	var file struct {
		Files []right `yaml:"files"`
	}
	if err := strictly(at, text, &file); err != nil {
		return nil, err
	}
	for i := range file.Files {
		r := &file.Files[i]
		r.line = lineOf(text, i)
		if err := r.fault(); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", at, r.line, err)
		}
	}
	return file.Files, nil
}

// lineOf is the line of the n-th entry; 1 where it cannot be told.
func lineOf(text []byte, n int) int {
	p, err := yaml.PathString(fmt.Sprintf("$.files[%d]", n))
	if err != nil {
		return 1
	}
	var node ast.Node
	if node, err = p.ReadNode(strings.NewReader(string(text))); err != nil || node.GetToken() == nil {
		return 1
	}
	return node.GetToken().Position.Line
}

func (r *right) fault() error {
	switch {
	case !path.IsAbs(r.Path):
		return fmt.Errorf("path %q is not absolute: it is the path on the host, such as /etc/nginx/**", r.Path)
	case r.Owner != "" && !accountName.MatchString(r.Owner), r.Group != "" && !accountName.MatchString(r.Group):
		return fmt.Errorf("owner %q, group %q: a name of an account is lower-case letters, digits, - and _", r.Owner, r.Group)
	case r.Mode != "" && !octal.MatchString(r.Mode):
		return fmt.Errorf(`mode %q: four octal digits in quotes are needed, such as "0640"; setuid and the like are refused`, r.Mode)
	case strings.HasSuffix(r.Mode, "2"), strings.HasSuffix(r.Mode, "3"), strings.HasSuffix(r.Mode, "6"), strings.HasSuffix(r.Mode, "7"):
		return fmt.Errorf("mode %q lets everybody on the host write the file", r.Mode)
	case r.Check != "" && !slices.Contains([]string{CheckNginx, CheckSystemd, CheckStunnel, CheckNone}, r.Check):
		return fmt.Errorf("check %q: it is one of nginx, systemd, stunnel, none", r.Check)
	}
	if _, err := path.Match(strings.ReplaceAll(r.Path, "**", "*"), "/"); err != nil {
		return fmt.Errorf("path %q is no glob: %w", r.Path, err)
	}
	for _, unit := range slices.Concat(r.Restart, r.Reload) {
		if !unitName.MatchString(unit) {
			return fmt.Errorf("unit %q: a unit is named with its ending, such as nginx.service", unit)
		}
	}
	return nil
}

// grant writes onto f what files.yml says of its path, over the defaults.
func grant(f *File, rights []right) error {
	f.Owner, f.Group, f.Mode, f.Check = "root", "root", 0o644, checkOf(f.Path)
	for i := range rights {
		r := &rights[i]
		if !glob(strings.Split(r.Path, "/"), strings.Split(f.Path, "/")) {
			continue
		}
		r.used = true
		if r.Owner != "" {
			f.Owner = r.Owner
		}
		if r.Group != "" {
			f.Group = r.Group
		}
		if r.Check != "" {
			f.Check = r.Check
		}
		if r.Restart != nil {
			f.Restart = sorted(r.Restart)
		}
		if r.Reload != nil {
			f.Reload = sorted(r.Reload)
		}
		if r.Mode != "" {
			mode, err := strconv.ParseUint(r.Mode, 8, 32)
			if err != nil {
				return fmt.Errorf("mode %q: %w", r.Mode, err)
			}
			f.Mode = fs.FileMode(mode)
		}
	}
	if len(f.Secrets) > 0 && f.Mode&0o007 != 0 {
		return fmt.Errorf("%s holds secrets (%s) and mode %04o lets everybody on the host read it: give it an owner and a mode such as \"0640\" in %s/%s",
			f.Path, strings.Join(f.Secrets, ", "), f.Mode, Templates, FilesYML)
	}
	return nil
}

// sorted is a copy, sorted, each once; nil for nothing.
func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// checkOf is the check that a place stands for.
func checkOf(p string) string {
	switch {
	case strings.HasPrefix(p, "/etc/nginx/"):
		return CheckNginx
	case strings.HasPrefix(p, "/etc/systemd/system/"):
		return CheckSystemd
	case strings.HasPrefix(p, "/etc/stunnel/"):
		return CheckStunnel
	}
	return CheckNone
}

// glob tells whether the parts of a path fit those of a pattern.
func glob(pattern, parts []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			pattern = pattern[1:]
			for i := range len(parts) + 1 {
				if glob(pattern, parts[i:]) {
					return true
				}
			}
			return false
		}
		if len(parts) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], parts[0]); err != nil || !ok {
			return false
		}
		pattern, parts = pattern[1:], parts[1:]
	}
	return len(parts) == 0
}
