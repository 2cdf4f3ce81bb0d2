//go:build race

package git_test

// raced: the race detector makes every course many times as slow, and sees in twenty
// what it would see in two hundred.
const raced = true
