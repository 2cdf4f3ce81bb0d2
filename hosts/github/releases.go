package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const (
	perPage  = 100 // the most that GitHub gives
	maxPages = 100 // GitHub lists no more than 10,000 releases
	// maxRounds bounds how often a list that changes is read again.
	maxRounds = 5
)

// Releases lists the releases of a repository, all pages of it. known is what
// the last call gave (List.Known), or the zero value. On an error the caller
// keeps what it knew.
//
// The list is one that existed: where any page of several reads otherwise than
// before, all are asked again, until none does. Without that, a release that moves from the second page
// to the first while they are read, since another was deleted, would seem to be
// gone. A full last page is always followed by a look at the next one, since
// neither its body nor its ETag tells that a next one has begun.
//
// GitHub says nothing of releases that are hidden from the caller but counted on
// a page. A caller that hands in the zero Known once a day is safe from that too.
func (c *Client) Releases(ctx context.Context, repo Repo, known Known) (List, error) {
	at := c.begin()
	what := "the releases of " + repo.String()
	if !strings.EqualFold(known.Repo, repo.String()) {
		known = Known{}
	}
	pages := known.Pages
	before, _ := all(pages)
	renewed := false
	for range maxRounds {
		next, err := at.round(ctx, repo, what, pages)
		if err != nil {
			return List{}, err
		}
		settled := len(next) == 1 || slices.EqualFunc(pages, next, Page.reads)
		renewed = renewed || !slices.EqualFunc(pages, next, Page.same)
		pages = next
		releases, whole := all(pages)
		if !whole || !settled {
			continue
		}
		return List{
			Releases: releases,
			Changed:  renewed && !(known.Pages != nil && sameReleases(before, releases)),
			Renewed:  renewed,
			Known:    Known{Repo: repo.String(), Pages: pages},
		}, nil
	}
	return List{}, &Error{
		Kind: ErrUnsettled, Source: c.base.Host, What: what,
		Happened: fmt.Sprintf("the list changed each of the %d times it was read", maxRounds),
		Advice:   "several releases are being published at this moment; the next poll will do",
	}
}

// round asks for each page once, conditionally where one is known.
func (c call) round(ctx context.Context, repo Repo, what string, known []Page) ([]Page, error) {
	var pages []Page
	for n := range maxPages {
		var old Page
		if n < len(known) {
			old = known[n]
		}
		page, err := c.page(ctx, repo, what, n+1, old)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
		if !page.More && len(page.Releases) < perPage {
			return pages, nil
		}
	}
	return nil, c.strange(question{what: what}, fmt.Sprintf("the list has no end after %d pages", maxPages))
}

func (c call) page(ctx context.Context, repo Repo, what string, n int, old Page) (Page, error) {
	q := question{what: what, path: fmt.Sprintf("repos/%s/releases?per_page=%d", repo, perPage), etag: old.ETag}
	if n > 1 {
		q.path += fmt.Sprintf("&page=%d", n)
	}
	a, err := c.get(ctx, q)
	if err != nil || a.same {
		return old, err
	}
	releases, err := parseReleases(a.body)
	if err != nil {
		return old, c.strange(q, c.quote(err.Error()))
	}
	return Page{ETag: a.etag, More: a.more, Releases: releases}, nil
}

// Release gets the published release of a tag. ErrNotFound where there is none,
// or only a draft.
func (c *Client) Release(ctx context.Context, repo Repo, tag string) (Release, error) {
	q := question{what: fmt.Sprintf("the release %s of %s", tag, repo), path: fmt.Sprintf("repos/%s/releases/tags/%s", repo, escape(tag))}
	a, err := c.begin().get(ctx, q)
	if err != nil {
		return Release{}, err
	}
	var wire wireRelease
	if err := json.Unmarshal(a.body, &wire); err != nil {
		return Release{}, c.strange(q, c.quote("the release cannot be read: "+err.Error()))
	}
	r, err := wire.release()
	if err != nil {
		return Release{}, c.strange(q, err.Error())
	}
	if r.Tag != tag {
		return Release{}, c.strange(q, fmt.Sprintf("the answer is the release %q", c.quote(r.Tag)))
	}
	return r, nil
}

// escape writes a tag's name into a path; its slashes stay what they are.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
