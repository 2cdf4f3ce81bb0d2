package attest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Lock is what a Gemfile.lock says. Its RUBY VERSION is not read: it disagrees with
// .ruby-version in whole lines.
type Lock struct {
	// Gems in the file's order.
	Gems []Gem
	// Git are the sources that are git repositories.
	Git []GitSource
	// Local: some gems are folders of the tree itself.
	Local bool
	// Bundler is the version under BUNDLED WITH.
	Bundler string
}

// GitSource is a git repository that gems are taken from.
type GitSource struct {
	Remote, Revision string
	// Gems are the names of those that it holds.
	Gems []string
}

// Gem is one gem of a lock file.
type Gem struct {
	Name string
	// Version as the lock has it: "1.19.4", of a gem for one platform "1.19.4-x86_64-linux-gnu".
	Version string
	// Remote is the registry or the repository that it comes from; Revision the commit,
	// for a repository. Others are registries that may serve it too.
	Remote, Revision string
	Others           []string
	// Local: it is a folder of the tree.
	Local bool
	// SHA256 of the gem's file, in hex, where the lock has it (CHECKSUMS).
	SHA256 string
	// Needs are the names of the gems that it needs.
	Needs []string
}

// full is a gem's name with its version, as CHECKSUMS has them.
func (g Gem) full() string { return g.Name + " " + g.Version }

// ReadLock reads a Gemfile.lock. The form is Bundler's own (Bundler::LockfileParser):
// sections at the margin, sources' keys two spaces in, gems four, what they need six.
func ReadLock(text string) (Lock, error) {
	r := gemReader{sums: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if strings.HasPrefix(line, "<<<<<<<") || strings.HasPrefix(line, ">>>>>>>") {
			return Lock{}, errors.New("cannot read Gemfile.lock: it holds a merge conflict")
		}
		if err := r.line(line); err != nil {
			return Lock{}, fmt.Errorf("cannot read Gemfile.lock: %w", err)
		}
	}
	for i, g := range r.lock.Gems {
		r.lock.Gems[i].SHA256 = r.sums[g.full()]
	}
	return r.lock, nil
}

// ReadGems reads the gems of a Gemfile.lock, sorted by name and version; none is an error.
func ReadGems(text string) ([]Gem, error) {
	lock, err := ReadLock(text)
	if err == nil && len(lock.Gems) == 0 {
		err = errors.New("cannot read Gemfile.lock: it names no gem")
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(lock.Gems, func(a, b Gem) int { return strings.Compare(a.full(), b.full()) })
	return lock.Gems, nil
}

type gemReader struct {
	section string
	// remotes and revision are those of the source that is being read.
	remotes  []string
	revision string
	lock     Lock
	sums     map[string]string
}

func (r *gemReader) line(line string) error {
	word := strings.TrimSpace(line)
	indent := len(line) - len(strings.TrimLeft(line, " "))
	switch {
	case word == "":
	case indent == 0:
		r.section, r.remotes, r.revision = word, nil, ""
		switch word {
		case "GIT":
			r.lock.Git = append(r.lock.Git, GitSource{})
		case "PATH":
			r.lock.Local = true
		}
	case r.section == "BUNDLED WITH":
		r.lock.Bundler = word
	case r.section == "CHECKSUMS":
		return r.sum(word)
	case r.section != "GEM" && r.section != "GIT" && r.section != "PATH":
	case indent == 2:
		r.source(word)
	case indent == 4:
		return r.gem(word)
	case indent == 6 && len(r.lock.Gems) > 0:
		name, _, _ := strings.Cut(strings.TrimSuffix(word, "!"), " ")
		last := &r.lock.Gems[len(r.lock.Gems)-1]
		last.Needs = append(last.Needs, name)
	}
	return nil
}

// source takes a key of the source that is being read.
func (r *gemReader) source(word string) {
	key, value, _ := strings.Cut(word, ": ")
	switch key {
	case "remote":
		r.remotes = append(r.remotes, value)
	case "revision":
		r.revision = value
	}
	if r.section == "GIT" {
		git := &r.lock.Git[len(r.lock.Git)-1]
		git.Revision = r.revision
		if len(r.remotes) > 0 {
			git.Remote = r.remotes[0]
		}
	}
}

// gem takes a gem of the source that is being read.
func (r *gemReader) gem(word string) error {
	name, version, ok := gemVersion(word)
	if !ok {
		return fmt.Errorf("%q is no gem with its version", word)
	}
	g := Gem{Name: name, Version: version, Revision: r.revision, Local: r.section == "PATH"}
	if len(r.remotes) > 0 {
		g.Remote = r.remotes[0]
	}
	if len(r.remotes) > 1 {
		g.Others = r.remotes[1:]
	}
	r.lock.Gems = append(r.lock.Gems, g)
	if r.section == "GIT" {
		git := &r.lock.Git[len(r.lock.Git)-1]
		git.Gems = append(git.Gems, name)
	}
	return nil
}

// sum reads "rack (3.1.8) sha256=…"; a gem without a sum stands there by its name alone.
func (r *gemReader) sum(word string) error {
	gem, sums, _ := strings.Cut(word, ") ")
	name, version, ok := gemVersion(strings.TrimSuffix(gem, ")") + ")")
	if !ok {
		return fmt.Errorf("%q is no gem with its version", word)
	}
	for one := range strings.SplitSeq(sums, ",") {
		if sum, ok := strings.CutPrefix(strings.TrimSpace(one), "sha256="); ok {
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
