//go:build !race

package keeper

// raced: without the race detector every course is walked.
const raced = false
