package cloud

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/digitalocean/godo"
)

// deed is a request, for people and for the errors of it.
type deed struct {
	what  string // what cannot be done when it fails: "read the droplet 12"
	scope string // that the token needs (official description, security of each path)
	on    int    // the droplet whose open action makes the API refuse it; 0 for none
}

// call is one call of a caller's: all that it reads shares one patience.
type call struct {
	*Client
	ends time.Time
}

func (c *Client) begin() call { return call{c, time.Now().Add(c.patience)} }

// left is how much patience there is; never 0, which would be no bound to backoff.
func (k call) left() time.Duration { return max(time.Until(k.ends), time.Nanosecond) }

// pauses grow with jitter, and are never shorter than the API asked for.
type pauses struct {
	*backoff.ExponentialBackOff
	least time.Duration
}

func growing(first, most time.Duration) *pauses {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, most, 2, 0.5
	return &pauses{ExponentialBackOff: b}
}

// NextBackOff implements backoff.BackOff.
func (p *pauses) NextBackOff() time.Duration { return max(p.ExponentialBackOff.NextBackOff(), p.least) }

// rest waits, or returns why ctx ended.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// jittered is d, up to a fifth shorter or longer, so that a fleet's polls do not coincide.
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

// once sends a request and waits for its whole answer. Its error is a *fault, or the cause
// that ended ctx.
func once[T any](ctx context.Context, c *Client, d deed, send func(context.Context) (T, *godo.Response, error)) (T, *godo.Response, error) {
	var none T
	if held := c.heldBack(d); held != nil {
		return none, nil, held
	}
	within, cancel := context.WithTimeoutCause(ctx, c.answer, errSlow)
	defer cancel()
	got, resp, err := send(within)
	switch {
	case err == nil:
		return got, resp, nil
	case ctx.Err() != nil:
		return none, nil, fmt.Errorf("it was ended before it could %s at %s: %w", d.what, c.host, context.Cause(ctx))
	}
	return none, nil, c.judge(d, within, err)
}

// get reads: it asks until an answer came, the patience is used up, or asking again would
// not help.
func get[T any](ctx context.Context, k call, d deed, send func(context.Context) (T, *godo.Response, error)) (T, *godo.Response, error) {
	type answer struct {
		got  T
		resp *godo.Response
	}
	pause := growing(time.Second, 20*time.Second)
	tries := 0
	a, err := backoff.Retry(ctx, func() (answer, error) {
		tries++
		got, resp, err := once(ctx, k.Client, d, send)
		f, ok := err.(*fault) //nolint:errorlint // once wraps none
		switch {
		case err == nil:
			return answer{got, resp}, nil
		case ok && f.fate != refused:
			pause.least = f.wait
			return answer{}, f
		}
		return answer{}, backoff.Permanent(err)
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(k.left()))
	f, ok := err.(*fault) //nolint:errorlint // as above
	switch {
	case err == nil:
		return a.got, a.resp, nil
	case ok && f.fate == unknown && tries > 1:
		f.happened = fmt.Sprintf("%d attempts failed, at last %s", tries, f.happened)
	case !ok && ctx.Err() != nil:
		err = fmt.Errorf("it was ended before it could %s at %s: %w", d.what, k.host, context.Cause(ctx))
	}
	return a.got, a.resp, err
}

// fetch reads one thing; an answer without it is none.
func fetch[T any](ctx context.Context, k call, d deed, send func(context.Context) (*T, *godo.Response, error)) (T, error) {
	got, _, err := get(ctx, k, d, whole(send))
	if err != nil {
		var none T
		return none, err
	}
	return *got, nil
}

// whole makes an answer without its thing an error: godo returns nil for it.
func whole[T any](send func(context.Context) (*T, *godo.Response, error)) func(context.Context) (*T, *godo.Response, error) {
	return func(ctx context.Context) (*T, *godo.Response, error) {
		got, resp, err := send(ctx)
		if err == nil && got == nil {
			err = errHollow
		}
		return got, resp, err
	}
}

const (
	perPage = 200 // the most that the API gives (official description, per_page)
	// mostPages ends a list that never does.
	mostPages = 500
)

// all reads every page of a list. A list that changes its length while it is read is read
// anew: what moved from one page to the one before would be missed, and what is missed may
// be made a second time. For the same reason an answer without the list is none.
func all[T any](ctx context.Context, k call, d deed, list func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error)) ([]T, error) {
	for {
		out, changed, err := pages(ctx, k, d, list)
		if err != nil || !changed {
			return out, err
		}
		if time.Until(k.ends) <= 0 {
			return nil, &fault{
				deed: d, host: k.host, happened: "the list changes every time that it is read",
				advice: "see what makes and deletes there, and run it again",
			}
		}
		if err := rest(ctx, jittered(time.Second)); err != nil {
			return nil, fmt.Errorf("it was ended before it could %s at %s: %w", d.what, k.host, err)
		}
	}
}

func pages[T any](ctx context.Context, k call, d deed, list func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error)) ([]T, bool, error) {
	out := []T{}
	total := -1
	for page := 1; page <= mostPages; page++ {
		part, resp, err := get(ctx, k, d, func(ctx context.Context) ([]T, *godo.Response, error) {
			part, resp, err := list(ctx, &godo.ListOptions{Page: page, PerPage: perPage})
			if err == nil && part == nil {
				err = errHollow
			}
			return part, resp, err
		})
		if err != nil {
			return nil, false, err
		}
		out = append(out, part...)
		if resp.Meta != nil {
			if total >= 0 && resp.Meta.Total != total {
				return nil, true, nil
			}
			total = resp.Meta.Total
		}
		if resp.Links == nil || resp.Links.IsLastPage() {
			return out, false, nil
		}
	}
	return nil, false, &fault{
		deed: d, host: k.host, happened: fmt.Sprintf("the list has more than %d pages", mostPages),
		advice: "see what answers there; what it said is not used",
	}
}
