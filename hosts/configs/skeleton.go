package configs

import (
	"errors"
	"io/fs"
)

var errNotYet = errors.New("hosts/configs: this part is not written yet")

// Render renders the templates for every host, by host's name, sorted by path. Its
// errors name the file, and the line where there is one.
func Render(templates fs.FS, fleet Fleet, r Release) (map[string][]File, error) {
	return nil, errNotYet
}

// Tree gives the files of the repository that are refit's: rendered/… and refit.lock.
func Tree(rendered map[string][]File, r Release) (map[string][]byte, error) {
	return nil, errNotYet
}

// ReadTree reads the lock and the rendered files back from the repository, and holds
// them to each other.
func ReadTree(repo fs.FS) (Lock, map[string][]File, error) { return Lock{}, nil, errNotYet }

// Scan says what looks like a secret, sorted by file and line.
func Scan(files map[string][]byte) []Finding { return nil }

// Merge brings upstream's changes from old to new into theirs. With conflicts merged
// is theirs, untouched.
func Merge(oldUpstream, newUpstream, theirs []byte) (merged []byte, conflicts []Conflict) {
	return theirs, nil
}

// Upstream holds the unit files and nginx.conf of two releases, by their path there,
// to the team's templates, by their path below templates/. Sorted by source and template.
func Upstream(old, new, theirs map[string][]byte) []Proposal { return nil }

// History is the page of a run: its path in the repository and its content.
func History(entry Entry) (name string, content []byte) { return "", nil }
