package githubtest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pull is a pull request from a branch of the repository itself.
type Pull struct {
	Number                    int
	Title, Body, Branch, Base string
	// Head is the commit it proposes: the branch's while it is open, and what that was when
	// it was closed.
	Head string
	// Closed tells that it is not open, Merge is the commit that its merge left, "" if it
	// was not merged.
	Closed bool
	Merge  string
	Draft  bool
	// Created and Ended are when it was opened and closed.
	Created, Ended time.Time
}

// Branches tells the server what a repository's branches are at; "" is no branch. Without
// it there are none.
func (s *Server) Branches(name string, at func(branch string) (commit string)) {
	s.with(name, func(r *repo) { r.branches = at })
}

// Pulls are a repository's, the newest first.
func (s *Server) Pulls(name string) (out []Pull) {
	s.with(name, func(r *repo) {
		for _, p := range r.pulls {
			out = append(out, *r.now(p))
		}
	})
	return out
}

// Merge merges a pull request: commit is what its branch is at afterwards.
func (s *Server) Merge(name string, number int, commit string) { s.end(name, number, commit) }

// ClosePull closes a pull request without a merge.
func (s *Server) ClosePull(name string, number int) { s.end(name, number, "") }

func (s *Server) end(name string, number int, merge string) {
	s.with(name, func(r *repo) {
		p := r.pull(strconv.Itoa(number))
		if p == nil || p.Closed {
			s.fault("%s has no open pull request %d", name, number)
			return
		}
		r.now(p)
		p.Closed, p.Merge, p.Ended = true, merge, s.opts.Now()
	})
}

func (r *repo) branch(name string) string {
	if r.branches == nil {
		return ""
	}
	return r.branches(name)
}

// now brings an open pull request's head up to date.
func (r *repo) now(p *Pull) *Pull {
	if at := r.branch(p.Branch); !p.Closed && at != "" {
		p.Head = at
	}
	return p
}

func (r *repo) pull(number string) *Pull {
	for _, p := range r.pulls {
		if strconv.Itoa(p.Number) == number {
			return r.now(p)
		}
	}
	return nil
}

var headForm = regexp.MustCompile(`^[A-Za-z0-9-]+:[^\s:]+$`)

// pullQuery tells whether a parameter narrows a list of pull requests. GitHub lists
// everything where head names no owner.
func pullQuery(key, value string) bool {
	switch key {
	case "head":
		return headForm.MatchString(value)
	case "base":
		return value != ""
	case "state":
		return slices.Contains([]string{"open", "closed", "all"}, value)
	case "sort":
		return slices.Contains([]string{"created", "updated", "popularity", "long-running"}, value)
	case "direction":
		return value == "asc" || value == "desc"
	}
	return false
}

func (s *Server) listPulls(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	q := x.r.URL.Query()
	out := []any{}
	for _, p := range r.pulls {
		state := q.Get("state")
		if (state == "" || state == "open") && p.Closed || state == "closed" && !p.Closed {
			continue
		}
		if q.Has("head") && !strings.EqualFold(q.Get("head"), r.owner+":"+p.Branch) || q.Has("base") && q.Get("base") != p.Base {
			continue
		}
		out = append(out, pullJSON(x.base, r, r.now(p), false))
	}
	if q.Get("direction") == "asc" {
		slices.Reverse(out)
	}
	x.json(http.StatusOK, out[:min(len(out), perPage(x))])
}

func (s *Server) getPull(x *exchange) {
	if r := s.repo(x); r != nil {
		if p := r.pull(x.r.PathValue("number")); p != nil {
			x.json(http.StatusOK, pullJSON(x.base, r, p, true))
			return
		}
		x.notFound()
	}
}

// mayPropose answers as GitHub does who may read and not do that.
func mayPropose(x *exchange) bool {
	if !x.token.Pulls {
		x.say(http.StatusForbidden, "Resource not accessible by personal access token", "https://docs.github.com/rest/pulls/pulls#create-a-pull-request")
	}
	return x.token.Pulls
}

func (x *exchange) invalidPull(fault map[string]any) {
	fault["resource"] = "PullRequest"
	x.json(http.StatusUnprocessableEntity, map[string]any{
		"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest/pulls/pulls#create-a-pull-request", "errors": []any{fault},
	})
}

func (s *Server) createPull(x *exchange) {
	r := s.repo(x)
	if r == nil || !mayPropose(x) {
		return
	}
	w := struct {
		Title  string `json:"title"`
		Head   string `json:"head"`
		Base   string `json:"base"`
		Body   string `json:"body"`
		Modify *bool  `json:"maintainer_can_modify"`
		Draft  bool   `json:"draft"`
	}{}
	if !s.body(x, &w) {
		return
	}
	branch := strings.TrimPrefix(w.Head, r.owner+":")
	head, base := r.branch(branch), r.branch(w.Base)
	open := slices.ContainsFunc(r.pulls, func(p *Pull) bool { return !p.Closed && p.Branch == branch && p.Base == w.Base })
	switch {
	case w.Title == "":
		x.invalidPull(map[string]any{"code": "missing_field", "field": "title"})
	case base == "":
		x.invalidPull(map[string]any{"code": "invalid", "field": "base"})
	case head == "":
		x.invalidPull(map[string]any{"code": "invalid", "field": "head"})
	case head == base:
		x.invalidPull(map[string]any{"code": "custom", "message": "No commits between " + w.Base + " and " + branch})
	case open:
		x.invalidPull(map[string]any{"code": "custom", "message": "A pull request already exists for " + r.owner + ":" + branch + "."})
	default:
		p := &Pull{Number: len(r.pulls) + 1, Title: w.Title, Body: w.Body, Branch: branch, Base: w.Base, Head: head, Draft: w.Draft, Created: s.opts.Now()}
		r.pulls = append([]*Pull{p}, r.pulls...)
		x.json(http.StatusCreated, pullJSON(x.base, r, p, true))
	}
}

func (s *Server) editPull(x *exchange) {
	r := s.repo(x)
	if r == nil || !mayPropose(x) {
		return
	}
	p := r.pull(x.r.PathValue("number"))
	if p == nil {
		x.notFound()
		return
	}
	w := struct {
		Title *string `json:"title"`
		Body  *string `json:"body"`
		State *string `json:"state"`
		Base  *string `json:"base"`
	}{}
	if !s.body(x, &w) {
		return
	}
	if w.State != nil {
		switch {
		case *w.State != "open" && *w.State != "closed", *w.State == "open" && p.Merge != "":
			x.invalidPull(map[string]any{"code": "invalid", "field": "state"})
			return
		case *w.State == "open":
			p.Closed = false
		case !p.Closed:
			p.Closed, p.Ended = true, s.opts.Now()
		}
	}
	for from, to := range map[*string]*string{w.Title: &p.Title, w.Body: &p.Body, w.Base: &p.Base} {
		if from != nil {
			*to = *from
		}
	}
	x.json(http.StatusOK, pullJSON(x.base, r, p, true))
}
