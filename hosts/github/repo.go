package github

import (
	"fmt"
	"regexp"
	"strings"
)

// Repo names a repository. GitHub does not tell upper from lower case in it.
type Repo struct{ Owner, Name string }

var (
	ownerForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}$`)
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
)

// ParseRepo reads owner/name, or the address of a repository on github.com as it
// is cloned or browsed.
func ParseRepo(s string) (Repo, error) {
	rest := s
	if at, ok := strings.CutPrefix(s, "https://github.com/"); ok {
		rest = strings.TrimSuffix(strings.TrimSuffix(at, "/"), ".git")
	}
	owner, name, _ := strings.Cut(rest, "/")
	if !ownerForm.MatchString(owner) || !nameForm.MatchString(name) || name == "." || name == ".." {
		return Repo{}, fmt.Errorf("%q names no repository on GitHub: write OWNER/NAME, as in mastodon/mastodon", s)
	}
	return Repo{owner, name}, nil
}

// String is owner/name.
func (r Repo) String() string { return r.Owner + "/" + r.Name }
