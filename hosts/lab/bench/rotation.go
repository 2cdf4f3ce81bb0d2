package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts/lab"
)

// outOf is one time that a web node was out of rotation.
type outOf struct {
	// from the first proxy that took it out, until the last that has it back.
	from, until time.Time
	// everywhere is when all proxies had it out, drained when none of them had a request
	// under way there any more.
	everywhere, drained time.Time
}

// rotation watches which web nodes are out of rotation.
type rotation struct {
	proxies int
	out     map[string][]outOf // by the node's address
}

// see takes in one look: on how many proxies each node is down, and how many of
// their requests a node has.
func (r *rotation) see(at time.Time, down map[string]int, requests func(address string) int) {
	for address, n := range down {
		all := r.out[address]
		open := len(all) > 0 && all[len(all)-1].until.IsZero()
		switch {
		case n > 0 && !open:
			all = append(all, outOf{from: at})
		case n == 0 && open:
			all[len(all)-1].until = at
		}
		r.out[address] = all
		if n == 0 || len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		if n == r.proxies && last.everywhere.IsZero() {
			last.everywhere = at
		}
		if !last.everywhere.IsZero() && last.drained.IsZero() && requests(address) == 0 {
			last.drained = at
		}
	}
}

// of sums what was seen of a node: how long it was out, and how long of that it took
// until its requests were answered.
func (r *rotation) of(address string) (out, drain time.Duration, err error) {
	all := r.out[address]
	if len(all) == 0 {
		return 0, 0, fmt.Errorf("%s was never out of rotation", address)
	}
	for _, o := range all {
		if o.until.IsZero() {
			return 0, 0, fmt.Errorf("%s was still out of rotation at the end", address)
		}
		out += o.until.Sub(o.from)
		if !o.drained.IsZero() {
			drain += o.drained.Sub(o.from)
		}
	}
	return out, drain, nil
}

// downIn tells which of the addresses a proxy's include file has down.
func downIn(file string, addresses []string) []string {
	var out []string
	for line := range strings.Lines(file) {
		words := strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), ";"))
		if len(words) < 3 || words[0] != "server" || words[len(words)-1] != "down" {
			continue
		}
		if host, _, ok := strings.Cut(words[1], ":"); ok && slices.Contains(addresses, host) {
			out = append(out, host)
		}
	}
	return out
}

// established counts in /proc/net/tcp the open connections on a port from some peers.
func established(table string, port int, peers []string) int {
	n := 0
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "01" {
			continue
		}
		_, local, ok1 := hexAddress(f[1])
		from, _, ok2 := hexAddress(f[2])
		if ok1 && ok2 && local == port && slices.Contains(peers, from) {
			n++
		}
	}
	return n
}

// hexAddress reads "0B004D0A:0BB8": the address as the kernel has it in memory, on
// the little-endian machines that the lab runs on.
func hexAddress(s string) (address string, port int, ok bool) {
	host, p, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b) != 4 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(p, 16, 16)
	if err != nil {
		return "", 0, false
	}
	slices.Reverse(b)
	return netip.AddrFrom4([4]byte(b)).String(), int(n), true
}

// rotationWatch looks at the lab's proxies until it is stopped.
type rotationWatch struct {
	rotation
	stop context.CancelFunc
	done sync.WaitGroup
	err  error
}

// watchRotation begins to look, fifty times a second: a drain takes tenths.
func watchRotation(ctx context.Context, l *lab.Lab, f fleet) (*rotationWatch, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &rotationWatch{rotation: rotation{proxies: len(f.proxies), out: map[string][]outOf{}}, stop: stop}
	tables, webs := map[string]string{}, strings.Fields(addresses(f.webs))
	for _, m := range f.webs {
		pid, err := l.Leader(m.Name)
		if err == nil && pid == 0 {
			err = errors.New("it is not up")
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("cannot watch %s: %w", m.Name, err)
		}
		tables[m.Address] = filepath.Join("/proc", strconv.Itoa(pid), "net/tcp")
	}
	requests := func(address string) int {
		b, err := os.ReadFile(tables[address])
		if err != nil {
			return 1 // not known: not drained
		}
		return established(string(b), 3000, strings.Fields(addresses(f.proxies)))
	}
	w.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			down := map[string]int{}
			for _, address := range webs {
				down[address] = 0
			}
			for _, p := range f.proxies {
				b, err := os.ReadFile(filepath.Join(l.Root(p.Name), "etc/nginx/refit/web.conf"))
				if err != nil {
					w.err = fmt.Errorf("cannot watch the rotation: %w", err)
					return
				}
				for _, address := range downIn(string(b), webs) {
					down[address]++
				}
			}
			w.see(time.Now(), down, requests)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return w, nil
}

// end stops looking.
func (w *rotationWatch) end() error {
	w.stop()
	w.done.Wait()
	return w.err
}
