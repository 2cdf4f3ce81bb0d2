package nginx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// ErrServes: the server is up, so it cannot be taken out of the file. Worth a retry once
// it was marked down.
var ErrServes = errors.New("the server is up")

// JoinIn writes a new node into the include files.
type JoinIn struct {
	// Files as in UpstreamIn.
	Files []string `json:"files,omitempty"`
	// Address of the new node, without a port.
	Address string `json:"address"`
	// Like is the address of the node whose lines are its model, without a port.
	Like string `json:"like"`
	// Within as in SetIn.
	Within time.Duration `json:"within,omitempty"`
}

// LeaveIn takes a node out of the include files.
type LeaveIn struct {
	// Files as in UpstreamIn.
	Files []string `json:"files,omitempty"`
	// Address of the node, without a port.
	Address string `json:"address"`
	// Within as in SetIn.
	Within time.Duration `json:"within,omitempty"`
}

// join is the verb "upstream.join".
func (p *proxy) join(ctx context.Context, in JoinIn, say func(string)) (SetOut, error) {
	// It becomes part of a configuration file.
	if net.ParseIP(in.Address) == nil {
		return SetOut{}, fmt.Errorf("cannot add %q to an upstream: it is no address", in.Address)
	}
	return p.change(ctx, in.Files, in.Within, in.Address+" stands in the upstreams", func(inc *Include) (bool, error) {
		return inc.Join(in.Address, in.Like)
	}, say)
}

// leave is the verb "upstream.leave".
func (p *proxy) leave(ctx context.Context, in LeaveIn, say func(string)) (SetOut, error) {
	if in.Address == "" {
		return SetOut{}, errors.New("cannot take a node out without its address")
	}
	return p.change(ctx, in.Files, in.Within, in.Address+" stands in no upstream", func(inc *Include) (bool, error) {
		return inc.Leave(in.Address)
	}, say)
}

// Join writes a server at address for each one at like, with its port and parameters and
// marked down, after the last of those. It tells whether that changed anything: a server
// that is there already stays as it is, up or down. ErrUnknownServer: none is at like.
func (inc *Include) Join(address, like string) (changed bool, err error) {
	var added []line
	last := -1
	for i, l := range inc.lines {
		if l.server == nil {
			continue
		}
		if l.server.Host() == address {
			return false, nil
		}
		if l.server.Host() != like {
			continue
		}
		_, port, err := net.SplitHostPort(l.server.Address)
		if err != nil {
			return false, fmt.Errorf("cannot read %s in %s: %w", l.server.Address, inc.Path, err)
		}
		s := *l.server
		s.Address, s.Down, s.Params = net.JoinHostPort(address, port), true, slices.Clone(s.Params)
		// A comment speaks of the model alone.
		added = append(added, line{text: render(s, line{text: l.text}), server: &s})
		last = i
	}
	if last < 0 {
		return false, fmt.Errorf("cannot find %s in %s: %w", like, inc.Path, ErrUnknownServer)
	}
	inc.lines = slices.Insert(inc.lines, last+1, added...)
	inc.number()
	return true, nil
}

// Leave takes out every server at address, which must be down, and tells whether there
// was any. ErrServes: one is up.
func (inc *Include) Leave(address string) (changed bool, err error) {
	at := func(l line) bool { return l.server != nil && l.server.Host() == address }
	for _, l := range inc.lines {
		if at(l) && !l.server.Down {
			return false, fmt.Errorf("cannot take %s out of %s: %w; mark it down first", address, inc.Path, ErrServes)
		}
	}
	before := len(inc.lines)
	inc.lines = slices.DeleteFunc(inc.lines, at)
	inc.number()
	return len(inc.lines) != before, nil
}

// number gives the servers the numbers of their lines anew.
func (inc *Include) number() {
	for i, l := range inc.lines {
		if l.server != nil {
			l.server.Line = i + 1
		}
	}
}
