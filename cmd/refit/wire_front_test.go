package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// aFronted is an account that is asked for its balancer.
type aFronted struct {
	*anAccount
	well       map[int]cloud.Checked
	wellErr    error
	traffic    cloud.Traffic
	trafficErr error
	members    []int    // whose health was asked for
	asked      []string // balancers, for their traffic
}

func (a *aFronted) BalancerHealth(_ context.Context, b cloud.Balancer) (map[int]cloud.Checked, error) {
	a.members = b.Droplets
	return a.well, a.wellErr
}

func (a *aFronted) BalancerTraffic(_ context.Context, id string, _, _ time.Time) (cloud.Traffic, error) {
	a.asked = append(a.asked, id)
	return a.traffic, a.trafficErr
}

func aFrontOf(a *aFronted) *front {
	return &front{
		open: func() (fronted, error) { return a, nil }, balancer: "pike",
		hosts: []hostConfig{
			{Name: "sulu", Address: "10.10.0.11", Roles: []hosts.Role{hosts.Proxy}},
			{Name: "chekov", Address: "10.10.0.12", Roles: []hosts.Role{hosts.Proxy}},
			{Name: "kirk", Address: "10.10.0.21", Roles: []hosts.Role{hosts.Web}},
		},
	}
}

func TestTheBalancerIsToldInTheFleetsOwnNames(t *testing.T) {
	a := &aFronted{anAccount: seed(), well: map[int]cloud.Checked{11: {Well: true, At: time.Unix(100, 0)}, 12: {At: time.Unix(160, 0)}, 51: {Well: true}}}
	a.balancers[0].Droplets = []int{12, 11, 51, 999}
	s, err := aFrontOf(a).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "pike" || s.Status != "active" || !slices.Equal(s.Behind, []string{"sulu", "chekov"}) ||
		!slices.Equal(s.Strangers, []string{"droplet 51 (khan.vmst.io)", "droplet 999"}) || !maps.Equal(s.Well, map[string]bool{"sulu": true, "chekov": false}) || s.Unknown != "" ||
		s.Checked["sulu"].Unix() != 100 || s.Checked["chekov"].Unix() != 160 {
		t.Errorf("%+v", s)
	}
}

func TestABalancerByTagHasTheDropletsWithTheTag(t *testing.T) {
	a := &aFronted{anAccount: seed(), well: map[int]cloud.Checked{11: {Well: true}}}
	a.balancers[0].Droplets, a.balancers[0].Tag = nil, "edge"
	a.droplets[0].Tags = []string{"edge"}
	s, err := aFrontOf(a).State(t.Context())
	if err != nil || !slices.Equal(s.Behind, []string{"sulu"}) || !slices.Equal(a.members, []int{11}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestChecksThatCannotBeReadAreNotKnownAndABalancerThatCannotIsAnError(t *testing.T) {
	for name, test := range map[string]struct {
		spoil   func(*aFronted)
		unknown string
		err     error
	}{
		"no scope for metrics": {func(a *aFronted) { a.wellErr = &cloud.ScopeError{Scope: "monitoring:read"} }, "monitoring:read", nil},
		"empty metrics":        {func(a *aFronted) { a.well = nil }, "its metrics have nothing of them", nil},
		"the balancer":         {func(a *aFronted) { a.fails = map[string]error{"Balancer": errNoWay} }, "", errNoWay},
		"its droplets":         {func(a *aFronted) { a.fails = map[string]error{"Droplets": errNoWay} }, "", errNoWay},
	} {
		t.Run(name, func(t *testing.T) {
			a := &aFronted{anAccount: seed(), well: map[int]cloud.Checked{11: {Well: true}}}
			test.spoil(a)
			s, err := aFrontOf(a).State(t.Context())
			if !errors.Is(err, test.err) || !strings.Contains(s.Unknown, test.unknown) || (test.unknown == "") != (s.Unknown == "") {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func TestTheBalancersCountIsKnownOnlyWhereItHasRequests(t *testing.T) {
	for name, test := range map[string]struct {
		traffic cloud.Traffic
		err     error
		known   bool
	}{
		"requests":        {cloud.Traffic{Requests: 99.7, Errors: 3.2, Samples: 4, Newest: time.Unix(100, 0)}, nil, true},
		"no samples":      {cloud.Traffic{Requests: 7}, nil, false},
		"no such metrics": {cloud.Traffic{}, cloud.ErrNotFound, false},
		"an error":        {cloud.Traffic{Requests: 9}, errNoWay, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &aFronted{anAccount: seed(), traffic: test.traffic, trafficErr: test.err}
			sum, newest, err := aFrontOf(a).Traffic(t.Context(), time.Now().Add(-time.Minute), time.Now())
			known := newest.Equal(time.Unix(100, 0))
			if known != test.known || known == newest.IsZero() || (err != nil) != errors.Is(test.err, errNoWay) || known && (sum.Requests != 100 || sum.Errors != 3) || !slices.Equal(a.asked, []string{"lb-1"}) {
				t.Errorf("%+v, %v, %v; asked %q", sum, newest, err, a.asked)
			}
		})
	}
}

func TestNothingIsAskedOfTimeThatHasNotPassed(t *testing.T) {
	a := &aFronted{anAccount: seed()}
	if _, newest, err := aFrontOf(a).Traffic(t.Context(), time.Now(), time.Now()); !newest.IsZero() || err != nil || len(a.asked) > 0 {
		t.Errorf("%v, %v; asked %q", newest, err, a.asked)
	}
}

func TestACommandThatAsksNothingOfTheAccountNeedsNoToken(t *testing.T) {
	t.Setenv(cloudTokenEnv, "")
	x := &session{config: config{Cloud: &cloudConfig{Token: &secretConfig{Env: cloudTokenEnv}, API: cloudAPI, Balancer: "pike"}}}
	x.wireFront()
	if x.deps.Front == nil {
		t.Fatal("no balancer")
	}
	if _, err := x.deps.Front.State(t.Context()); err == nil || !strings.Contains(err.Error(), "the environment has no "+cloudTokenEnv) {
		t.Errorf("%v", err)
	}
	x = &session{config: config{Cloud: &cloudConfig{}}}
	if x.wireFront(); x.deps.Front != nil {
		t.Error("a balancer that refit.yml does not name")
	}
}
