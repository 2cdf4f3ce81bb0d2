package node

import "golang.org/x/sys/unix"

// Syncfs flushes the file system that an open file is on.
func Syncfs(fd int) error { return unix.Syncfs(fd) }

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
