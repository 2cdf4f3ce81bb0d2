package github

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// call is one call of a caller's: all its questions share one patience.
type call struct {
	*Client
	began time.Time
}

func (c *Client) begin() call { return call{c, time.Now()} }

// pauses grow with jitter, and are never shorter than GitHub asked for.
type pauses struct {
	*backoff.ExponentialBackOff
	least time.Duration
}

// NextBackOff implements backoff.BackOff.
func (p *pauses) NextBackOff() time.Duration { return max(p.ExponentialBackOff.NextBackOff(), p.least) }

// get asks until an answer came, patience is used up, or asking again would not
// help. While a limit lasts, nothing is sent.
func (c call) get(ctx context.Context, q question) (answer, error) {
	grow := backoff.NewExponentialBackOff()
	grow.InitialInterval, grow.MaxInterval, grow.Multiplier, grow.RandomizationFactor = time.Second, 30*time.Second, 2, 0.5
	pause := &pauses{ExponentialBackOff: grow}
	tries := 0
	attempt := func() (answer, error) {
		if held := c.heldBack(q); held != nil {
			pause.least = held.wait
			return answer{}, held
		}
		tries++
		a, err := c.ask(ctx, q)
		var e *Error
		switch {
		case err == nil:
			c.accepted()
			return a, nil
		case errors.As(err, &e) && e.again:
			pause.least = e.wait
			return a, e
		}
		return a, backoff.Permanent(err)
	}
	left := max(c.patience-time.Since(c.began), time.Nanosecond) // 0 would be no bound at all
	a, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(left))
	var e *Error
	switch {
	case err == nil:
		return a, nil
	case errors.As(err, &e):
		if e.Kind == ErrUnreachable && tries > 1 {
			e.Happened = fmt.Sprintf("%d attempts in %s failed, at last %s", tries, time.Since(c.began).Round(time.Second), e.Happened)
		}
	case ctx.Err() != nil:
		err = fmt.Errorf("asking %s for %s was ended: %w", c.base.Host, q.what, err)
	}
	return answer{}, err
}
