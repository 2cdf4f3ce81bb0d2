package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// inNamespace runs f on a thread of its own inside the lab's network namespace.
// Sockets keep the namespace in which they are made, so what f opens can be used
// from anywhere. The thread is never unlocked: Go ends it with its goroutine, and
// no other goroutine can meet the wrong namespace.
func inNamespace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(filepath.Join(netnsDir, name))
			if err != nil {
				return fmt.Errorf("cannot enter the lab's network: %w", err)
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("cannot enter the lab's network: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}

// Enter moves the calling thread into the lab's network namespace for good. The
// caller has locked the thread and will replace the process by another program.
func Enter() error {
	ns, err := os.Open(filepath.Join(netnsDir, netns))
	if err != nil {
		return fmt.Errorf("cannot enter the lab's network: %w", err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot enter the lab's network: %w", err)
	}
	return nil
}

// listen opens a TCP listener inside the lab's network.
func listen(address string) (net.Listener, error) {
	var l net.Listener
	err := inNamespace(netns, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s in the lab: %w", address, err)
	}
	return l, nil
}

// Listen opens a TCP listener inside the lab's network, where refit and the hosts find
// it; 127.0.0.1 there is refit's own.
func (l *Lab) Listen(address string) (net.Listener, error) { return listen(address) }

// DialContext connects from inside the lab's network. Host names of the lab and
// its domain (which is the balancer) are known; other names are refused, since the
// lab has no name server.
func (l *Lab) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot dial %s: %w", address, err)
	}
	ip, err := l.resolve(host)
	if err != nil {
		return nil, err
	}
	var c net.Conn
	err = inNamespace(netns, func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, net.JoinHostPort(ip, port))
		return err
	})
	return c, err
}

// resolve gives the address of a name in the lab.
func (l *Lab) resolve(host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	name := strings.TrimSuffix(host, "."+Domain)
	switch name {
	case Domain:
		name = "pike"
	case "redis":
		return l.Redis, nil
	case "majel-db":
		return DatabaseAddress, nil
	}
	m, err := machine(name)
	if err != nil {
		return "", fmt.Errorf("cannot resolve %s: %w", host, err)
	}
	return m.Address, nil
}

// HTTPClient gives a client whose connections start inside the lab and that trusts
// the lab's own authority. Its transport keeps up to 32 idle connections per host.
func (l *Lab) HTTPClient() (*http.Client, error) {
	conf, err := l.trust()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: l.DialContext, TLSClientConfig: conf,
			MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
		},
	}, nil
}
