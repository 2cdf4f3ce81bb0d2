//go:build race

package notes_test

import "time"

// longest is for the longest body, which the race detector makes many times as slow.
const longest = time.Minute
