package upstream

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// Commits names the commit of each release, for a repository that has
// upstream's history without its tags.
type Commits struct {
	file      string
	byVersion map[string]named
	order     []string
}

// named is a release's commit as somebody named it, with its tree or without; tag is what
// the repository says of it, where that was asked.
type named struct {
	hash, tree string
	tag        git.Tag
}

var wholeHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ReadCommits reads lines of "version commit", or "version commit tree": the
// tree is then proved. Empty lines and those that begin with # say nothing. file
// names it in errors.
func ReadCommits(r io.Reader, file string) (Commits, error) {
	c := Commits{file: file, byVersion: map[string]named{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		v, err := builds.ParseVersion(words[0])
		if err != nil {
			return Commits{}, fmt.Errorf("line %d of %s: %w", n, file, err)
		}
		if len(words) < 2 || len(words) > 3 {
			return Commits{}, fmt.Errorf("line %d of %s: %q is no \"version commit\" line", n, file, lines.Text())
		}
		for _, hash := range words[1:] {
			if !wholeHash.MatchString(hash) {
				return Commits{}, fmt.Errorf("line %d of %s: %q is no whole hash (40 lower-case hexadecimal digits)", n, file, hash)
			}
		}
		if _, twice := c.byVersion[v.String()]; twice {
			return Commits{}, fmt.Errorf("line %d of %s: %s is named a second time", n, file, v)
		}
		var what named
		what.hash = words[1]
		if len(words) == 3 {
			what.tree = words[2]
		}
		c.byVersion[v.String()] = what
		c.order = append(c.order, v.String())
	}
	if err := lines.Err(); err != nil {
		return Commits{}, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if len(c.order) == 0 {
		return Commits{}, fmt.Errorf("%s names no commit: it is to hold \"version commit\" lines", file)
	}
	return c, nil
}

// Versions are those that are named, in the file's order.
func (c Commits) Versions() ([]builds.Version, error) {
	var out []builds.Version
	for _, name := range c.order {
		v, err := builds.ParseVersion(name)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (c Commits) names() []string { return c.order }

func (c Commits) of(v builds.Version) (named, error) {
	if n, ok := c.byVersion[v.String()]; ok {
		return n, nil
	}
	return named{}, fmt.Errorf("%s names no commit for %s: add a line %q", c.file, v, v.String()+" COMMIT")
}

// Named is the source with its releases' commits named: tags are not looked at
// any more, since a fork's tags of the same names may be other commits.
func (s *Source) Named(c Commits) *Source {
	n := *s
	n.commits = c
	return &n
}
