package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// repo finds the repository of a path; where there is none, or it moved, that is
// answered and nil returned.
func (s *Server) repo(x *exchange) *repo {
	name := strings.ToLower(x.r.PathValue("owner") + "/" + x.r.PathValue("repo"))
	if r := s.repos[name]; r != nil {
		return r
	}
	if id, ok := s.moved[name]; ok {
		_, rest, _ := strings.Cut(x.r.URL.EscapedPath()[len("/repos/"):], "/")
		_, rest, _ = strings.Cut(rest, "/")
		to := fmt.Sprintf("%s/repositories/%d/%s", x.base, id, rest)
		x.header.Set("Location", to)
		x.json(http.StatusMovedPermanently, map[string]any{"message": "Moved Permanently", "url": to, "documentation_url": "https://docs.github.com/rest"})
		return nil
	}
	x.notFound()
	return nil
}

func (s *Server) listReleases(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	n, size := number(x.r, "page", 1), number(x.r, "per_page", 30)
	visible := r.releases
	if !x.token.Push {
		visible = published(r.releases)
	}
	from, to := min((n-1)*size, len(visible)), min(n*size, len(visible))
	key := fmt.Sprint(x.base, x.token.Push, n, size)
	made, ok := r.pages[key]
	if !ok {
		list := make([]any, 0, to-from)
		for _, rel := range visible[from:to] {
			list = append(list, releaseJSON(x.base, r, rel))
		}
		body, err := json.Marshal(list)
		if err != nil {
			s.fault("cannot write the list: %v", err)
		}
		made = page{body, map[string]string{}}
		r.pages[key] = made
	}
	x.raw(http.StatusOK, made.body)
	x.etags = made.etags
	x.link(r.id, n, size, (len(visible)+size-1)/size)
}

// link writes the Link header, which names the repository by its number.
func (x *exchange) link(id int64, page, size, last int) {
	var links []string
	add := func(rel string, n int) {
		links = append(links, fmt.Sprintf("<%s/repositories/%d/releases?per_page=%d&page=%d>; rel=%q", x.base, id, size, n, rel))
	}
	if page > 1 && last > 0 {
		add("prev", min(page-1, last))
	}
	if page < last {
		add("next", page+1)
		add("last", last)
	}
	if page > 1 {
		add("first", 1)
	}
	if links != nil {
		x.header.Set("Link", strings.Join(links, ", "))
	}
}

func published(all []*Release) []*Release {
	var out []*Release
	for _, rel := range all {
		if !rel.Draft {
			out = append(out, rel)
		}
	}
	return out
}

// number reads a query parameter that admit has checked.
func number(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return n
	}
	return otherwise
}

// latestRelease is the newest by the date of the commit, neither draft nor
// pre-release: with several lines of releases, not what was published last.
func (s *Server) latestRelease(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	for _, rel := range published(r.releases) {
		if !rel.Prerelease {
			x.json(http.StatusOK, releaseJSON(x.base, r, rel))
			return
		}
	}
	x.notFound()
}

func (s *Server) releaseByTag(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	if rel := r.byTag(x.r.PathValue("tag")); rel != nil {
		x.json(http.StatusOK, releaseJSON(x.base, r, rel))
		return
	}
	x.notFound()
}

// release finds the release of a path, and answers where the caller may not see it.
func (s *Server) release(x *exchange) (*repo, *Release) {
	r := s.repo(x)
	if r == nil {
		return nil, nil
	}
	id, err := strconv.ParseInt(x.r.PathValue("id"), 10, 64)
	if err != nil {
		s.fault("%s: %q is no release id", x.r.URL.Path, x.r.PathValue("id"))
	}
	rel := r.byID(id)
	if rel == nil || (rel.Draft && !x.token.Push) {
		x.notFound()
		return r, nil
	}
	return r, rel
}

func (s *Server) getRelease(x *exchange) {
	if r, rel := s.release(x); rel != nil {
		x.json(http.StatusOK, releaseJSON(x.base, r, rel))
	}
}

func (s *Server) getRef(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	t, ok := r.tags[x.r.PathValue("ref")]
	if !ok {
		x.notFound()
		return
	}
	kind, sha := "commit", t.Commit
	if len(t.Objects) > 0 {
		kind, sha = "tag", t.Objects[0]
	}
	x.json(http.StatusOK, map[string]any{
		"ref": "refs/tags/" + t.Name, "node_id": node("REF", t.Name),
		"url":    r.api(x.base) + "/git/refs/tags/" + t.Name,
		"object": r.objectJSON(x.base, kind, sha),
	})
}

func (s *Server) getTag(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	sha := x.r.PathValue("sha")
	o, ok := r.objects[sha]
	if !ok {
		x.notFound()
		return
	}
	x.json(http.StatusOK, map[string]any{
		"node_id": node("TAG", sha), "sha": sha, "url": r.api(x.base) + "/git/tags/" + sha,
		"tag": o.name, "message": o.name + "\n", "tagger": personJSON(r.tags[o.name].Date),
		"object": r.objectJSON(x.base, o.kind, o.target), "verification": unsigned(),
	})
}

func (s *Server) getCommit(x *exchange) {
	r := s.repo(x)
	if r == nil {
		return
	}
	sha := x.r.PathValue("sha")
	t, ok := r.commits[sha]
	if !ok {
		x.notFound()
		return
	}
	x.json(http.StatusOK, map[string]any{
		"sha": sha, "node_id": node("C", sha), "url": r.api(x.base) + "/git/commits/" + sha,
		"html_url": r.html() + "/commit/" + sha, "author": personJSON(t.Date), "committer": personJSON(t.Date),
		"tree":    map[string]any{"sha": t.Tree, "url": r.api(x.base) + "/git/trees/" + t.Tree},
		"message": "Release " + t.Name, "parents": []any{}, "verification": unsigned(),
	})
}
