package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// PullState is how a pull request stands.
type PullState string

// The states of a pull request. GitHub calls a merged one closed.
const (
	PullOpen   PullState = "open"
	PullMerged PullState = "merged"
	PullClosed PullState = "closed"
)

// Pull is a pull request. The zero value is none.
type Pull struct {
	Number int
	// URL is its page for people.
	URL   string
	State PullState
	// Head is the commit that it proposes now, Base the branch that it is for.
	Head, Base string
	// Merged is the commit that its merge left at the branch, "" before: a merge commit, or
	// what a squash or a rebase made.
	Merged string
	// Draft cannot be merged before somebody says that it is ready.
	Draft bool
	// ETag makes the next question about it free, as far as nothing changed.
	ETag string
}

// Proposal is a pull request to be opened, from a branch of the same repository.
type Proposal struct {
	Branch, Base, Title, Body string
}

type pullJSON struct {
	Number   int        `json:"number"`
	URL      string     `json:"html_url"`
	State    string     `json:"state"`
	Draft    bool       `json:"draft"`
	MergedAt *time.Time `json:"merged_at"`
	Commit   *string    `json:"merge_commit_sha"`
	Head     struct {
		SHA  string `json:"sha"`
		Ref  string `json:"ref"`
		Repo *struct {
			FullName string `json:"full_name"`
		} `json:"repo"`
	} `json:"head"`
	Base struct {
		Ref string `json:"ref"`
	} `json:"base"`
}

// FindPull is the newest pull request from a branch of the repository itself to base, in
// whatever state; the zero value if there is none.
func (c *Client) FindPull(ctx context.Context, repo Repo, branch, base string) (Pull, error) {
	q := question{what: "the pull requests of " + repo.String()}
	form := url.Values{"head": {repo.Owner + ":" + branch}, "base": {base}, "state": {"all"}, "sort": {"created"}, "direction": {"desc"}, "per_page": {"10"}}
	q.path = pullsPath(repo) + "?" + form.Encode()
	a, err := c.begin().get(ctx, q)
	if err != nil {
		return Pull{}, err
	}
	var list []pullJSON
	if err := json.Unmarshal(a.body, &list); err != nil {
		return Pull{}, c.strange(q, "the answer is no list of pull requests")
	}
	for _, one := range list {
		// GitHub leaves the filter out where it cannot read it, and then lists everything.
		if one.Head.Ref == branch && one.Base.Ref == base {
			return c.pull(q, one, "")
		}
	}
	return Pull{}, nil
}

// OpenPull opens a pull request. It is sent once: after an error look with FindPull whether
// it was opened.
func (c *Client) OpenPull(ctx context.Context, repo Repo, p Proposal) (Pull, error) {
	q := question{
		what: "a pull request of " + repo.String(), path: pullsPath(repo),
		send: map[string]any{"title": p.Title, "head": p.Branch, "base": p.Base, "body": p.Body, "maintainer_can_modify": false},
	}
	var made pullJSON
	if err := c.post(ctx, q, &made); err != nil {
		return Pull{}, err
	}
	return c.pull(q, made, "")
}

// LookAtPull is how a pull request stands now; known is what was seen of it before.
func (c *Client) LookAtPull(ctx context.Context, repo Repo, known Pull) (Pull, error) {
	q := question{what: fmt.Sprintf("pull request %d of %s", known.Number, repo), path: pullPath(repo, known.Number), etag: known.ETag}
	a, err := c.begin().get(ctx, q)
	if err != nil {
		return Pull{}, err
	}
	if a.same {
		return known, nil
	}
	var is pullJSON
	if err := json.Unmarshal(a.body, &is); err != nil {
		return Pull{}, c.strange(q, "the answer is no pull request")
	}
	if is.Number != known.Number {
		return Pull{}, c.strange(q, fmt.Sprintf("the answer is pull request %d", is.Number))
	}
	return c.pull(q, is, a.etag)
}

// ClosePull closes a pull request without merging it, and writes body in place of what it
// said. It is sent once, and may be sent again: closing a closed one changes nothing. One
// that was merged meanwhile stays merged, which the answer shows.
func (c *Client) ClosePull(ctx context.Context, repo Repo, number int, body string) (Pull, error) {
	q := question{
		what: fmt.Sprintf("pull request %d of %s", number, repo), path: pullPath(repo, number), change: true,
		send: map[string]any{"state": "closed", "body": body},
	}
	var is pullJSON
	if err := c.post(ctx, q, &is); err != nil {
		return Pull{}, err
	}
	return c.pull(q, is, "")
}

// pull takes a pull request for one only if it has what everything after depends on.
func (c *Client) pull(q question, j pullJSON, etag string) (Pull, error) {
	p := Pull{Number: j.Number, URL: c.quote(j.URL), Head: j.Head.SHA, Base: j.Base.Ref, Draft: j.Draft, ETag: etag}
	switch {
	case j.Number <= 0 || !hashForm.MatchString(j.Head.SHA) || j.Base.Ref == "":
		return Pull{}, c.strange(q, "the pull request has no number, no commit or no branch")
	case j.State == "open":
		p.State = PullOpen
	case j.State == "closed" && j.MergedAt == nil:
		p.State = PullClosed
	case j.State == "closed" && j.Commit != nil && hashForm.MatchString(*j.Commit):
		p.State, p.Merged = PullMerged, *j.Commit
	default:
		return Pull{}, c.strange(q, fmt.Sprintf("the pull request's state is %q, or it is merged and has no commit of it", c.quote(j.State)))
	}
	return p, nil
}

func pullsPath(repo Repo) string {
	return "repos/" + url.PathEscape(repo.Owner) + "/" + url.PathEscape(repo.Name) + "/pulls"
}

func pullPath(repo Repo, number int) string { return fmt.Sprintf("%s/%d", pullsPath(repo), number) }
