package attest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Package is one node package of a lock file.
type Package struct {
	// Name is the package's own, also where it goes by another in package.json.
	Name, Version string
	// Resolution is yarn's name for exactly this one: "ws@npm:8.18.3".
	Resolution string
	// Checksum is yarn's own, over the package as yarn packs it: "10c0/ab12…"; empty
	// for none.
	Checksum string
	// Conditions say for which systems it is: "os=linux & cpu=x64"; empty for all.
	Conditions string
	// Workspace: it is a part of the source itself.
	Workspace bool
	// Needs are the resolutions of the packages that it needs.
	Needs []string
}

// ErrNoPackage is a yarn.lock without any.
var ErrNoPackage = errors.New("cannot read yarn.lock: it names no package")

// ReadPackages reads a yarn.lock of Yarn 2 and newer, sorted by resolution. The form is
// a small part of YAML: entries at the margin, their fields two spaces in, the entries
// of their maps four.
func ReadPackages(text string) ([]Package, error) {
	if strings.Contains(text, "# yarn lockfile v1") {
		return nil, errors.New("cannot read yarn.lock: it is of Yarn 1")
	}
	r := packageReader{by: map[string]string{}}
	for n, line := range strings.Split(text, "\n") {
		if err := r.line(strings.TrimRight(line, " \r")); err != nil {
			return nil, fmt.Errorf("cannot read yarn.lock, line %d: %w", n+1, err)
		}
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("cannot read yarn.lock: %w", err)
	}
	if len(r.all) == 0 {
		return nil, ErrNoPackage
	}
	return r.resolved(), nil
}

type packageReader struct {
	// at is the entry being read, with the names that ask for it; long is a name that
	// stands on a line of its own ("? …", then ":").
	at    *Package
	asked []string
	long  string
	in    string // the map of the entry that is being read
	// wants are what each entry asks for, by its place in all; by are the resolutions
	// by what was asked.
	wants [][]string
	want  []string
	all   []Package
	by    map[string]string
}

func (r *packageReader) line(line string) error {
	word := strings.TrimSpace(line)
	indent := len(line) - len(strings.TrimLeft(line, " "))
	switch {
	case word == "" || strings.HasPrefix(word, "#"):
		return nil
	case indent == 0:
		return r.entry(word)
	case r.at == nil:
		return nil // of __metadata
	case indent == 2:
		return r.field(word)
	case indent == 4 && (r.in == "dependencies" || r.in == "optionalDependencies"):
		name, asked, ok := pair(word)
		if !ok {
			return fmt.Errorf("%q names no package and no version", word)
		}
		r.want = append(r.want, name+"@"+asked)
	}
	return nil
}

func (r *packageReader) entry(word string) error {
	if long, ok := strings.CutPrefix(word, "? "); ok {
		r.long = long
		return nil
	}
	if word == ":" && r.long != "" {
		word, r.long = r.long+":", ""
	}
	if err := r.end(); err != nil {
		return err
	}
	key, ok := strings.CutSuffix(word, ":")
	if !ok {
		return fmt.Errorf("%q begins no entry", word)
	}
	if key == "__metadata" {
		return nil
	}
	r.at = &Package{}
	for one := range strings.SplitSeq(bare(key), ", ") {
		r.asked = append(r.asked, strings.TrimSpace(one))
	}
	return nil
}

func (r *packageReader) field(word string) error {
	r.in = ""
	if name, ok := strings.CutSuffix(word, ":"); ok {
		r.in = name
		return nil
	}
	key, value, ok := pair(word)
	if !ok {
		return fmt.Errorf("%q is no field", word)
	}
	switch key {
	case "version":
		r.at.Version = value
	case "resolution":
		r.at.Resolution = value
	case "checksum":
		r.at.Checksum = value
	case "conditions":
		r.at.Conditions = value
	}
	return nil
}

// end takes the entry that was read.
func (r *packageReader) end() error {
	if r.at == nil {
		return nil
	}
	p := *r.at
	// The name may begin with @, of a scope.
	i := strings.Index(p.Resolution[min(1, len(p.Resolution)):], "@") + 1
	if i <= 0 || p.Version == "" {
		return fmt.Errorf("%q has no resolution or no version", strings.Join(r.asked, ", "))
	}
	p.Name, p.Workspace = p.Resolution[:i], strings.HasPrefix(p.Resolution[i+1:], "workspace:")
	for _, a := range r.asked {
		r.by[a] = p.Resolution
	}
	r.all, r.wants = append(r.all, p), append(r.wants, r.want)
	r.at, r.asked, r.want, r.in = nil, nil, nil, ""
	return nil
}

// resolved puts resolutions in the place of what was asked for. Older locks leave out
// the "npm:" there. What is not found is a peer or was not locked, and is left out.
func (r *packageReader) resolved() []Package {
	for i := range r.all {
		for _, asked := range r.wants[i] {
			to, ok := r.by[asked]
			if !ok {
				at := strings.Index(asked[1:], "@") + 1
				to, ok = r.by[asked[:at+1]+"npm:"+asked[at+1:]]
			}
			if ok && !slices.Contains(r.all[i].Needs, to) {
				r.all[i].Needs = append(r.all[i].Needs, to)
			}
		}
		slices.Sort(r.all[i].Needs)
	}
	slices.SortFunc(r.all, func(a, b Package) int { return strings.Compare(a.Resolution, b.Resolution) })
	return r.all
}

// pair reads "key: value", either of them in quotes or not.
func pair(word string) (key, value string, ok bool) {
	if strings.HasPrefix(word, `"`) {
		end := strings.Index(word[1:], `": `)
		if end < 0 {
			return "", "", false
		}
		key, value, ok = word[1:end+1], word[end+4:], true
	} else {
		key, value, ok = strings.Cut(word, ": ")
	}
	return key, bare(value), ok && key != ""
}

// bare is a word without its quotes.
func bare(word string) string {
	if len(word) >= 2 && strings.HasPrefix(word, `"`) && strings.HasSuffix(word, `"`) {
		return strings.ReplaceAll(word[1:len(word)-1], `\"`, `"`)
	}
	return word
}

// Elsewhere tells whether a package is for other systems alone. What is said in other
// words than "os=linux & cpu=x64" is taken to be for this one too.
func (p Package) Elsewhere(os, cpu string) bool {
	if strings.ContainsAny(p.Conditions, "|()!") {
		return false
	}
	for one := range strings.SplitSeq(p.Conditions, "&") {
		key, value, _ := strings.Cut(strings.TrimSpace(one), "=")
		if (key == "os" && value != os) || (key == "cpu" && value != cpu) || (key == "libc" && value != "glibc") {
			return true
		}
	}
	return false
}
