package main

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// noSecret is said of an address that names more than a place. It does not show it.
const noSecret = "holds a user, a password or a query: no secret may stand here, since it is written into releases"

// unshown is said of one that no release holds.
const unshown = "holds a user, a password or a query, and refit shows addresses in plans and logs: leave it out here"

// url checks the address of a server that is shown in plans and logs; like is what it
// should be.
func (w *wrongs) url(field, text, like string) {
	switch {
	case secretIn(text):
		w.say(field, unshown)
	case !isURL(text, "https", "http"):
		w.say(field, "%q is no %s", text, like)
	}
}

// registry checks the base URL of a server that archives or packages come from.
func (w *wrongs) registry(field, text string) {
	switch {
	case text == "":
	case secretIn(text):
		w.say(field, noSecret)
	case !isURL(text, "https", "http"):
		w.say(field, "%q is no http or https URL", text)
	}
}

// repository checks the address of a git repository.
func (w *wrongs) repository(field, text string) {
	switch {
	case secretIn(text):
		w.say(field, noSecret)
	case !isURL(text, "https", "http", "ssh", "git", "file") && !scpForm.MatchString(text):
		w.say(field, "%q is neither a URL nor git's user@host:path", text)
	}
}

// secretIn tells whether an address may hold a secret: where one has to log in by http,
// the user alone may be the token. By ssh a user is a name, and the key lies elsewhere.
// What cannot be read and has such a sign is taken to hold one.
func secretIn(text string) bool {
	if !strings.Contains(text, "://") {
		user, _, has := strings.Cut(text, "@")
		return strings.Contains(text, "?") || has && strings.Contains(user, ":")
	}
	u, err := url.Parse(text)
	if err != nil {
		return strings.ContainsAny(text, "@?")
	}
	if u.RawQuery != "" || u.ForceQuery {
		return true
	}
	if u.User == nil {
		return false
	}
	_, password := u.User.Password()
	return password || u.Scheme != "ssh"
}

// isURL tells whether text is a URL of one of the schemes, with a host or, for a
// file, a path.
func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(schemes, u.Scheme) {
		return false
	}
	if u.Scheme == "file" {
		return filepath.IsAbs(u.Path)
	}
	return u.Hostname() != ""
}
