package nginx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts/node"
)

// DrainOptions says which node and how patiently.
type DrainOptions struct {
	// Files are the include files on the proxies; nil for DefaultFiles.
	Files []string
	// Address of the node as it stands in those files, without a port.
	Address string
	// Ports of the node whose requests are waited for: Puma's. Streaming's are left
	// out, since a websocket stays until its server stops.
	Ports []int
	// Peers are the proxies' addresses as the node sees them; nil counts all peers.
	Peers []string
	// Within is how long requests in flight may take; 0 for 30 seconds.
	Within time.Duration
	// Every is how often they are counted; 0 for 250 ms.
	Every time.Duration
}

// Drained is how a drain ended.
type Drained struct {
	// Changed are the proxies that took the node out now; the others had it out.
	Changed []string
	// Left is how many connections were still open when the time was up, 0 for a
	// clean drain. Puma's own graceful stop finishes what they ask.
	Left int
	// Waited is how long requests in flight took.
	Waited time.Duration
}

// Drain takes the node out on all proxies at once, reads back that it is out on
// every one, and waits until no proxy has a connection to its Ports.
//
// Connections are what can be counted from outside, and they tell the requests:
// workers of the new generation do not connect to a node that is down, and those
// of the old one close their idle upstream connections when they begin to leave
// and each other one with its answer (ngx_close_idle_connections and the
// upstream keepalive module's exiting check).
//
// If one proxy fails, those that took the node out now get it back and the errors
// of both come back together.
func Drain(ctx context.Context, proxies []*node.Agent, target *node.Agent, o DrainOptions, say func(string)) (Drained, error) {
	var d Drained
	outs, err := setAll(ctx, proxies, o, true, say)
	for i, out := range outs {
		if out != nil && out.Changed {
			d.Changed = append(d.Changed, proxies[i].Host)
		}
	}
	if err == nil {
		err = readBack(ctx, proxies, o, true)
	}
	if err != nil {
		return d, errors.Join(err, putBack(ctx, proxies, d.Changed, o, say))
	}
	d.Left, d.Waited, err = waitInflight(ctx, target, o, say)
	return d, err
}

// Undrain gives the node back to all proxies at once and reads back that every
// one has it.
func Undrain(ctx context.Context, proxies []*node.Agent, o DrainOptions, say func(string)) error {
	if _, err := setAll(ctx, proxies, o, false, say); err != nil {
		return err
	}
	return readBack(ctx, proxies, o, false)
}

// DrainState reads on each proxy whether the node is out, by the proxy's name.
func DrainState(ctx context.Context, proxies []*node.Agent, o DrainOptions) (map[string]bool, error) {
	states := make([]bool, len(proxies))
	err := each(proxies, func(i int, a *node.Agent) error {
		out, err := GetUpstream(ctx, a, UpstreamIn{Files: o.Files})
		if err != nil {
			return err
		}
		down, known := out.Down(o.Address)
		if !known {
			return fmt.Errorf("%s: %w: %s", a.Host, ErrUnknownServer, o.Address)
		}
		states[i] = down
		return nil
	})
	byName := make(map[string]bool, len(proxies))
	for i, a := range proxies {
		byName[a.Host] = states[i]
	}
	return byName, err
}

// setAll asks all proxies at once. The answers are in the proxies' order, nil
// where one failed.
func setAll(ctx context.Context, proxies []*node.Agent, o DrainOptions, down bool, say func(string)) ([]*SetOut, error) {
	if len(proxies) == 0 {
		return nil, errors.New("no proxy to ask; a node without proxies cannot be drained")
	}
	outs := make([]*SetOut, len(proxies))
	voice := oneVoice(say)
	err := each(proxies, func(i int, a *node.Agent) error {
		out, err := SetUpstream(ctx, a, SetIn{Files: o.Files, Address: o.Address, Down: down}, func(s string) { voice(a.Host + ": " + s) })
		if err != nil {
			return err
		}
		outs[i] = &out
		return nil
	})
	return outs, err
}

// readBack fails unless every proxy's files say the same about the node.
func readBack(ctx context.Context, proxies []*node.Agent, o DrainOptions, down bool) error {
	states, err := DrainState(ctx, proxies, o)
	if err != nil {
		return err
	}
	var wrong []string
	for _, a := range proxies {
		if states[a.Host] != down {
			wrong = append(wrong, a.Host)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s changed its include files back; somebody else writes them", strings.Join(wrong, ", "))
	}
	return nil
}

// putBack brings the node up again on the proxies named, also when ctx is over.
func putBack(ctx context.Context, proxies []*node.Agent, names []string, o DrainOptions, say func(string)) error {
	var again []*node.Agent
	for _, a := range proxies {
		if slices.Contains(names, a.Host) {
			again = append(again, a)
		}
	}
	if len(again) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := setAll(ctx, again, o, false, say); err != nil {
		return fmt.Errorf("and the node could not be given back to every proxy: %w", err)
	}
	return nil
}

// waitInflight counts the node's connections until none is left or the time is up.
func waitInflight(ctx context.Context, target *node.Agent, o DrainOptions, say func(string)) (left int, waited time.Duration, err error) {
	within, every := o.Within, o.Every
	if within == 0 {
		within = 30 * time.Second
	}
	if every == 0 {
		every = 250 * time.Millisecond
	}
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := -1
	for {
		out, err := target.Inflight(ctx, node.InflightIn{Ports: o.Ports, Peers: o.Peers})
		if err != nil {
			return last, time.Since(begun), err
		}
		waited = time.Since(begun)
		if out.Total == 0 {
			return 0, waited, nil
		}
		if out.Total != last && say != nil {
			say(fmt.Sprintf("%s: waits for %d connections from the proxies", target.Host, out.Total))
		}
		last = out.Total
		if waited >= within {
			if say != nil {
				say(fmt.Sprintf("%s: %d connections are still open after %s; its graceful stop has to finish them", target.Host, last, within))
			}
			return last, waited, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, waited, fmt.Errorf("cannot wait for requests in flight on %s: %w", target.Host, context.Cause(ctx))
		}
	}
}

// each runs f for all agents at once and joins the errors in the agents' order.
func each(agents []*node.Agent, f func(int, *node.Agent) error) error {
	errs := make([]error, len(agents))
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() { errs[i] = f(i, a) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// oneVoice lets several speak without speaking at once. A nil say is silence.
func oneVoice(say func(string)) func(string) {
	var mu sync.Mutex
	return func(s string) {
		if say == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		say(s)
	}
}
