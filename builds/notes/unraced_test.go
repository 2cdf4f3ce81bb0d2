//go:build !race

package notes_test

import "time"

// longest is for the longest body.
const longest = 10 * time.Second
