//go:build race

package stages

// raced: the race detector makes every course many times as slow, and sees in one
// what it would see in the next.
const raced = true
