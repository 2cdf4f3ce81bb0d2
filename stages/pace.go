package stages

import (
	"context"
	"io"
	"time"
)

// paceEvery is how long a piece of a limited stream takes at most: what waits longer in
// one go looks like a link that died.
const paceEvery = 100 * time.Millisecond

// paced writes at most so many bytes a second, evenly.
type paced struct {
	ctx  context.Context //nolint:containedctx // a writer has no other way to get one
	w    io.Writer
	rate int64 // bytes a second
	// next is when the next byte may be written; time that passed unused is not made up
	// for.
	next time.Time
}

func newPaced(ctx context.Context, w io.Writer, rate int64) io.Writer {
	if rate <= 0 {
		return w
	}
	return &paced{ctx: ctx, w: w, rate: rate}
}

func (p *paced) Write(b []byte) (int, error) {
	piece := max(1, int(p.rate*int64(paceEvery)/int64(time.Second)))
	written := 0
	for len(b) > 0 {
		k := min(len(b), piece)
		if err := p.wait(); err != nil {
			return written, err
		}
		n, err := p.w.Write(b[:k])
		written += n
		if err != nil {
			return written, err
		}
		p.next = p.next.Add(time.Duration(k) * time.Second / time.Duration(p.rate))
		b = b[k:]
	}
	return written, nil
}

func (p *paced) wait() error {
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
		return nil
	}
	t := time.NewTimer(p.next.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}
