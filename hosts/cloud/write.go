package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/godo"
)

// write is one that costs something when it is done twice.
type write[T any] struct {
	deed
	// before is asked right before each sending; nil where nothing is to be known.
	before func(ctx context.Context, k call) error
	send   func(ctx context.Context) (T, *godo.Response, error)
	// found looks for the effect of a sending whose answer was lost.
	found func(ctx context.Context, k call) (T, bool, error)
}

// do sends a write once. It is sent again only after the API said that it was not done (the
// limit of requests, an action open on the droplet), or when no connection came about. An
// answer that is lost makes it look for the effect, for a patience: found is done, and not
// found is ErrLost.
func (w write[T]) do(ctx context.Context, c *Client) (T, error) {
	var none T
	k := c.begin()
	pause := growing(time.Second, 20*time.Second)
	line := queue{Client: c, deed: w.deed, began: time.Now()}
	for {
		if w.before != nil {
			if err := w.before(ctx, c.begin()); err != nil {
				return none, err
			}
		}
		got, _, err := once(ctx, c, w.deed, w.send)
		f, ok := err.(*fault) //nolint:errorlint // once wraps none
		switch {
		case err == nil:
			return got, nil
		case !ok:
			return none, fmt.Errorf("%w; it may have been done all the same, which is looked for when it is run again", err)
		case f.kind == ErrBusy && w.on != 0: //nolint:errorlint // it is the kind itself
			if err := line.wait(ctx, f); err != nil {
				return none, err
			}
			k = c.begin()
		case f.fate == unsent:
			pause.least = f.wait
			next := pause.NextBackOff()
			if next > k.left() {
				return none, f
			}
			if err := rest(ctx, next); err != nil {
				return none, fmt.Errorf("it was ended before it could %s at %s, and nothing was sent: %w", w.what, c.host, err)
			}
		case f.fate == unknown:
			return w.look(ctx, c, f)
		default:
			return none, f
		}
	}
}

// look waits for the effect to show.
func (w write[T]) look(ctx context.Context, c *Client, lost *fault) (T, error) {
	var none T
	c.say("the answer was lost when asked to %s (%s): its effect is looked for", w.what, lost.happened)
	k := c.begin()
	pause := growing(time.Second, 10*time.Second)
	for {
		got, ok, err := w.found(ctx, k)
		if err == nil && ok {
			return got, nil
		}
		if ctx.Err() == nil && (err == nil || errors.Is(err, ErrNotFound)) {
			if next := pause.NextBackOff(); time.Now().Add(next).Before(k.ends) {
				err = rest(ctx, next)
				if err == nil {
					continue
				}
			}
		}
		lost.kind = ErrLost
		lost.happened += fmt.Sprintf("; what it should have done was not there after %s", c.patience)
		lost.advice = "it may still come: run it again, which looks for it before it sends anything"
		if err != nil && !errors.Is(err, ErrNotFound) {
			return none, fmt.Errorf("%w (looking for it failed: %w)", lost, err)
		}
		return none, lost
	}
}

// queue waits for its turn on a droplet.
type queue struct {
	*Client
	deed
	began time.Time
	idle  time.Time // since when the API refuses while no action is open
}

// wait returns when the action that stood in the way has ended, or with an error that says
// which it is.
func (q *queue) wait(ctx context.Context, busy *fault) error {
	open, ok, err := q.Pending(ctx, q.on)
	switch {
	case err != nil:
		return fmt.Errorf("%w; what is open there cannot be read: %w", busy, err)
	case !ok && q.idle.IsZero():
		q.idle = time.Now()
		return rest(ctx, jittered(2*time.Second))
	case !ok && time.Since(q.idle) < q.patience:
		return rest(ctx, jittered(10*time.Second))
	case !ok:
		busy.happened += fmt.Sprintf(", for %s, while the droplet %d has no open action", q.patience, q.on)
		return busy
	}
	q.idle = time.Time{}
	q.say("the droplet %d has an open action, %s (%d), since %s: it is waited for", q.on, open.Type, open.ID, clock(open.Started))
	within, cancel := context.WithDeadlineCause(ctx, q.began.Add(q.turn), errTurn)
	defer cancel()
	err = q.Await(within, q.on, open.ID, 0, q.say)
	switch {
	case err == nil || errors.Is(err, ErrErrored):
		return nil // how another's ended is not our matter
	case errors.Is(err, errTurn):
		busy.happened = fmt.Sprintf("the droplet %d has an open action, %s (%d), since %s, and it did not end within %s", q.on, open.Type, open.ID, clock(open.Started), q.turn)
		return busy
	}
	return err
}

var errTurn = errors.New("another action on the droplet is open for too long")
