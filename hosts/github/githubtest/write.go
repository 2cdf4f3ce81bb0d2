package githubtest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
)

// wish is the body of a request to create or edit a release. A property that the
// description lacks is a fault.
type wish struct {
	Tag        *string `json:"tag_name"`
	Target     *string `json:"target_commitish"`
	Name       *string `json:"name"`
	Body       *string `json:"body"`
	Draft      *bool   `json:"draft"`
	Prerelease *bool   `json:"prerelease"`
	MakeLatest *string `json:"make_latest"`
	Discussion *string `json:"discussion_category_name"`
	Generate   *bool   `json:"generate_release_notes"`
}

func (w wish) apply(rel *Release) {
	for _, f := range []struct {
		from *string
		to   *string
	}{{w.Tag, &rel.Tag}, {w.Target, &rel.Target}, {w.Name, &rel.Name}, {w.Body, &rel.Body}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if w.Draft != nil {
		rel.Draft = *w.Draft
	}
	if w.Prerelease != nil {
		rel.Prerelease = *w.Prerelease
	}
}

// wish reads the body; on false the refusal is written.
func (s *Server) wish(x *exchange) (wish, bool) {
	var w wish
	var body bytes.Buffer
	_, err := body.ReadFrom(http.MaxBytesReader(nil, x.r.Body, 1<<20))
	if err == nil {
		d := json.NewDecoder(&body)
		d.DisallowUnknownFields()
		err = d.Decode(&w)
	}
	if err != nil {
		s.fault("%s %s: %v", x.r.Method, x.r.URL.Path, err)
		x.invalid("tag_name", "invalid")
	}
	return w, err == nil
}

// mayPush answers 404 to those who may not change releases, as GitHub does.
func mayPush(x *exchange) bool {
	if !x.token.Push {
		x.notFound()
	}
	return x.token.Push
}

func (x *exchange) invalid(field, code string) {
	x.json(http.StatusUnprocessableEntity, map[string]any{
		"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest/releases/releases",
		"errors": []any{map[string]any{"resource": "Release", "field": field, "code": code}},
	})
}

func (s *Server) createRelease(x *exchange) {
	r := s.repo(x)
	if r == nil || !mayPush(x) {
		return
	}
	w, ok := s.wish(x)
	switch {
	case !ok:
		return
	case w.Tag == nil || *w.Tag == "":
		x.invalid("tag_name", "missing_field")
		return
	case r.byTag(*w.Tag) != nil:
		x.invalid("tag_name", "already_exists")
		return
	}
	s.lastID++
	rel := Release{ID: s.lastID}
	w.apply(&rel)
	r.put(rel, s.opts.Now())
	made := releaseJSON(x.base, r, r.byID(rel.ID))
	if at, ok := made["url"].(string); ok {
		x.header.Set("Location", at)
	}
	x.json(http.StatusCreated, made)
}

func (s *Server) editRelease(x *exchange) {
	r, rel := s.release(x)
	if rel == nil || !mayPush(x) {
		return
	}
	w, ok := s.wish(x)
	if !ok {
		return
	}
	if w.Tag != nil {
		if other := r.byTag(*w.Tag); other != nil && other != rel {
			x.invalid("tag_name", "already_exists")
			return
		}
	}
	w.apply(rel)
	s.settle(r, rel)
	x.json(http.StatusOK, releaseJSON(x.base, r, rel))
}

func (s *Server) deleteRelease(x *exchange) {
	r, rel := s.release(x)
	if rel == nil || !mayPush(x) {
		return
	}
	r.releases = slices.DeleteFunc(r.releases, func(o *Release) bool { return o == rel })
	r.changed()
	x.status = http.StatusNoContent
}
