package github

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Release is what GitHub says of a release. Its JSON form is refit's own, for
// files of state.
type Release struct {
	// ID stays the same when a release is edited, and even when its tag is.
	ID int64 `json:"id"`
	// Tag is the tag's name, such as v4.6.5; a draft's need not exist yet.
	Tag string `json:"tag"`
	// Name is the title.
	Name string `json:"name,omitempty"`
	// Body is the notes, in GitHub's markdown.
	Body string `json:"body,omitempty"`
	// URL is the page for people.
	URL string `json:"url"`
	// Draft releases are not published; only a token that may push sees them.
	Draft bool `json:"draft,omitempty"`
	// Prerelease is what the publisher says; the tag's own name may say otherwise.
	Prerelease bool `json:"prerelease,omitempty"`
	// Created is the date of the tagged commit, not of the release: it says
	// nothing of when people could see it.
	Created time.Time `json:"created"`
	// Published is when it was published first, by GitHub's clock; zero for a draft.
	Published time.Time `json:"published,omitzero"`
}

// Equal tells whether two say the same, times compared as instants.
func (r Release) Equal(o Release) bool {
	created, published := r.Created.Equal(o.Created), r.Published.Equal(o.Published)
	r.Created, r.Published = o.Created, o.Published
	return r == o && created && published
}

// wireRelease is a release as it comes. Pointers tell what is missing from what
// is empty: a release without "draft" must not pass for a published one.
type wireRelease struct {
	ID         int64      `json:"id"`
	Tag        *string    `json:"tag_name"`
	Name       string     `json:"name"` // may be null, as may body and published_at
	Body       string     `json:"body"`
	URL        string     `json:"html_url"`
	Draft      *bool      `json:"draft"`
	Prerelease *bool      `json:"prerelease"`
	Created    *time.Time `json:"created_at"`
	Published  *time.Time `json:"published_at"`
}

func (w wireRelease) release() (Release, error) {
	if w.ID <= 0 || w.Tag == nil || w.Draft == nil || w.Prerelease == nil || w.Created == nil {
		return Release{}, fmt.Errorf("a release (id %d) lacks its id, tag_name, draft, prerelease or created_at", w.ID)
	}
	if !*w.Draft && (*w.Tag == "" || w.Published == nil || w.Published.IsZero()) {
		return Release{}, fmt.Errorf("the published release %d has no tag or no date of publication", w.ID)
	}
	r := Release{ID: w.ID, Tag: *w.Tag, Name: w.Name, Body: w.Body, URL: w.URL, Draft: *w.Draft, Prerelease: *w.Prerelease, Created: *w.Created}
	if w.Published != nil {
		r.Published = *w.Published
	}
	return r, nil
}

// parseReleases reads one page. null, and an empty answer, are no empty page.
func parseReleases(body []byte) ([]Release, error) {
	var wire []wireRelease
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("the list of releases cannot be read: %w", err)
	}
	if wire == nil {
		return nil, errors.New("the list of releases is null")
	}
	out := make([]Release, len(wire))
	for i, w := range wire {
		r, err := w.release()
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

// Known is what a caller keeps between two polls of one repository and hands in
// again; the zero value knows nothing. It may be kept as JSON. It is worth
// writing again when List.Renewed is true.
type Known struct {
	// Repo is the repository that the pages are of. Pages of another one are not used.
	Repo string `json:"repo"`
	// Pages are all of the list, in its order. The last one may be empty.
	Pages []Page `json:"pages"`
}

// Page is one page of a list and the ETag it came with. An ETag holds for one
// page and one token; it stays the same while the page's body does.
type Page struct {
	ETag     string    `json:"etag"`
	More     bool      `json:"more,omitempty"` // a next page was named; an answer 304 does not repeat it
	Releases []Release `json:"releases"`
}

// reads tells whether two pages read alike, whatever their ETags.
func (p Page) reads(o Page) bool {
	return p.More == o.More && slices.EqualFunc(p.Releases, o.Releases, Release.Equal)
}

func (p Page) same(o Page) bool { return p.ETag == o.ETag && p.reads(o) }

// List is the outcome of a poll.
type List struct {
	// Releases are all that GitHub lists, in no order that means anything: it is
	// nearly that of Created. Drafts are among them if the token may see them.
	Releases []Release
	// Changed tells whether any release came, went or reads otherwise than in
	// what was known. It is false where only something changed that is not read
	// here, such as the count of reactions.
	Changed bool
	// Renewed tells whether Known differs from what was handed in.
	Renewed bool
	// Known is for the next poll.
	Known Known
}

// all are the releases of the pages; false if one stands on two of them, as it
// does when the list grew between reading the one and the other.
func all(pages []Page) ([]Release, bool) {
	var out []Release
	seen := map[int64]bool{}
	for _, p := range pages {
		for _, r := range p.Releases {
			if seen[r.ID] {
				return nil, false
			}
			seen[r.ID] = true
			out = append(out, r)
		}
	}
	return out, true
}

// sameReleases compares without regard to order.
func sameReleases(a, b []Release) bool {
	byID := func(x, y Release) int { return cmp.Compare(x.ID, y.ID) }
	a, b = slices.SortedFunc(slices.Values(a), byID), slices.SortedFunc(slices.Values(b), byID)
	return slices.EqualFunc(a, b, Release.Equal)
}
