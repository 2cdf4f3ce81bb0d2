//go:build race

package watcher

// raced: the race detector makes every course many times as slow, and sees in one
// what it would see in the next.
const raced = true
