package githubtest

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"time"
)

// The JSON of GitHub's objects, with all that the description requires.

func (r *repo) api(base string) string { return base + "/repos/" + r.full() }
func (r *repo) html() string           { return "https://github.com/" + r.full() }

func node(kind, of string) string { return base64.StdEncoding.EncodeToString([]byte(kind + ":" + of)) }

func date(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func releaseJSON(base string, r *repo, rel *Release) map[string]any {
	self := fmt.Sprintf("%s/releases/%d", r.api(base), rel.ID)
	out := map[string]any{
		"url": self, "assets_url": self + "/assets", "upload_url": self + "/assets{?name,label}",
		"html_url": r.html() + "/releases/tag/" + url.PathEscape(rel.Tag),
		"id":       rel.ID, "node_id": node("RE", fmt.Sprint(rel.ID)), "author": userJSON(base, r.owner),
		"tag_name": rel.Tag, "target_commitish": or(rel.Target, "main"), "name": text(rel.Name), "body": text(rel.Body),
		"draft": rel.Draft, "prerelease": rel.Prerelease, "immutable": false,
		"created_at": date(rel.Created), "published_at": date(rel.Published),
		"tarball_url": r.api(base) + "/tarball/" + url.PathEscape(rel.Tag),
		"zipball_url": r.api(base) + "/zipball/" + url.PathEscape(rel.Tag),
		"assets":      []any{},
	}
	if rel.Draft {
		out["html_url"] = r.html() + "/releases/tag/untagged-" + Hash(fmt.Sprint(rel.ID))[:20]
		out["tarball_url"], out["zipball_url"] = nil, nil
	}
	if rel.Hearts > 0 {
		out["reactions"] = map[string]any{
			"url": self + "/reactions", "total_count": rel.Hearts, "+1": 0, "-1": 0, "laugh": 0, "hooray": 0,
			"confused": 0, "heart": rel.Hearts, "rocket": 0, "eyes": 0,
		}
	}
	return out
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func userJSON(base, login string) map[string]any {
	self := base + "/users/" + login
	return map[string]any{
		"login": login, "id": 1, "node_id": node("U", login), "avatar_url": "https://avatars.githubusercontent.com/u/1?v=4",
		"gravatar_id": "", "url": self, "html_url": "https://github.com/" + login, "followers_url": self + "/followers",
		"following_url": self + "/following{/other_user}", "gists_url": self + "/gists{/gist_id}",
		"starred_url": self + "/starred{/owner}{/repo}", "subscriptions_url": self + "/subscriptions",
		"organizations_url": self + "/orgs", "repos_url": self + "/repos", "events_url": self + "/events{/privacy}",
		"received_events_url": self + "/received_events", "type": "User", "user_view_type": "public", "site_admin": false,
	}
}

func (r *repo) objectJSON(base, kind, sha string) map[string]any {
	return map[string]any{"type": kind, "sha": sha, "url": r.api(base) + "/git/" + kind + "s/" + sha}
}

func personJSON(at time.Time) map[string]any {
	return map[string]any{"name": "A Publisher", "email": "publisher@example.org", "date": at.UTC().Format(time.RFC3339)}
}

func unsigned() map[string]any {
	return map[string]any{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil}
}
