package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"vmst.io/refit/hosts/lab"
)

// Boot is what a node's processes take to stop and to start while no node is rolled.
// Users are at work on the others as in the rolls: all hosts share one machine's
// processors, and beside users everything takes longer there.
type Boot struct {
	// Seconds from the start of the units until web answers its health check and
	// streaming its own, or until Sidekiq takes jobs: the median of Tries.
	Seconds float64   `json:"seconds"`
	Tries   []float64 `json:"tries"`
	// Stop is how long the units took to stop, idle: the median.
	Stop float64 `json:"stop_seconds"`
}

// bootTries is how often each node is booted.
const bootTries = 3

// bareBoots boots the application on every node, one after the other.
func (b *bench) bareBoots(ctx context.Context) (map[string]Boot, error) {
	load, err := b.Lab.StartLoad(ctx, lab.LoadOptions{})
	if err != nil {
		return nil, err
	}
	defer load.Stop()
	out := map[string]Boot{}
	for _, m := range b.fleet.nodes() {
		if err := b.rotation(ctx, m, "down"); err != nil {
			return nil, err
		}
		var boot Boot
		var stops []float64
		for range bootTries {
			stop, start, err := b.bareBoot(ctx, m)
			if err != nil {
				return nil, fmt.Errorf("cannot measure the boot of %s: %w", m.Name, err)
			}
			stops, boot.Tries = append(stops, stop), append(boot.Tries, start)
		}
		boot.Seconds, boot.Stop = median(boot.Tries), median(stops)
		if err := b.rotation(ctx, m, "up"); err != nil {
			return nil, err
		}
		b.Say("bench: %s beside users: stops in %.2f s, boots in %.2f s", m.Name, boot.Stop, boot.Seconds)
		out[m.Name] = boot
	}
	return out, b.Well(ctx)
}

// rotation takes a web node out of rotation on every proxy, or puts it back.
func (b *bench) rotation(ctx context.Context, m lab.Machine, way string) error {
	if !has(m, "web") {
		return nil
	}
	for _, p := range b.fleet.proxies {
		if _, err := b.Lab.Inside(ctx, p.Name, helpers+"/upstream", way, m.Address); err != nil {
			return fmt.Errorf("cannot take %s %s on %s: %w", m.Name, way, p.Name, err)
		}
	}
	return nil
}

func (b *bench) bareBoot(ctx context.Context, m lab.Machine) (stop, start float64, err error) {
	began := time.Now()
	if _, err := b.Lab.Inside(ctx, m.Name, append([]string{"systemctl", "stop"}, units(m)...)...); err != nil {
		return 0, 0, err
	}
	stop = time.Since(began).Seconds()
	began = time.Now()
	if _, err := b.Lab.Inside(ctx, m.Name, append([]string{"systemctl", "start"}, units(m)...)...); err != nil {
		return 0, 0, err
	}
	ended, err := b.booted(ctx, m, began)
	return stop, ended.Sub(began).Seconds(), err
}

// booted waits until a node that was started serves, or works, and tells since when.
func (b *bench) booted(ctx context.Context, m lab.Machine, began time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// Asking Redis takes the processor that boots; the answer is exact all the same.
	pace := 250 * time.Millisecond
	if has(m, "web") {
		pace = 20 * time.Millisecond
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	client, err := b.Lab.HTTPClient()
	if err != nil {
		return began, err
	}
	defer client.CloseIdleConnections()
	var last error
	for {
		var since time.Time
		if has(m, "web") {
			since, last = answers(ctx, client, "http://"+m.Address+":3000/health", "http://"+m.Address+":4000/api/v1/streaming/health")
		} else {
			since, last = workingSince(ctx, b.Lab, m)
		}
		if last == nil && since.After(began) {
			return since, nil
		}
		select {
		case <-ctx.Done():
			return began, errors.Join(fmt.Errorf("%s does not boot: %w", m.Name, context.Cause(ctx)), last)
		case <-tick.C:
		}
	}
}

// answers is now if all addresses answer 200.
func answers(ctx context.Context, client *http.Client, urls ...string) (time.Time, error) {
	for _, u := range urls {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err != nil {
			return time.Time{}, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return time.Time{}, err
		}
		if err := resp.Body.Close(); err != nil {
			return time.Time{}, err
		}
		if resp.StatusCode != http.StatusOK {
			return time.Time{}, fmt.Errorf("%s answers %s", u, resp.Status)
		}
	}
	return time.Now(), nil
}

// median of some numbers; the mean of the middle two of an even number; 0 of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}
