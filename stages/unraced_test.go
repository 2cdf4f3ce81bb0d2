//go:build !race

package stages

// raced: without the race detector every course is walked.
const raced = false
