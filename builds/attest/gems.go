package attest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Gem is one gem of a lock file.
type Gem struct {
	Name string
	// Version as the lock has it: "1.19.4", of a gem for one platform "1.19.4-x86_64-linux-gnu".
	Version string
	// Remote is the registry or the repository that it comes from; Revision the commit,
	// for a repository.
	Remote, Revision string
	// SHA256 of the gem's file, in hex, where the lock has it (CHECKSUMS).
	SHA256 string
	// Needs are the names of the gems that it needs.
	Needs []string
}

// ReadGems reads a Gemfile.lock, sorted by name and version. The form is Bundler's own
// (Bundler::LockfileParser): sections at the margin, sources' keys two spaces in, gems
// four, what they need six.
func ReadGems(text string) ([]Gem, error) {
	r := gemReader{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if strings.HasPrefix(line, "<<<<<<<") || strings.HasPrefix(line, ">>>>>>>") {
			return nil, errors.New("cannot read Gemfile.lock: it holds a merge conflict")
		}
		if err := r.line(line); err != nil {
			return nil, fmt.Errorf("cannot read Gemfile.lock: %w", err)
		}
	}
	if len(r.gems) == 0 {
		return nil, errors.New("cannot read Gemfile.lock: it names no gem")
	}
	for i, g := range r.gems {
		r.gems[i].SHA256 = r.sums[g.Name+" "+g.Version]
	}
	slices.SortStableFunc(r.gems, func(a, b Gem) int {
		return strings.Compare(a.Name+" "+a.Version, b.Name+" "+b.Version)
	})
	return r.gems, nil
}

type gemReader struct {
	section          string
	remote, revision string
	gems             []Gem
	sums             map[string]string
}

func (r *gemReader) line(line string) error {
	word := strings.TrimSpace(line)
	indent := len(line) - len(strings.TrimLeft(line, " "))
	switch {
	case word == "":
		return nil
	case indent == 0:
		r.section, r.remote, r.revision = word, "", ""
		return nil
	case r.section == "CHECKSUMS":
		return r.sum(word)
	case r.section != "GEM" && r.section != "GIT" && r.section != "PATH":
		return nil
	case indent == 2:
		key, value, _ := strings.Cut(word, ": ")
		switch key {
		case "remote":
			r.remote = value
		case "revision":
			r.revision = value
		}
		return nil
	case indent == 4:
		name, version, ok := gemVersion(word)
		if !ok {
			return fmt.Errorf("%q is no gem with its version", word)
		}
		r.gems = append(r.gems, Gem{Name: name, Version: version, Remote: r.remote, Revision: r.revision})
	case indent == 6 && len(r.gems) > 0:
		name, _, _ := strings.Cut(strings.TrimSuffix(word, "!"), " ")
		last := &r.gems[len(r.gems)-1]
		last.Needs = append(last.Needs, name)
	}
	return nil
}

// sum reads "rack (3.1.8) sha256=…"; a gem without a sum stands there by its name alone.
func (r *gemReader) sum(word string) error {
	gem, sums, ok := strings.Cut(word, ") ")
	if !ok {
		return nil
	}
	name, version, ok := gemVersion(gem + ")")
	if !ok {
		return fmt.Errorf("%q is no gem's checksum", word)
	}
	if r.sums == nil {
		r.sums = map[string]string{}
	}
	for one := range strings.SplitSeq(sums, ",") {
		if sum, ok := strings.CutPrefix(strings.TrimSpace(one), "sha256="); ok && len(sum) == 64 {
			r.sums[name+" "+version] = sum
		}
	}
	return nil
}

// gemVersion reads "rack (3.1.8)".
func gemVersion(word string) (name, version string, ok bool) {
	name, rest, found := strings.Cut(word, " (")
	version, closed := strings.CutSuffix(rest, ")")
	return name, version, found && closed && name != "" && version != "" && !strings.ContainsAny(version, " ,")
}
