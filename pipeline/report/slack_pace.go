package report

import (
	"context"
	"time"
)

// SlackPace is what several tellers of one channel share, so that together they keep to
// what Slack takes: a watcher tells of releases while a run that it began tells of itself.
type SlackPace struct {
	turn  chan struct{} // holds a token while nobody calls
	ready time.Time     // the end of the pause after the last call; whoever has the turn reads it
}

// NewSlackPace makes one that is free at once.
func NewSlackPace() *SlackPace {
	p := &SlackPace{turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// take waits until nobody calls and the pause after the last call is over. Whoever has
// taken the turn gives it back; there is none to give back after an error, ctx's.
func (p *SlackPace) take(ctx context.Context) error {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	t := time.NewTimer(time.Until(p.ready))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		p.turn <- struct{}{}
		return ctx.Err()
	}
}

// give ends the turn: the pause begins now.
func (p *SlackPace) give(pause time.Duration) {
	p.ready = time.Now().Add(pause)
	p.turn <- struct{}{}
}
