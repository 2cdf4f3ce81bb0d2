package githubtest

import (
	"fmt"
	"maps"
	"strconv"
)

// pullJSON is a pull request as GitHub shows it; in lists it leaves out what is counted.
func pullJSON(base string, r *repo, p *Pull, whole bool) map[string]any {
	n := strconv.Itoa(p.Number)
	at, html, issue := r.api(base)+"/pulls/"+n, r.html()+"/pull/"+n, r.api(base)+"/issues/"+n
	out := map[string]any{
		"url": at, "id": p.Number, "node_id": node("PR", n), "html_url": html, "diff_url": html + ".diff", "patch_url": html + ".patch", "issue_url": issue,
		"commits_url": at + "/commits", "review_comments_url": at + "/comments", "review_comment_url": r.api(base) + "/pulls/comments{/number}",
		"comments_url": issue + "/comments", "statuses_url": r.api(base) + "/statuses/" + p.Head, "number": p.Number, "state": "open", "locked": false,
		"title": p.Title, "user": userJSON(base, "refit"), "body": text(p.Body), "labels": []any{}, "milestone": nil, "active_lock_reason": nil,
		"created_at": date(p.Created), "updated_at": date(p.Created), "closed_at": date(p.Ended), "merged_at": nil,
		"merge_commit_sha": Hash("a trial merge of " + p.Head), // what GitHub shows of an open one: no commit of the branch
		"assignee":         nil, "assignees": []any{}, "requested_reviewers": []any{}, "requested_teams": []any{},
		"head": endJSON(base, r, p.Branch, p.Head), "base": endJSON(base, r, p.Base, or(r.branch(p.Base), Hash(p.Base))),
		"_links": map[string]any{
			"self": link(at), "html": link(html), "issue": link(issue), "comments": link(issue + "/comments"), "review_comments": link(at + "/comments"),
			"review_comment": link(r.api(base) + "/pulls/comments{/number}"), "commits": link(at + "/commits"), "statuses": link(r.api(base) + "/statuses/" + p.Head),
		},
		"author_association": "CONTRIBUTOR", "auto_merge": nil, "draft": p.Draft,
	}
	if p.Closed {
		out["state"] = "closed"
	}
	if p.Merge != "" {
		out["merged_at"], out["merge_commit_sha"] = date(p.Ended), p.Merge
	}
	if whole {
		counted := map[string]any{
			"merged": p.Merge != "", "mergeable": nil, "rebaseable": nil, "mergeable_state": "unknown", "merged_by": nil, "comments": 0, "review_comments": 0,
			"maintainer_can_modify": false, "commits": 1, "additions": 1, "deletions": 0, "changed_files": 1,
		}
		if p.Merge != "" {
			counted["merged_by"] = userJSON(base, "a-person")
		}
		maps.Copy(out, counted)
	}
	return out
}

func link(to string) map[string]any { return map[string]any{"href": to} }

// endJSON is one of a pull request's two ends.
func endJSON(base string, r *repo, branch, commit string) map[string]any {
	return map[string]any{
		"label": r.owner + ":" + branch, "ref": branch, "sha": commit, "user": userJSON(base, r.owner), "repo": repoJSON(base, r),
	}
}

// repoJSON is the repository with all that the description requires.
func repoJSON(base string, r *repo) map[string]any {
	at := r.api(base)
	out := map[string]any{
		"id": r.id, "node_id": node("R", fmt.Sprint(r.id)), "name": r.name, "full_name": r.full(), "owner": userJSON(base, r.owner), "private": true,
		"html_url": r.html(), "url": at, "description": nil, "fork": false, "default_branch": "main", "homepage": nil, "language": nil, "license": nil, "mirror_url": nil,
		"clone_url": r.html() + ".git", "git_url": "git://github.com/" + r.full() + ".git", "ssh_url": "git@github.com:" + r.full() + ".git", "svn_url": r.html(),
		"archived": false, "disabled": false, "has_downloads": false, "has_issues": true, "has_pages": false, "has_projects": false, "has_wiki": false,
		"forks": 0, "forks_count": 0, "open_issues": 0, "open_issues_count": 0, "size": 1, "stargazers_count": 0, "watchers": 0, "watchers_count": 0,
		"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "pushed_at": "2026-01-01T00:00:00Z",
	}
	for name, rest := range map[string]string{
		"archive": "/{archive_format}{/ref}", "assignees": "/assignees{/user}", "blobs": "/git/blobs{/sha}", "branches": "/branches{/branch}",
		"collaborators": "/collaborators{/collaborator}", "comments": "/comments{/number}", "commits": "/commits{/sha}", "compare": "/compare/{base}...{head}",
		"contents": "/contents/{+path}", "contributors": "/contributors", "deployments": "/deployments", "downloads": "/downloads", "events": "/events",
		"forks": "/forks", "git_commits": "/git/commits{/sha}", "git_refs": "/git/refs{/sha}", "git_tags": "/git/tags{/sha}", "hooks": "/hooks",
		"issue_comment": "/issues/comments{/number}", "issue_events": "/issues/events{/number}", "issues": "/issues{/number}", "keys": "/keys{/key_id}",
		"labels": "/labels{/name}", "languages": "/languages", "merges": "/merges", "milestones": "/milestones{/number}",
		"notifications": "/notifications{?since,all,participating}", "pulls": "/pulls{/number}", "releases": "/releases{/id}", "stargazers": "/stargazers",
		"statuses": "/statuses/{sha}", "subscribers": "/subscribers", "subscription": "/subscription", "tags": "/tags", "teams": "/teams", "trees": "/git/trees{/sha}",
	} {
		out[name+"_url"] = at + rest
	}
	return out
}
