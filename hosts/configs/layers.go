package configs

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

// fileLimit is the largest template, and the largest file that one may render.
const fileLimit = 1 << 20

// source is one template.
type source struct {
	// at is its path in the repository, for errors: templates/web/etc/…
	at      string
	content []byte
	// text tells whether it is a text/template (.tmpl) or is copied.
	text bool
}

// layer is what one folder of templates has, by path on the host.
type layer map[string]source

// layers are the templates by folder: "all", a role, "host/NAME".
type layers map[string]layer

// roles are the folders that are a role's.
var roles = []string{"web", "sidekiq", "proxy", "scheduler", "keeper", "builder"}

// own are the places on hosts that no template may write: refit's own state and
// what it proves things by.
var own = []string{"/etc/refit", "/etc/nginx/refit", "/var/lib/refit", "/var/cache/refit", "/opt/refit"}

// read reads all templates. fleet says which hosts there are.
func read(templates fs.FS, fleet Fleet) (layers, []byte, error) {
	out := layers{}
	var filesYML []byte
	names := map[string]bool{}
	for _, h := range fleet.Hosts {
		names[h.Name] = true
	}
	err := fs.WalkDir(templates, ".", func(name string, d fs.DirEntry, err error) error {
		at := path.Join(Templates, name)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", at, err)
		}
		if !fs.ValidPath(name) || strings.ContainsFunc(name, unprintable) {
			return fmt.Errorf("%q is no name that a template can have: it leaves the folder or holds characters that cannot be shown", at)
		}
		if d.IsDir() || d.Name() == ".gitkeep" || name == "README.md" {
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no plain file (%s): a template cannot be a link or a device; put the content there itself", at, d.Type())
		}
		content, err := fs.ReadFile(templates, name)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", at, err)
		}
		if len(content) > fileLimit {
			return fmt.Errorf("%s is larger than %d bytes: it is no configuration file", at, fileLimit)
		}
		if name == FilesYML {
			filesYML = content
			return nil
		}
		folder, host, err := placeOf(name, names)
		if err != nil {
			return err
		}
		return out.add(folder, host, source{at, content, strings.HasSuffix(name, tmpl)})
	})
	if err != nil {
		return nil, nil, err
	}
	return out, filesYML, nil
}

// tmpl is the ending of names of templates that are more than copied.
const tmpl = ".tmpl"

func unprintable(r rune) bool {
	return !unicode.IsPrint(r) || r == '\\' || r == unicode.ReplacementChar
}

// placeOf is the folder that a template belongs to and its path on the host.
func placeOf(name string, hosts map[string]bool) (folder, onHost string, err error) {
	at := path.Join(Templates, name)
	first, rest, _ := strings.Cut(name, "/")
	folder = first
	switch {
	case first == "host":
		var host string
		host, rest, _ = strings.Cut(rest, "/")
		folder = "host/" + host
		if !hosts[host] {
			return "", "", fmt.Errorf("%s is for host %s, and refit.yml has no host of that name: move it, or remove it if the host is gone", at, host)
		}
	case first != "all" && !slices.Contains(roles, first):
		return "", "", fmt.Errorf("%s is for nobody: templates lie in templates/all, templates/host/NAME or templates/ROLE, where ROLE is one of %s", at, strings.Join(roles, ", "))
	}
	if rest == "" {
		return "", "", fmt.Errorf("%s stands for no path on a host: below templates/%s the path is the one on the host", at, folder)
	}
	onHost = "/" + strings.TrimSuffix(rest, tmpl)
	if err := hostPath(onHost); err != nil {
		return "", "", fmt.Errorf("%s: %w", at, err)
	}
	return folder, onHost, nil
}

// hostPath tells whether refit may write a path on a host.
func hostPath(p string) error {
	if p != path.Clean(p) || !path.IsAbs(p) || p == "/" || strings.HasSuffix(p, "/.") || strings.ContainsFunc(p, unprintable) {
		return fmt.Errorf("%q is no absolute, clean path of a file", p)
	}
	for _, place := range own {
		if p == place || strings.HasPrefix(p, place+"/") {
			return fmt.Errorf("%s is below %s, which is refit's own: no template may write there", p, place)
		}
	}
	if path.Base(p) == "50-refit-permit.conf" {
		return fmt.Errorf("%s is the seal of refit's own (docs/cloud.md): no template may write it", p)
	}
	return nil
}

func (l layers) add(folder, onHost string, s source) error {
	if l[folder] == nil {
		l[folder] = layer{}
	}
	if was, twice := l[folder][onHost]; twice {
		return fmt.Errorf("%s and %s are both for %s: remove one of them", was.at, s.at, onHost)
	}
	l[folder][onHost] = s
	return nil
}

// of are the templates of one host by path, the most special of each.
func (l layers) of(h Host) (map[string]source, error) {
	out := maps.Clone(l["all"])
	if out == nil {
		out = layer{}
	}
	from := map[string]string{}
	for _, role := range slices.Compact(slices.Sorted(slices.Values(h.Roles))) {
		for _, p := range slices.Sorted(maps.Keys(l[role])) {
			if other, twice := from[p]; twice {
				return nil, fmt.Errorf("%s and %s are both for %s on %s, which has both roles, and no role stands above another: put the one that is meant into templates/host/%s, or make one of both in templates/all",
					l[other][p].at, l[role][p].at, p, h.Name, h.Name)
			}
			from[p] = role
			out[p] = l[role][p]
		}
	}
	maps.Copy(out, l["host/"+h.Name])
	for p, s := range out {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			if file, ok := out[dir]; ok {
				return nil, fmt.Errorf("%s makes %s a folder on %s, and %s makes it a file", s.at, dir, h.Name, file.at)
			}
		}
	}
	return out, nil
}
