package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/github"
)

// What is acknowledged where it should be there and could not be read.
const (
	notesUnread  = "notes-unread"
	sourceUnread = "source-unread"
)

// repo is upstream's repository on GitHub; false where it has none.
func (c config) repo() (github.Repo, bool) {
	name := c.Upstream.GitHub
	if name == "" {
		name = c.Upstream.Repository
		if !strings.HasPrefix(name, "https://github.com/") {
			return github.Repo{}, false
		}
	}
	r, err := github.ParseRepo(name)
	return r, err == nil
}

// gitHub is the way to GitHub's API. known is what is to be known although it works.
func (c config) gitHub() (client *github.Client, known string, err error) {
	o := github.Options{BaseURL: c.Upstream.API, UserAgent: "refit/" + version}
	if c.Upstream.Token != nil {
		if o.Token, known, err = c.secret(c.Upstream.Token, "GitHub's token"); err != nil {
			return nil, "", err
		}
	}
	client, err = github.New(o)
	return client, known, err
}

// found are the notes of the releases on a way.
type found struct {
	// read are the notes, the oldest first.
	read []notes.Notes
	// unread says why notes that should be there are not; said, that nobody looked for any.
	unread []string
	said   string
	// published is when the target was published, since when the oldest on the way was;
	// zero where GitHub was not asked.
	published, since time.Time
}

// wayNotes reads the notes of the releases on a way.
func (c config) wayNotes(ctx context.Context, from, to builds.Version) found {
	var f found
	var bodies map[string]string
	var err error
	switch repo, on := c.repo(); {
	case c.Upstream.Notes != "":
		bodies, err = c.notesInFolder(from, to)
	case on:
		bodies, err = c.notesOnGitHub(ctx, repo, from, to, &f)
	default:
		f.said = "the release notes were not looked for: upstream.repository is not on GitHub, and neither upstream.github nor upstream.notes says where they are"
		return f
	}
	if err != nil {
		f.unread = []string{err.Error()}
		return f
	}
	f.read, f.unread = parseAll(bodies)
	if _, ok := bodies[to.String()]; !ok {
		f.unread = append(f.unread, "there are none of "+to.String())
	}
	return f
}

// parseAll reads bodies, by release, the oldest first. One that cannot be read, or is of
// another release, is said, and takes none of the others along.
func parseAll(bodies map[string]string) (read []notes.Notes, unread []string) {
	of := map[string]builds.Version{}
	for name := range bodies {
		v, err := builds.ParseVersion(name)
		if err != nil {
			unread = append(unread, err.Error())
			continue
		}
		of[name] = v
	}
	for _, name := range slices.SortedFunc(maps.Keys(of), func(a, b string) int { return of[a].Compare(of[b]) }) {
		n, err := notes.ParseOf(of[name], []byte(bodies[name]))
		if err != nil {
			unread = append(unread, fmt.Sprintf("those of %s: %v", name, err))
			continue
		}
		read = append(read, n)
	}
	return read, unread
}

func (c config) notesOnGitHub(ctx context.Context, repo github.Repo, from, to builds.Version, f *found) (map[string]string, error) {
	client, _, err := c.gitHub()
	if err != nil {
		return nil, err
	}
	list, err := client.Releases(ctx, repo, github.Known{})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range list.Releases {
		v, err := builds.ParseVersion(r.Tag)
		if err != nil || r.Draft || !upstream.OnTheWay(v, from, to) {
			continue // other tags are none of the way
		}
		out[v.String()] = r.Body
		if f.since.IsZero() || r.Published.Before(f.since) {
			f.since = r.Published
		}
		if v.Compare(to) == 0 {
			f.published = r.Published
		}
	}
	return out, nil
}

// notesInFolder reads vX.Y.Z.md of a folder, for who has no way to GitHub.
func (c config) notesInFolder(from, to builds.Version) (map[string]string, error) {
	dir, err := c.path(c.Upstream.Notes)
	if err != nil {
		return nil, err
	}
	return readFolder(dir, from, to)
}

func readFolder(dir string, from, to builds.Version) (map[string]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the folder of notes: %w", err)
	}
	out := map[string]string{}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".md")
		v, err := builds.ParseVersion(name)
		if !ok || err != nil || !upstream.OnTheWay(v, from, to) {
			continue // a folder may hold other files too
		}
		b, err := readBody(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		out[v.String()] = string(b)
	}
	return out, nil
}

// releaseBody gets the notes of one release.
func (c config) releaseBody(ctx context.Context, v builds.Version) ([]byte, error) {
	if c.Upstream.Notes != "" {
		dir, err := c.path(c.Upstream.Notes)
		if err != nil {
			return nil, err
		}
		b, err := readBody(filepath.Join(dir, v.String()+".md"))
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	repo, on := c.repo()
	if !on {
		return nil, errors.New("upstream.repository is not on GitHub: name the repository by upstream.github, or a file with --file")
	}
	client, _, err := c.gitHub()
	if err != nil {
		return nil, err
	}
	r, err := client.Release(ctx, repo, v.String())
	return []byte(r.Body), err
}
