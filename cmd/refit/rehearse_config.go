package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"vmst.io/refit/stages"
)

// rehearseConfig says what a rehearsal makes, and what its copies must not reach.
type rehearseConfig struct {
	// Valkey is the size of the Redis that is made.
	Valkey string `yaml:"valkey"`
	// Closed are public addresses, "host:port", that a copy must not reach.
	Closed []string `yaml:"closed"`
}

func (c rehearseConfig) check(w *wrongs) {
	if c.Valkey == "" {
		w.say("cloud.rehearse.valkey", "is empty: a size of the provider's for managed Valkey, such as db-s-1vcpu-1gb")
	}
	if len(c.Closed) == 0 {
		w.say("cloud.rehearse.closed", "is empty: a public address that answers, such as 1.1.1.1:443, by which it is proved that nothing gets out")
	}
	for i, a := range c.Closed {
		_, port, err := net.SplitHostPort(a)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			w.say(fmt.Sprintf("cloud.rehearse.closed[%d]", i), "%q is no address with a port, such as 1.1.1.1:443", a)
		}
	}
}

// wireRehearsals puts in what it takes to upgrade a copy, where refit.yml names a database.
func (x *session) wireRehearsals(api stages.CopyAPI) {
	c := x.config.Cloud
	if c.Database == "" {
		return
	}
	x.deps.Rehearsals = &stages.Rehearsals{
		API: api, Database: c.Database, Valkey: c.Rehearse.Valkey, Closed: c.Rehearse.Closed,
		Resolve: resolve,
	}
}

// resolve asks this machine's own name servers.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}
