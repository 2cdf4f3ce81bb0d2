// Package github asks GitHub's REST API for what the watcher of releases needs:
// the releases of a repository, and which commit and tree a tag stands for; and
// tells the config repository of deployments and pull requests. It is go-github's
// only door.
//
// The rules it holds:
//
//   - an answer that means "nothing new" is never confused with a failing
//     source: every failure is an *Error, and what the caller knew stays as it was;
//   - every question that was asked before is asked conditionally (ETag). With a
//     token, an answer 304 costs nothing of the rate limit
//     (docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api);
//     without one, it costs what any request costs;
//   - nothing is remembered here but until when GitHub wants to be left alone:
//     ETags and what came with them are handed in and handed back, so that they
//     survive a restart and belong to one owner; so is that time (Error.Rests, Still);
//   - a redirect is an error: a repository that was renamed or given away is a
//     thing for a person to look at, not to be followed;
//   - a limit, and a Retry-After of any kind, holds for the whole client: until it
//     is over nothing is sent, since GitHub bans those who go on asking;
//   - the token goes to the host of Options.BaseURL alone, and into no error.
//
// Who decides what to do with releases takes a Client through an interface of
// its own, with as much of Releases, Release and Tag as it needs.
package github
