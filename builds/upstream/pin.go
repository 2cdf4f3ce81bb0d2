package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
)

// What can be wrong with a release's identity. No retry mends it: a person must find
// out why.
var (
	// ErrMoved: the tag stands for something else than at first sight, or is gone.
	ErrMoved = errors.New("the tag is not what it was")
	// ErrDisagree: GitHub's API and git say different things of one tag.
	ErrDisagree = errors.New("the witnesses disagree")
)

// Pin is what a tag stood for when it was first seen, by the word of two witnesses.
type Pin struct {
	github.Identity
	// At is when it was pinned.
	At time.Time `json:"at"`
}

// Pin says what a release's tag stands for. At first sight both witnesses are asked, and
// what they agree on is pinned; from then on the tag must stay that. An unchanged tag
// costs one conditional request. ErrMoved and ErrDisagree are for a person; any other
// error means that the identity is not known now.
func (f *Follower) Pin(ctx context.Context, tag string) (Pin, error) {
	was, pinned := f.m.Pins[tag]
	is, err := f.o.GitHub.Tag(ctx, f.o.Repo, tag, was.Identity)
	f.rest(err)
	switch {
	case pinned && errors.Is(err, github.ErrNotFound):
		return was, fmt.Errorf("%w: %s of %s was commit %.12s on %s, and there is no such tag any more", ErrMoved, tag, f.o.Repo, was.Commit, day(was.At))
	case err != nil:
		return was, err
	case !pinned:
		return f.pin(ctx, tag, is)
	case !is.Same(was.Identity):
		return was, fmt.Errorf("%w: %s of %s was commit %.12s (tree %.12s) on %s and is commit %.12s (tree %.12s) now",
			ErrMoved, tag, f.o.Repo, was.Commit, was.Tree, day(was.At), is.Commit, is.Tree)
	}
	if is.ETag != was.ETag {
		was.ETag = is.ETag
		f.m.Pins[tag], f.changed = was, true
	}
	return was, nil
}

// pin asks the second witness, and remembers what both say.
func (f *Follower) pin(ctx context.Context, tag string, is github.Identity) (Pin, error) {
	if f.o.Witness != nil {
		seen, err := f.o.Witness.Identify(ctx, tag)
		switch {
		case errors.Is(err, git.ErrMoved):
			return Pin{}, fmt.Errorf("%w: %w", ErrMoved, err)
		case errors.Is(err, git.ErrNoTag):
			return Pin{}, fmt.Errorf("%w: GitHub's API has a tag %s of %s, and git says: %w", ErrDisagree, tag, f.o.Repo, err)
		case err != nil:
			return Pin{}, err
		}
		if said := identity(seen); said.Object != is.Object || said.Commit != is.Commit || said.Tree != is.Tree {
			return Pin{}, fmt.Errorf("%w: by GitHub's API %s of %s is object %.12s, commit %.12s, tree %.12s, by git object %.12s, commit %.12s, tree %.12s",
				ErrDisagree, tag, f.o.Repo, is.Object, is.Commit, is.Tree, said.Object, said.Commit, said.Tree)
		}
	}
	p := Pin{Identity: is, At: f.o.Now().UTC()}
	f.m.Pins[tag], f.changed = p, true
	return p, nil
}

// Fits tells whether a tag that git resolved is what was pinned.
func (p Pin) Fits(t git.Tag) bool { return p.Same(identity(t)) }

// identity is a tag as GitHub writes it, where the object of a lightweight tag is its commit.
func identity(t git.Tag) github.Identity {
	id := github.Identity{Object: t.Object, Commit: t.Commit, Tree: t.Tree}
	if id.Object == "" {
		id.Object = t.Commit
	}
	return id
}

// Unpin forgets what a tag stood for, so that the next look pins it anew: a person has
// found out why it moved. It tells whether there was anything to forget.
func (m Memory) Unpin(tag string) bool {
	_, pinned := m.Pins[tag]
	delete(m.Pins, tag)
	return pinned
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
