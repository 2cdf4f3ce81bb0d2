//go:build !race

package watcher

// raced: without the race detector every course is walked.
const raced = false
