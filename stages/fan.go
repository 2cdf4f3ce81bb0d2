package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// errNobody ends a pack that nobody reads any more.
var errNobody = errors.New("nobody reads the pack any more")

// branch is the way to one of those who read the same stream.
type branch struct {
	w     *io.PipeWriter
	ended bool // its reader has what it needs, or failed
}

// fan writes to every branch at once, at the pace of the slowest. One whose reader
// has ended is left out, and the others go on.
type fan []branch

func (f fan) Write(b []byte) (int, error) {
	err := errNobody
	for i := range f {
		if f[i].ended {
			continue
		}
		if _, werr := f[i].w.Write(b); werr != nil {
			f[i].ended = true
			continue
		}
		err = nil
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// carrier is where packs are read from, and how fast they are passed on.
type carrier struct {
	from Node
	// rate bounds the bytes a second that go to each node; 0 for no limit.
	rate int64
}

func (d Deps) carrier() carrier { return carrier{d.builder(), d.Limits.Transfer} }

// carried is a pack that was sent.
type carried struct {
	node.PackOut
	// carried counts the bytes that went to each node.
	carried int64
}

// counted counts what is written to it.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// stream reads a pack once from the builder and gives it to do for every node at
// once. do need not read it to its end. A node that fails does not keep the others
// from theirs; the first error by the fleet's order is returned after all have ended.
func (f Fleet) stream(ctx context.Context, c carrier, in node.PackIn, say pipeline.Say, do func(context.Context, Node, io.Reader) error) (carried, error) {
	branches := make(fan, len(f))
	errs := make([]error, len(f))
	var g sync.WaitGroup
	for i, n := range f {
		r, w := io.Pipe()
		branches[i].w = w
		g.Go(func() {
			errs[i] = do(ctx, n, r)
			// The others' pack must not wait for a reader that has ended.
			r.CloseWithError(io.ErrClosedPipe)
		})
	}
	count := &counted{w: branches}
	var sent carried
	var err error
	sent.PackOut, err = c.from.Agent.Pack(ctx, in, newPaced(ctx, count, c.rate), sayer(c.from, say))
	sent.carried = count.n
	if errors.Is(err, errNobody) {
		err = nil // whoever failed says why
	}
	for _, b := range branches {
		b.w.CloseWithError(err)
	}
	g.Wait()
	if err == nil {
		return sent, cmp.Or(errs...)
	}
	// What the nodes say of a pack that broke off adds nothing.
	var own error
	for _, e := range errs {
		if own == nil && e != nil && !errors.Is(e, err) && !errors.Is(e, node.ErrPayload) {
			own = e
		}
	}
	return sent, errors.Join(fmt.Errorf("cannot read the release from %s: %w", c.from.Name, err), own)
}
