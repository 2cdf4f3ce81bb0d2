package node

import (
	"strings"
	"time"
)

// fixedTime is 2000-01-01T00:00:00Z, in seconds.
const fixedTime = 946684800

// FixedTime is the modification time of all that a release does not hand out to
// browsers. It is one for all releases: releases share files, and a file has one time.
func FixedTime() time.Time { return time.Unix(fixedTime, 0).UTC() }

// public tells whether a path of a release is handed out by web servers.
func public(rel string) bool { return rel == "public" || strings.HasPrefix(rel, "public/") }

// FileTime is the modification time of a file or directory of a release whose source
// has the date modified. Ruby's caches of compiled code are good for a file of one
// time only, so the builder and every node must have the same. What web servers hand
// out has the source's date: they make ETag and Last-Modified of a file's time and
// size, and a service worker that changed must not pass for the one before it.
func FileTime(rel string, modified time.Time) time.Time {
	if public(rel) {
		return modified
	}
	return FixedTime()
}

// fits tells whether a file that has a content already may serve as it is at rel. At
// a public path any time of a public file will do: it came with that very content.
func fits(rel string, modified, has time.Time) bool {
	switch {
	case modified.IsZero():
		return true
	case public(rel):
		return !has.Equal(FixedTime())
	}
	return has.Equal(FixedTime())
}
