package upstream

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
)

// GitHub is what a Follower asks of GitHub's API.
type GitHub interface {
	Releases(ctx context.Context, repo github.Repo, known github.Known) (github.List, error)
	Tag(ctx context.Context, repo github.Repo, name string, known github.Identity) (github.Identity, error)
}

// Witness is the second one that is asked what a tag stands for: the repository itself.
type Witness interface {
	// Identify resolves a tag by git. git.ErrNoTag and git.ErrMoved are told apart.
	Identify(ctx context.Context, tag string) (git.Tag, error)
}

// FollowOptions say which repository's releases are followed.
type FollowOptions struct {
	Repo   github.Repo
	GitHub GitHub
	// Witness is the same repository by git; nil for one whose releases are announced
	// and never run here.
	Witness Witness
	// Memory is what an earlier Follower of the repository remembered; the zero value
	// knows nothing.
	Memory Memory
	// Now; nil for time.Now.
	Now func() time.Time
}

// Memory is what a Follower must not forget. It survives JSON there and back.
type Memory struct {
	// Known are the pages of the list with their ETags.
	Known github.Known `json:"known"`
	// Before are the tags that were published before the first look: they are no news.
	// nil before that look.
	Before []string `json:"before"`
	// Seen are the tags that were ever listed, sorted.
	Seen []string `json:"seen"`
	// Pins are what tags stood for at first sight.
	Pins map[string]Pin `json:"pins"`
	// Rests is until when GitHub wants to be left alone, also by who is started anew.
	Rests time.Time `json:"rests,omitzero"`
}

// Published is a release that upstream has published.
type Published struct {
	github.Release
	// Version of the tag; zero for a tag that is none.
	Version builds.Version
	// Fresh: it was published after the first look at the repository.
	Fresh bool
}

// Early tells whether it is a pre-release, by its publisher's mark or by its tag.
func (p Published) Early() bool { return p.Prerelease || p.Version.Prerelease() }

// Look is what a repository's releases are at one moment. It depends on what is listed
// and what was remembered alone, so a process that was killed after a look loses nothing:
// the next one sees the same.
type Look struct {
	// Releases are the published ones, the newest version first, those without a version
	// behind them by their date.
	Releases []Published
	// Gone are tags that were listed once and are no more: somebody took a release back.
	Gone []string
}

// Follower follows the releases of one repository. It is for one goroutine.
type Follower struct {
	o       FollowOptions
	m       Memory
	changed bool
}

// Follow makes a follower; it asks nothing yet.
func Follow(o FollowOptions) *Follower {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Memory.Pins == nil {
		o.Memory.Pins = map[string]Pin{}
	}
	return &Follower{o: o, m: o.Memory}
}

// Repo is the repository that is followed.
func (f *Follower) Repo() github.Repo { return f.o.Repo }

// Memory is what is to be kept; changed tells whether it differs from what the last call
// gave, so that an idle look writes nothing.
func (f *Follower) Memory() (m Memory, changed bool) {
	changed, f.changed = f.changed, false
	return f.m, changed
}

// Look asks for the releases. On an error nothing is known to be new or gone, and what
// was remembered stays.
func (f *Follower) Look(ctx context.Context) (Look, error) {
	if err := github.Still(f.o.Repo, f.m.Rests, f.o.Now()); err != nil {
		return Look{}, err
	}
	list, err := f.o.GitHub.Releases(ctx, f.o.Repo, f.m.Known)
	f.rest(err)
	if err != nil {
		return Look{}, err
	}
	if list.Renewed || f.m.Before == nil {
		f.m.Known, f.changed = list.Known, true
	}
	out := Look{}
	listed := map[string]bool{}
	for _, r := range list.Releases {
		if r.Draft {
			continue
		}
		listed[r.Tag] = true
		p := Published{Release: r}
		if v, err := builds.ParseVersion(r.Tag); err == nil { // a tag that is no version is still a release
			p.Version = v
		}
		out.Releases = append(out.Releases, p)
	}
	f.remember(listed)
	for i, p := range out.Releases {
		_, old := slices.BinarySearch(f.m.Before, p.Tag)
		out.Releases[i].Fresh = !old
	}
	for _, tag := range f.m.Seen {
		if !listed[tag] {
			out.Gone = append(out.Gone, tag)
		}
	}
	slices.SortStableFunc(out.Releases, func(a, b Published) int {
		return cmp.Or(b.Version.Compare(a.Version), b.Published.Compare(a.Published), strings.Compare(a.Tag, b.Tag))
	})
	return out, nil
}

// rest remembers until when GitHub wants to be left alone, for one look of a timer after
// another.
func (f *Follower) rest(err error) {
	until := time.Time{}
	if e, ok := errors.AsType[*github.Error](err); ok {
		until = e.Rests()
	}
	if !until.Equal(f.m.Rests) {
		f.m.Rests, f.changed = until.UTC(), true
	}
}

// remember adds what is listed to what was seen.
func (f *Follower) remember(listed map[string]bool) {
	tags := slices.Sorted(maps.Keys(listed))
	if f.m.Before == nil {
		f.m.Before, f.changed = append([]string{}, tags...), true
	}
	for _, tag := range tags {
		if i, seen := slices.BinarySearch(f.m.Seen, tag); !seen {
			f.m.Seen, f.changed = slices.Insert(f.m.Seen, i, tag), true
		}
	}
}

// Identify resolves a tag by git alone.
func (s *Source) Identify(ctx context.Context, tag string) (git.Tag, error) {
	return s.repository.Tag(ctx, tag)
}
