package node

import (
	"context"
	"time"
)

// Permit lets Mastodon's units start on one machine.
type Permit struct {
	// Instance is the ID of the machine that it was written for.
	Instance string `json:"instance"`
	// At is when it was written, Run by which run.
	At  time.Time `json:"at"`
	Run string    `json:"run,omitempty"`
}

// PermitIn says for which units permits are meant.
type PermitIn struct {
	// Units are the node's units. Beside them every service whose name begins with
	// "mastodon-" is held by the permit.
	Units []string `json:"units,omitempty"`
	// Run is who writes a permit; empty for the request's own run.
	Run string `json:"run,omitempty"`
	// User runs Mastodon and Home is its folder, to find what else of it starts by
	// itself; empty for mastodon and HomeDir.
	User string `json:"user,omitempty"`
	Home string `json:"home,omitempty"`
}

// PermitOut is what a host says of its permit.
type PermitOut struct {
	// Instance is which machine this is; InstanceError why that is not known.
	Instance      Instance `json:"instance"`
	InstanceError string   `json:"instance_error,omitempty"`
	// Permit is what lies there, nil for none; PermitError why it cannot be read.
	Permit      *Permit `json:"permit,omitempty"`
	PermitError string  `json:"permit_error,omitempty"`
	// Refused is why a unit that asks is not started now; empty where it is.
	Refused string `json:"refused,omitempty"`
	// Lacks are units that systemd would start without asking, or that read an exit
	// status which refuses as success.
	Lacks []string `json:"lacks,omitempty"`
	// Stale are drop-in files that are not there or not as they should be.
	Stale []string `json:"stale,omitempty"`
	// Beside is what starts Mastodon's code by itself and does not ask, in words:
	// cron's lines, units under other names.
	Beside []string `json:"beside,omitempty"`
	// Wrote are the files that the call wrote or removed.
	Wrote []string `json:"wrote,omitempty"`
}

// Elsewhere tells that the host has the permit of another machine, or one that nobody can
// read: it may be a clone.
func (p PermitOut) Elsewhere() bool {
	return p.PermitError != "" || p.Permit != nil && p.Instance.ID != "" && p.Permit.Instance != p.Instance.ID
}

// Held tells that every unit asks before it starts: an image of the host is sealed.
func (p PermitOut) Held() bool { return len(p.Lacks) == 0 && len(p.Stale) == 0 }

// Permit reads a host's permit, tries it, and asks systemd which units ask for it.
func (a *Agent) Permit(ctx context.Context, in PermitIn) (PermitOut, error) {
	return call[PermitOut](ctx, a, "permit.show", in, nil, nil)
}

// WritePermit lets Mastodon's units start on this machine and on no clone of it. Units
// that run go on. It is repeated safely, and an error where the seal would not hold.
func (a *Agent) WritePermit(ctx context.Context, in PermitIn) (PermitOut, error) {
	return call[PermitOut](ctx, a, "permit.write", in, nil, nil)
}

// WithdrawPermit removes the permit: units that run go on, and none starts any more.
func (a *Agent) WithdrawPermit(ctx context.Context, in PermitIn) (PermitOut, error) {
	return call[PermitOut](ctx, a, "permit.withdraw", in, nil, nil)
}
