package builds

import "vmst.io/refit/hosts/node"

// What builds/toolchain needs of how releases are begun and sealed: one code decides
// for both who owns what is built and when it counts as whole.

// MarkFile stands in what is being built, relative to its directory, from its first
// moment to its last. What has it is never taken for whole.
const MarkFile = markFile

// Account is a user's numbers.
type Account struct{ UID, GID int }

// LookUser finds the user that builds.
func LookUser(name string) (Account, error) {
	a, err := lookUser(name)
	return Account{a.uid, a.gid}, err
}

// Seal makes everything below dir root's and writable for nobody else, and gives it
// node.FixedTime. Devices, sockets and setuid files are an error.
func Seal(dir string) error { return seal(dir, node.FixedTime()) }

// System is this host in a manifest's words: "debian 13".
func System() (string, error) { return osRelease() }

// ReadJSON reads a file of JSON.
func ReadJSON(file string, into any) error { return readJSON(file, into) }

// WriteJSON writes a file and makes it durable.
func WriteJSON(file string, v any) error { return writeJSON(file, v) }

// Flush puts everything written to dir's file system onto its disk.
func Flush(dir string) error { return syncFS(dir) }

// FlushDir makes a directory's own entries durable.
func FlushDir(dir string) error { return syncDir(dir) }
