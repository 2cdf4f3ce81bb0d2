package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/webpage"
)

func listenFlag() cli.Flag {
	return &cli.StringFlag{Name: "listen", Usage: "serve a page for people at /, and /metrics, at `ADDRESS`, such as 127.0.0.1:9465 (default: watch.listen)"}
}

func exposeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "expose", Usage: "let --listen be an address that other machines reach: nobody is asked for a password there"}
}

// address is where the watcher serves, empty for nowhere. The flag takes the place of what
// stands in refit.yml, and what stands there does not speak for the flag.
func (o watchCall) address(c config) (string, error) {
	if o.once && (o.listen != "" || o.expose) {
		return "", exitWith(exitUsage, errors.New("watch --once ends after one look: it serves nothing, and takes no --listen"))
	}
	if o.listen == "" {
		if o.expose {
			return "", exitWith(exitUsage, errors.New("--expose speaks of --listen, and there is none: for watch.listen, write watch.expose: true"))
		}
		return c.Watch.Listen, nil
	}
	if err := listenable(o.listen, o.expose, "--expose"); err != nil {
		return "", exitWith(exitUsage, fmt.Errorf("--listen: %w", err))
	}
	return o.listen, nil
}

// listenable tells what is wrong with an address to serve at; say is how one says that
// other machines may reach it.
func listenable(at string, exposed bool, say string) error {
	host, port, err := net.SplitHostPort(at)
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is no address such as 127.0.0.1:9465", at)
	}
	if !exposed && !loopback(host) {
		return fmt.Errorf("%q can be reached from other machines, and nobody is asked for a password there: hosts, versions and what went wrong can be read by all who reach it. Listen at 127.0.0.1:%s and come through ssh -L or a proxy that asks who they are; or if that is meant, say so with %s", at, port, say)
	}
	return nil
}

// loopback tells whether only this machine reaches a host's name or address.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// page makes the page that is served at an address; nil where none is.
func (c config) page(at string) (*webpage.Page, error) {
	if at == "" {
		return nil, nil //nolint:nilnil // no page is no error
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	return webpage.New(webpage.Options{Fleet: c.Fleet, Version: version, Redact: redact(), Everywhere: !loopback(host)})
}

// serve serves the page and /metrics, where an address is named, until the function given
// back is called.
func (t *watchTellers) serve(ctx context.Context, at string) (func(streams), error) {
	if at == "" {
		return func(streams) {}, nil
	}
	listen := net.ListenConfig{}
	l, err := listen.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, exitWith(exitUsage, fmt.Errorf("cannot serve at %s: %w", at, err))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.metrics.Handler())
	mux.Handle("/", t.page.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.s.progress()("the page for people: http://%s/", l.Addr())
	return func(s streams) {
		if err := server.Close(); err != nil {
			s.progress()("closing the page: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			s.progress()("the page and /metrics were not served any more: %v", err)
		}
	}, nil
}

// show puts what a look found on the page: the hosts, and what the keeper knows. Where the
// keeper was just found silent it is not asked again.
func (f *watchedFleet) show(ctx context.Context, x *session, rows []report.HostRow) {
	if f.page == nil {
		return
	}
	f.page.Hosts(rows)
	for _, row := range rows {
		if row.Name == x.keeper.Name && (row.State == silentHost || row.State == unreachableHost) {
			f.page.Kept(nil, nil, fmt.Errorf("%s is %s: bring it back, then see `refit status`", row.Name, row.State))
			return
		}
	}
	lease, err := x.keeper.Show(ctx)
	if err != nil {
		f.page.Kept(nil, nil, err)
		return
	}
	past, err := f.pasts.read(ctx, x.keeper)
	if err != nil {
		f.page.Kept(nil, nil, err)
		return
	}
	var work *webpage.Work
	if lease.Held && !x.keeper.Succeeds(lease) {
		past = atWork(past, lease.Run)
		work = &webpage.Work{Run: lease.Run, By: lease.Holder.User + " on " + lease.Holder.Host, Why: cmp.Or(lease.Why, "not said"), Step: lease.Step, Since: lease.Acquired, Silent: lease.Expired()}
	}
	f.page.Kept(work, past, nil)
}
