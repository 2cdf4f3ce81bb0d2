package github

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	gogithub "github.com/google/go-github/v60/github"
)

// maxTags bounds a chain of tags that tag each other.
const maxTags = 5

var hashForm = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Identity is what a tag stands for. All hashes are git's, in lower-case hex. It
// may be kept as JSON.
type Identity struct {
	// Repo is the repository that was asked.
	Repo string `json:"repo"`
	// Tag is the tag's name.
	Tag string `json:"tag"`
	// Object is what the ref names: the tag object of an annotated tag, the
	// commit itself of a lightweight one.
	Object string `json:"object"`
	// Commit is the commit that is tagged.
	Commit string `json:"commit"`
	// Tree is the commit's tree: the content of the release.
	Tree string `json:"tree"`
	// ETag makes the next question conditional.
	ETag string `json:"etag,omitempty"`
}

// Same tells whether two stand for the same content by the same way. An
// annotated tag that was made anew of the same commit is not the same.
func (i Identity) Same(o Identity) bool {
	return i.Object == o.Object && i.Commit == o.Commit && i.Tree == o.Tree
}

// Tag asks what a tag stands for: the ref, the tag object where there is one, the
// commit, the tree. known is what the last call gave for the same tag, or the
// zero value; while the tag stays where it was, one conditional request is made.
// That a tag moved is no error here: the caller compares (Identity.Same).
// ErrNotFound where there is no such tag.
func (c *Client) Tag(ctx context.Context, repo Repo, name string, known Identity) (Identity, error) {
	at := c.begin()
	if !strings.EqualFold(known.Repo, repo.String()) || known.Tag != name {
		known = Identity{}
	}
	q := question{
		what: fmt.Sprintf("the tag %s of %s", name, repo),
		path: fmt.Sprintf("repos/%s/git/ref/tags/%s", repo, escape(name)),
		etag: known.ETag,
	}
	a, err := at.get(ctx, q)
	if err != nil {
		return Identity{}, err
	}
	if a.same {
		return known, nil
	}
	var ref gogithub.Reference
	if err := json.Unmarshal(a.body, &ref); err != nil {
		return Identity{}, c.strange(q, c.quote("the ref cannot be read: "+err.Error()))
	}
	if ref.GetRef() != "refs/tags/"+name {
		return Identity{}, c.strange(q, fmt.Sprintf("the answer is the ref %q", c.quote(ref.GetRef())))
	}
	id := Identity{Repo: repo.String(), Tag: name, Object: ref.GetObject().GetSHA(), ETag: a.etag}
	if id.Object == known.Object && known.Tree != "" { // what a hash names does not change
		id.Commit, id.Tree = known.Commit, known.Tree
		return id, nil
	}
	if id.Commit, err = at.peel(ctx, repo, q, ref.GetObject()); err != nil {
		return Identity{}, err
	}
	if id.Tree, err = at.tree(ctx, repo, q, id.Commit); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// peel follows tag objects down to a commit.
func (c call) peel(ctx context.Context, repo Repo, q question, at *gogithub.GitObject) (string, error) {
	q.etag = ""
	for range maxTags {
		sha := at.GetSHA()
		if !hashForm.MatchString(sha) {
			return "", c.strange(q, fmt.Sprintf("%q is no hash", c.quote(sha)))
		}
		switch at.GetType() {
		case "commit":
			return sha, nil
		case "tag":
		default:
			return "", c.strange(q, fmt.Sprintf("it names a %q (%s), and no commit", c.quote(at.GetType()), sha))
		}
		q.path = fmt.Sprintf("repos/%s/git/tags/%s", repo, sha)
		a, err := c.get(ctx, q)
		if err != nil {
			return "", err
		}
		var tag gogithub.Tag
		if err := json.Unmarshal(a.body, &tag); err != nil {
			return "", c.strange(q, c.quote("the tag object cannot be read: "+err.Error()))
		}
		if tag.GetSHA() != sha {
			return "", c.strange(q, fmt.Sprintf("asked for the tag object %s, it gave %q", sha, c.quote(tag.GetSHA())))
		}
		at = tag.Object
	}
	return "", c.strange(q, fmt.Sprintf("more than %d tag objects stand one behind the other", maxTags))
}

func (c call) tree(ctx context.Context, repo Repo, q question, sha string) (string, error) {
	q.etag, q.path = "", fmt.Sprintf("repos/%s/git/commits/%s", repo, sha)
	a, err := c.get(ctx, q)
	if err != nil {
		return "", err
	}
	var commit gogithub.Commit
	if err := json.Unmarshal(a.body, &commit); err != nil {
		return "", c.strange(q, c.quote("the commit cannot be read: "+err.Error()))
	}
	if commit.GetSHA() != sha || !hashForm.MatchString(commit.GetTree().GetSHA()) {
		return "", c.strange(q, fmt.Sprintf("asked for the commit %s, it gave %q with the tree %q", sha, c.quote(commit.GetSHA()), c.quote(commit.GetTree().GetSHA())))
	}
	return commit.GetTree().GetSHA(), nil
}
