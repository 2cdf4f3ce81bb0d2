//go:build !race

package pipeline

// raced: without the race detector every course is walked.
const raced = false
