//go:build !linux

package node

import "errors"

// Hosts run Linux. Elsewhere refit is built for those commands that ask no host.

// Syncfs is Linux's alone.
func Syncfs(int) error { return errors.ErrUnsupported }

func exchange(string, string) error { return errors.ErrUnsupported }
