package builds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Patience is how a registry is asked. The zero value is what it is for real.
type Patience struct {
	// Each is how long one question may take, whole; 0 for a minute.
	Each time.Duration `json:"each,omitempty"`
	// Tries is how often it is asked; 0 for three times.
	Tries int `json:"tries,omitempty"`
	// Pause is the time before it is asked again, doubled each time; 0 for a second.
	Pause time.Duration `json:"pause,omitempty"`
}

func (p Patience) filled() Patience {
	if p.Each == 0 {
		p.Each = time.Minute
	}
	if p.Tries == 0 {
		p.Tries = 3
	}
	if p.Pause == 0 {
		p.Pause = time.Second
	}
	return p
}

// errNotThere: the registry answered that it has no such thing.
var errNotThere = errors.New("not there")

// maxFetch bounds what is taken in at once, bytes; yarn's package, the largest, is 3 MB.
const maxFetch = 64 << 20

// Repeat asks until there is an answer, an error that another try would not change, or
// the tries are spent. again tells whether it may be otherwise the next time.
func (p Patience) Repeat(ctx context.Context, ask func() (again bool, err error)) error {
	p = p.filled()
	pause := &backoff.ExponentialBackOff{InitialInterval: p.Pause, Multiplier: 2, MaxInterval: time.Minute}
	var last error
	asked := 0
	attempt := func() (struct{}, error) {
		asked++
		var again bool
		if again, last = ask(); last != nil && !again {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}
	_, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(pause), backoff.WithMaxTries(uint(p.Tries)), backoff.WithMaxElapsedTime(0))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(last, context.Cause(ctx)):
		return fmt.Errorf("%w; it was not asked again: %w", last, context.Cause(ctx))
	case asked > 1:
		return fmt.Errorf("%w (asked %d times)", last, asked)
	}
	return last
}

// get fetches a small thing whole. A server that does not answer, falls silent, breaks
// off or says that it is not well is asked again.
func (p Patience) get(ctx context.Context, url, accept string) (body []byte, err error) {
	p = p.filled()
	err = p.Repeat(ctx, func() (again bool, err error) {
		body, again, err = p.once(ctx, url, accept)
		return again, err
	})
	return body, err
}

// once asks once; again tells whether it may be otherwise the next time.
func (p Patience) once(ctx context.Context, url, accept string) (body []byte, again bool, err error) {
	silent := fmt.Errorf("it did not answer within %s", p.Each)
	ctx, cancel := context.WithTimeoutCause(ctx, p.Each, silent)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, fmt.Errorf("cannot ask for %s: %w", url, err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	why := func(err error) error {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("cannot fetch %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, true, why(err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound || code == http.StatusGone:
		return nil, false, fmt.Errorf("%s is %w", url, errNotThere)
	default:
		return nil, code >= 500 || code == http.StatusTooManyRequests, fmt.Errorf("cannot fetch %s: the server answered %s", url, resp.Status)
	}
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxFetch+1)); err != nil {
		return nil, true, why(err)
	}
	if len(body) > maxFetch {
		return nil, false, fmt.Errorf("cannot fetch %s: it is larger than %s", url, size(maxFetch))
	}
	return body, false, nil
}
