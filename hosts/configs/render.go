package configs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"
)

// scope is what a template sees as its dot.
type scope struct {
	Host    Host
	Fleet   Fleet
	Release Release
}

// Render renders the templates for every host: by host's name, sorted by path. A host
// that no template is for is left out. Its errors name the file, and the line where
// there is one.
func Render(templates fs.FS, fleet Fleet, r Release) (map[string][]File, error) {
	if err := fleet.fault(); err != nil {
		return nil, err
	}
	all, filesYML, err := read(templates, fleet)
	if err != nil {
		return nil, err
	}
	rights, err := readRights(filesYML)
	if err != nil {
		return nil, err
	}
	out := map[string][]File{}
	for _, h := range fleet.Hosts {
		sources, err := all.of(h)
		if err != nil {
			return nil, err
		}
		for _, p := range slices.Sorted(maps.Keys(sources)) {
			f, err := render(p, sources[p], scope{h, fleet, r})
			if err == nil {
				err = grant(&f, rights)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, for host %s: %w", sources[p].at, h.Name, err)
			}
			out[h.Name] = append(out[h.Name], f)
		}
	}
	for _, r := range rights {
		if !r.used {
			return nil, fmt.Errorf("%s/%s:%d: %s fits no file of any host: a slip of the pen, or an entry to remove", Templates, FilesYML, r.line, r.Path)
		}
	}
	return out, nil
}

// fault says what of the fleet cannot become a folder of the repository.
func (f Fleet) fault() error {
	seen := map[string]bool{}
	for _, h := range f.Hosts {
		if !fs.ValidPath(h.Name) || h.Name == "." || strings.Contains(h.Name, "/") || strings.ContainsFunc(h.Name, unprintable) {
			return fmt.Errorf("host name %q cannot be the name of a folder", h.Name)
		}
		if seen[h.Name] {
			return fmt.Errorf("two hosts are named %s", h.Name)
		}
		seen[h.Name] = true
	}
	return nil
}

// render makes one file of one host, without its rights.
func render(p string, s source, at scope) (File, error) {
	f := File{Path: p, Content: bytes.Clone(s.content)}
	if s.text {
		t, err := template.New(s.at).Option("missingkey=error").Funcs(functions(at)).Parse(string(s.content))
		if err != nil {
			return File{}, err
		}
		var out limited
		if err := t.Execute(&out, at); err != nil {
			return File{}, err
		}
		f.Content = out.Bytes()
	}
	if f.Content == nil {
		f.Content = []byte{} // an empty file is not one that is to be removed
	}
	var err error
	if f.Secrets, err = Secrets(f.Content); err != nil {
		return File{}, err
	}
	if found := Scan(map[string][]byte{p: f.Content}); len(found) > 0 {
		what := "line %d"
		if s.text {
			what = "line %d of what it renders"
		}
		return File{}, fmt.Errorf(what+` looks like a secret (%s): secrets do not stand in the repository; put it into /etc/refit/secrets.env of the hosts and {{secret "NAME"}} here (docs/configs.md)`, found[0].Line, found[0].Rule)
	}
	return f, nil
}

// limited refuses to become larger than a file may be.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > fileLimit {
		return 0, fmt.Errorf("it renders more than %d bytes", fileLimit)
	}
	return l.Buffer.Write(b)
}

// functions are what templates can call beside the language's own.
func functions(at scope) template.FuncMap {
	return template.FuncMap{
		"secret": Reference,
		"host": func(names ...string) (Host, error) {
			if len(names) == 0 {
				return at.Host, nil
			}
			for _, h := range at.Fleet.Hosts {
				if len(names) == 1 && h.Name == names[0] {
					return h, nil
				}
			}
			return Host{}, fmt.Errorf("refit.yml has no host %s", strings.Join(names, " "))
		},
		"hosts": func(with ...string) ([]Host, error) {
			if len(with) == 0 {
				return at.Fleet.Hosts, nil
			}
			var out []Host
			for _, role := range with {
				if !slices.Contains(roles, role) {
					return nil, fmt.Errorf("there is no role %q: there are %s", role, strings.Join(roles, ", "))
				}
			}
			for _, h := range at.Fleet.Hosts {
				if slices.ContainsFunc(with, func(role string) bool { return slices.Contains(h.Roles, role) }) {
					out = append(out, h)
				}
			}
			return out, nil
		},
		"join":  join,
		"quote": quote,
	}
}

// join puts the elements of a list of words or numbers into one text.
func join(between string, list any) (string, error) {
	v := reflect.ValueOf(list)
	if !v.IsValid() || (v.Kind() != reflect.Slice && v.Kind() != reflect.Array) {
		return "", fmt.Errorf("join takes a text and a list, not a %T", list)
	}
	var parts []string
	for i := range v.Len() {
		switch e := v.Index(i); e.Kind() {
		case reflect.String, reflect.Int:
			parts = append(parts, fmt.Sprint(e.Interface()))
		default:
			return "", fmt.Errorf("join takes a list of words or numbers, not of %s", e.Type())
		}
	}
	return strings.Join(parts, between), nil
}

// quote puts a text into double quotes, with \ and " escaped: as nginx, systemd and
// dotenv read it.
func quote(text string) (string, error) {
	if strings.ContainsAny(text, "\n\r\x00") {
		return "", errors.New("quote takes one line")
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

// byPath orders files.
func byPath(a, b File) int { return cmp.Compare(a.Path, b.Path) }
