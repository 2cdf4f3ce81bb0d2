package node

import (
	"context"
	"io"
	"syscall"
)

// Sync has the host write to its disks what it holds in memory, and returns when that is
// done: whoever reads the disk from outside then finds it there. It changes no content.
func (a *Agent) Sync(ctx context.Context) error {
	_, err := call[struct{}](ctx, a, "sync", nil, nil, nil)
	return err
}

// sync calls sync(2). A disk that hangs keeps it for as long; the caller's end is heard
// all the same.
func (Machine) sync(ctx context.Context, _ struct{}, _ io.Reader, _ func(string)) (struct{}, error) {
	done := make(chan struct{})
	go func() {
		syscall.Sync()
		close(done)
	}()
	select {
	case <-ctx.Done():
		return struct{}{}, context.Cause(ctx)
	case <-done:
		return struct{}{}, nil
	}
}
