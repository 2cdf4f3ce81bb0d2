//go:build !race

package github_test

// raced: without the race detector all polls are made.
const raced = false
