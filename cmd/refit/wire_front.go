package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/stages"
)

// fronted is what the balancer is asked by. *cloud.Client is one.
type fronted interface {
	Balancer(ctx context.Context, idOrName string) (cloud.Balancer, error)
	Droplets(ctx context.Context, tag string) ([]cloud.Droplet, error)
	BalancerHealth(ctx context.Context, b cloud.Balancer) (map[int]cloud.Checked, error)
	BalancerTraffic(ctx context.Context, balancer string, from, to time.Time) (cloud.Traffic, error)
}

// front is the balancer of refit.yml, in the fleet's own names.
type front struct {
	// open makes the way to the account, at the first question: a command that asks
	// nothing of it needs no token.
	open     func() (fronted, error)
	balancer string
	hosts    []hostConfig

	mu sync.Mutex
	id string // the balancer's, once it was looked up
}

// wireFront makes the balancer of refit.yml, if it names one, something to ask.
func (x *session) wireFront() {
	c := x.config
	if c.Cloud == nil || c.Cloud.Balancer == "" {
		return
	}
	x.deps.Front = &front{
		balancer: c.Cloud.Balancer, hosts: c.Hosts,
		open: sync.OnceValues(func() (fronted, error) {
			api, _, err := openCloud(c, *c.Cloud, nil)
			return api, err
		}),
	}
}

// openCloud is the way to an account. known is what is to be known of its token's file.
func openCloud(c config, of cloudConfig, say func(format string, args ...any)) (api *cloud.Client, known string, err error) {
	token, known, err := c.secret(of.Token, "cloud.token")
	if err != nil {
		return nil, "", err
	}
	api, err = cloud.New(cloud.Options{Token: token, API: of.API, UserAgent: "refit/" + version, Say: say})
	return api, known, err
}

// lookUp is the balancer as it stands now.
func (f *front) lookUp(ctx context.Context) (cloud.Balancer, error) {
	api, err := f.open()
	if err != nil {
		return cloud.Balancer{}, err
	}
	b, err := api.Balancer(ctx, f.balancer)
	if err != nil {
		return cloud.Balancer{}, fmt.Errorf("balancer %s: %w", f.balancer, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id = b.ID
	return b, nil
}

// State asks the balancer and its checks. Checks that cannot be read are not known;
// a balancer that cannot is an error.
func (f *front) State(ctx context.Context) (stages.FrontState, error) {
	b, err := f.lookUp(ctx)
	if err != nil {
		return stages.FrontState{}, err
	}
	api, err := f.open()
	if err != nil {
		return stages.FrontState{}, err
	}
	droplets, err := api.Droplets(ctx, "")
	if err != nil {
		return stages.FrontState{}, fmt.Errorf("droplets behind the balancer %s: %w", f.balancer, err)
	}
	s := stages.FrontState{Name: b.Name, Status: b.Status, Well: map[string]bool{}, Checked: map[string]time.Time{}}
	s.Behind, s.Strangers = sortOut(b, f.hosts, droplets)
	b.Droplets = membersOf(b, droplets)
	well, err := api.BalancerHealth(ctx, b)
	switch {
	case ctx.Err() != nil:
		return stages.FrontState{}, ctx.Err()
	case err != nil:
		s.Unknown = err.Error()
		return s, nil
	case len(well) == 0:
		s.Unknown = "its metrics have nothing of them"
		return s, nil
	}
	for _, h := range f.hosts {
		if d, err := dropletOf(h, droplets); err == nil {
			if is, known := well[d.ID]; known {
				s.Well[h.Name], s.Checked[h.Name] = is.Well, is.At
			}
		}
	}
	return s, nil
}

// Traffic is the balancer's own count, an estimate of its samples of rates; newest is when
// the last of them was taken.
func (f *front) Traffic(ctx context.Context, from, to time.Time) (sum nginx.Traffic, newest time.Time, err error) {
	if to.Sub(from) < time.Second { // its times are whole seconds
		return nginx.Traffic{}, time.Time{}, nil
	}
	f.mu.Lock()
	id := f.id
	f.mu.Unlock()
	if id == "" {
		s, err := f.lookUp(ctx)
		if err != nil {
			return nginx.Traffic{}, time.Time{}, err
		}
		id = s.ID
	}
	api, err := f.open()
	if err != nil {
		return nginx.Traffic{}, time.Time{}, err
	}
	t, err := api.BalancerTraffic(ctx, id, from, to)
	if errors.Is(err, cloud.ErrNotFound) {
		return nginx.Traffic{}, time.Time{}, nil
	}
	if err != nil {
		return nginx.Traffic{}, time.Time{}, err
	}
	if t.Samples == 0 {
		return nginx.Traffic{}, time.Time{}, nil
	}
	return nginx.Traffic{Requests: int(math.Round(t.Requests)), Errors: int(math.Round(t.Errors))}, t.Newest, nil
}
