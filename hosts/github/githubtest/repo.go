package githubtest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Release is one release as its publisher sees it.
type Release struct {
	// ID is given by the server.
	ID int64
	// Tag is the tag's name. Where a release is published and the repository has
	// no such tag, one is made, lightweight, as GitHub does.
	Tag string
	// Target is the branch or commit that a tag would be made of; "" is main.
	Target string
	// Name is the title; "" is null.
	Name string
	// Body is the notes; "" is null.
	Body string
	// Draft and Prerelease are GitHub's own marks.
	Draft, Prerelease bool
	// Created is the date of the commit; zero is the tag's, or now.
	Created time.Time
	// Published is zero for now, and for drafts.
	Published time.Time
	// Hearts counts the reactions, which are part of a release's JSON and nothing
	// of its content.
	Hearts int
}

// Tag is a tag and the commit behind it. Hashes are 40 hex digits; Hash makes some.
type Tag struct {
	// Name is such as v4.6.5.
	Name string
	// Commit is the tagged commit; "" is Hash of the name.
	Commit string
	// Tree is its tree; "" is Hash of Commit.
	Tree string
	// Objects are the tag objects, each tagging the next and the last one the
	// commit. Without any the tag is lightweight.
	Objects []string
	// Date is the commit's; zero is now.
	Date time.Time
}

// Hash is a hash that looks like one of git's, made of a text.
func Hash(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

type repo struct {
	id          int64
	owner, name string
	releases    []*Release // as GitHub lists them
	tags        map[string]Tag
	objects     map[string]tagObject // by hash; what was pushed once stays
	commits     map[string]Tag
	deployments []*Deployment // the newest first
	pulls       []*Pull       // the newest first
	branches    func(branch string) (commit string)
	pages       map[string]page // rendered lists, until something changes
}

// page is a rendered list and its ETags by caller.
type page struct {
	body  []byte
	etags map[string]string
}

type tagObject struct{ name, kind, target string }

func (r *repo) full() string { return r.owner + "/" + r.name }

// changed drops what was rendered and puts the releases in GitHub's order.
func (r *repo) changed() {
	clear(r.pages)
	slices.SortStableFunc(r.releases, func(a, b *Release) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
}

func (r *repo) byTag(tag string) *Release {
	for _, rel := range r.releases {
		if rel.Tag == tag && !rel.Draft {
			return rel
		}
	}
	return nil
}

func (r *repo) byID(id int64) *Release {
	for _, rel := range r.releases {
		if rel.ID == id {
			return rel
		}
	}
	return nil
}

// setTag makes or moves a tag.
func (r *repo) setTag(t Tag, now time.Time) {
	t.Commit = cmp.Or(t.Commit, Hash(t.Name))
	t.Tree = cmp.Or(t.Tree, Hash(t.Commit))
	if t.Date.IsZero() {
		t.Date = now
	}
	r.tags[t.Name], r.commits[t.Commit] = t, t
	for i, sha := range t.Objects {
		next := tagObject{t.Name, "commit", t.Commit}
		if i+1 < len(t.Objects) {
			next = tagObject{t.Name, "tag", t.Objects[i+1]}
		}
		r.objects[sha] = next
	}
}

// put adds a release and makes its tag where needed.
func (r *repo) put(rel Release, now time.Time) {
	now = now.Truncate(time.Second) // GitHub's dates have whole seconds
	if _, ok := r.tags[rel.Tag]; !ok && !rel.Draft {
		r.setTag(Tag{Name: rel.Tag, Date: rel.Created}, now)
	}
	if rel.Created.IsZero() {
		rel.Created = now
		if t, ok := r.tags[rel.Tag]; ok {
			rel.Created = t.Date
		}
	}
	if rel.Published.IsZero() && !rel.Draft {
		rel.Published = now
	}
	r.releases = append(r.releases, &rel)
	r.changed()
}

// AddRepo makes an empty repository, owner/name.
func (s *Server) AddRepo(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, short, _ := strings.Cut(name, "/")
	s.lastID++
	s.repos[strings.ToLower(name)] = &repo{
		id: s.lastID, owner: owner, name: short,
		tags: map[string]Tag{}, objects: map[string]tagObject{}, commits: map[string]Tag{}, pages: map[string]page{},
	}
	delete(s.moved, strings.ToLower(name)) // GitHub redirects until the old name is taken again
}

// with does something to a repository; a name that is not there is a fault.
func (s *Server) with(name string, do func(*repo)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.repos[strings.ToLower(name)]; r != nil {
		do(r)
		return
	}
	s.fault("there is no repository %s to change", name)
}

// Publish adds a release, or a draft, and tells its id.
func (s *Server) Publish(name string, rel Release) (id int64) {
	s.with(name, func(r *repo) {
		if r.byTag(rel.Tag) != nil {
			s.fault("%s has a release %s already", name, rel.Tag)
			return
		}
		s.lastID++
		id, rel.ID = s.lastID, s.lastID
		r.put(rel, s.opts.Now())
	})
	return id
}

// Edit changes a release. A draft that is published so gets its date now.
func (s *Server) Edit(name string, id int64, change func(*Release)) {
	s.with(name, func(r *repo) {
		rel := r.byID(id)
		if rel == nil {
			s.fault("%s has no release %d to edit", name, id)
			return
		}
		change(rel)
		s.settle(r, rel)
	})
}

// settle puts an edited release in order: published drafts get a date and a tag.
func (s *Server) settle(r *repo, rel *Release) {
	now := s.opts.Now().Truncate(time.Second)
	if _, ok := r.tags[rel.Tag]; !ok && !rel.Draft {
		r.setTag(Tag{Name: rel.Tag, Date: rel.Created}, now)
	}
	if rel.Published.IsZero() && !rel.Draft {
		rel.Published = now
	}
	r.changed()
}

// Delete takes a release away; its tag stays, as it does at GitHub.
func (s *Server) Delete(name string, id int64) {
	s.with(name, func(r *repo) {
		r.releases = slices.DeleteFunc(r.releases, func(rel *Release) bool { return rel.ID == id })
		r.changed()
	})
}

// SetTag makes a tag, or moves it.
func (s *Server) SetTag(name string, t Tag) {
	s.with(name, func(r *repo) { r.setTag(t, s.opts.Now().Truncate(time.Second)) })
}

// DeleteTag takes a tag away.
func (s *Server) DeleteTag(name, tag string) {
	s.with(name, func(r *repo) { delete(r.tags, tag) })
}

// Rename gives a repository another owner and name; the old name redirects, until
// AddRepo takes it again.
func (s *Server) Rename(from, to string) {
	s.with(from, func(r *repo) {
		delete(s.repos, strings.ToLower(from))
		s.moved[strings.ToLower(from)] = r.id
		r.owner, r.name, _ = strings.Cut(to, "/")
		s.repos[strings.ToLower(to)] = r
		r.changed()
	})
}
