package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vmst.io/refit/builds"
)

// DefaultFeed is Mastodon's own update check, which every instance asks
// (app/services/software_update_check_service.rb).
const DefaultFeed = "https://api.joinmastodon.org/update-check"

const (
	feedLimit = 30 * time.Second // for one answer
	feedBody  = 1 << 20          // bytes that are read of it
)

// ErrFeed: the update check did not answer, or something else answered for it.
var ErrFeed = errors.New("the update check failed")

// Feed is Mastodon's update check: the second witness of what was released, and the only
// one that says what is urgent. It lags behind the releases, so what it leaves out means
// nothing; what it names and GitHub does not list does.
type Feed struct {
	// URL of the check; empty for DefaultFeed.
	URL string
	// Transport; nil for http.DefaultTransport.
	Transport http.RoundTripper
	// Agent is the User-Agent; empty for "refit".
	Agent string
}

// Update is a release that the feed names.
type Update struct {
	Version builds.Version `json:"version"`
	// Urgent: upstream asks every admin by mail to run it.
	Urgent bool `json:"urgent"`
}

// Ask asks which releases are newer than the one that runs. All errors wrap ErrFeed, but
// for what ended ctx.
func (f Feed) Ask(ctx context.Context, running builds.Version) ([]Update, error) {
	at := f.URL
	if at == "" {
		at = DefaultFeed
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, fmt.Errorf("%w: its address is no URL", ErrFeed)
	}
	q := u.Query()
	q.Set("version", running.Number())
	u.RawQuery = q.Encode()
	body, err := f.get(ctx, u.String())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFeed, u.Host, err)
	}
	return readUpdates(u.Host, body)
}

func (f Feed) get(ctx context.Context, at string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, feedLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "refit")
	if f.Agent != "" {
		req.Header.Set("User-Agent", f.Agent)
	}
	client := http.Client{Transport: f.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text repeats the address
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, fmt.Errorf("its answer is no JSON, but %q", resp.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, feedBody+1))
	if err == nil && len(body) > feedBody {
		err = errors.New("its answer is larger than any that it gives")
	}
	return body, err
}

// readUpdates reads the answer. A version that is none is an error: a witness of whom
// half is understood is none.
func readUpdates(host string, body []byte) ([]Update, error) {
	var said struct {
		Available *[]struct {
			Version string `json:"version"`
			Urgent  *bool  `json:"urgent"`
		} `json:"updatesAvailable"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, fmt.Errorf("%w: %s: its answer cannot be read: %w", ErrFeed, host, err)
	}
	if said.Available == nil {
		return nil, fmt.Errorf("%w: %s: its answer has no updatesAvailable", ErrFeed, host)
	}
	out := []Update{}
	for _, one := range *said.Available {
		v, err := builds.ParseVersion(strings.TrimSpace(one.Version))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFeed, host, err)
		}
		if one.Urgent == nil {
			return nil, fmt.Errorf("%w: %s: it does not say whether %s is urgent", ErrFeed, host, v)
		}
		out = append(out, Update{v, *one.Urgent})
	}
	return out, nil
}

// Unlisted are the releases that the feed names and upstream does not list: one of the
// two is not what it should be.
func Unlisted(updates []Update, listed []Published) []builds.Version {
	var out []builds.Version
	for _, u := range updates {
		found := false
		for _, p := range listed {
			found = found || p.Version.Compare(u.Version) == 0
		}
		if !found {
			out = append(out, u.Version)
		}
	}
	return out
}

// Urgent tells whether the feed calls a release urgent, or one of its series below it
// that the fleet lacks.
func Urgent(updates []Update, c Candidate) bool {
	for _, u := range updates {
		if !u.Urgent {
			continue
		}
		if u.Version.Compare(c.Version) == 0 {
			return true
		}
		for _, p := range c.Over {
			if p.Version.Compare(u.Version) == 0 {
				return true
			}
		}
	}
	return false
}
