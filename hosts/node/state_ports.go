package node

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The states of a socket that waits for somebody, in the kernel's tables
// (include/net/tcp_states.h): TCP_LISTEN, and for UDP TCP_CLOSE, one that is connected to
// nobody.
var waitingStates = map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}

// listening are the ports on which this host listens, with the programs that do. UDP ports
// of the range that the kernel gives to clients are left out: who asks a name server looks
// there as if it listened.
func (m Machine) listening(own []netip.Addr) ([]Port, error) {
	programs, err := m.sockets()
	if err != nil {
		return nil, err
	}
	ephemeral, err := m.ephemeral()
	if err != nil {
		return nil, err
	}
	var out []Port
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open(m.proc("net", table))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without it
		}
		if err != nil {
			return nil, err
		}
		err = eachWaiting(f, waitingStates[table], func(a netip.Addr, port int, inode string) {
			p := Port{Protocol: strings.TrimSuffix(table, "6"), Address: a.String(), Port: port, Program: programs[inode]}
			switch {
			case a.IsUnspecified():
				p.Address = "*"
			case slices.Contains(own, a):
				p.Address = "self"
			}
			if p.Protocol == "tcp" || port < ephemeral {
				out = append(out, p)
			}
		})
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("cannot read the kernel's table of %s: %w", table, err)
		}
	}
	slices.SortFunc(out, func(a, b Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), strings.Compare(a.Address, b.Address), strings.Compare(a.Program, b.Program))
	})
	return slices.Compact(out), nil
}

// eachWaiting calls f for the sockets of a state, as eachConnection reads the table.
func eachWaiting(r io.Reader, state string, f func(a netip.Addr, port int, inode string)) error {
	s := bufio.NewScanner(r)
	for first := true; s.Scan(); first = false {
		w := strings.Fields(s.Text())
		if first || len(w) < 10 || w[3] != state {
			continue
		}
		a, port, err := parseEndpoint(w[1])
		if err != nil {
			return err
		}
		f(a, port, w[9])
	}
	return s.Err()
}

// sockets are the names of the programs that have sockets open, by the sockets' inodes. Of
// a socket that several have, it is the one with the lowest PID: the one that opened it.
func (m Machine) sockets() (map[string]string, error) {
	all, err := m.processes()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b process) int { return cmp.Compare(b.pid, a.pid) })
	out := map[string]string{}
	for _, p := range all {
		pid := strconv.Itoa(p.pid)
		// A process may end meanwhile, or not be ours to look at: its sockets are then without a name.
		fds, err := os.ReadDir(m.proc(pid, "fd"))
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(m.proc(pid, "comm"))
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSpace(string(comm)), " ")
		for _, fd := range fds {
			to, err := os.Readlink(m.proc(pid, "fd", fd.Name()))
			if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
				out[strings.TrimSuffix(inode, "]")] = name
			}
		}
	}
	return out, nil
}

// ephemeral is the first port of the range that the kernel gives to clients.
func (m Machine) ephemeral() (int, error) {
	b, err := os.ReadFile(m.proc("sys/net/ipv4/ip_local_port_range"))
	if err != nil {
		return 0, err
	}
	w := strings.Fields(string(b))
	if len(w) != 2 {
		return 0, fmt.Errorf("ip_local_port_range is %q", b)
	}
	return strconv.Atoi(w[0])
}
