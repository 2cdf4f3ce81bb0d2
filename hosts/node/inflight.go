package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

func (m Machine) inflight(_ context.Context, in InflightIn, _ io.Reader, _ func(string)) (InflightOut, error) {
	out := InflightOut{Ports: make(map[int]int), Peers: make(map[string]int)}
	for _, p := range in.Ports {
		out.Ports[p] = 0
	}
	peers := make(map[netip.Addr]bool)
	for _, p := range in.Peers {
		a, err := netip.ParseAddr(p)
		if err != nil {
			return out, fmt.Errorf("cannot count connections: %w", err)
		}
		peers[a.Unmap()] = true
	}
	for _, file := range []string{"tcp", "tcp6"} {
		f, err := os.Open(m.proc("net", file))
		if errors.Is(err, fs.ErrNotExist) && file == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return out, err
		}
		err = eachConnection(f, func(port int, peer netip.Addr) {
			if _, ok := out.Ports[port]; !ok || len(peers) > 0 && !peers[peer] {
				return
			}
			out.Ports[port]++
			out.Peers[peer.String()]++
			out.Total++
		})
		if err := errors.Join(err, f.Close()); err != nil {
			return out, fmt.Errorf("cannot read the kernel's connections: %w", err)
		}
	}
	return out, nil
}

// eachConnection calls f for the established connections (state 01) of a table
// like /proc/net/tcp, see proc_net_tcp in the kernel's documentation: addresses
// are groups of four bytes in the machine's order, in hex.
func eachConnection(r io.Reader, f func(port int, peer netip.Addr)) error {
	s := bufio.NewScanner(r)
	for first := true; s.Scan(); first = false {
		w := strings.Fields(s.Text())
		if first || len(w) < 4 || w[3] != "01" {
			continue
		}
		_, local, err := parseEndpoint(w[1])
		if err != nil {
			return err
		}
		peer, _, err := parseEndpoint(w[2])
		if err != nil {
			return err
		}
		f(local, peer)
	}
	return s.Err()
}

func parseEndpoint(s string) (netip.Addr, int, error) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	if err == nil && (!ok || len(b)%4 != 0) {
		err = errors.New("no address and port")
	}
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("cannot read the address %q: %w", s, err)
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, 0, fmt.Errorf("cannot read the address %q", s)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("cannot read the port of %q: %w", s, err)
	}
	return a.Unmap(), int(n), nil
}
