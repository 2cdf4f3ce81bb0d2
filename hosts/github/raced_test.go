//go:build race

package github_test

// raced: the race detector makes every poll many times as slow, and sees in one
// what it would see in the next.
const raced = true
