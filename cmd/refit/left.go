package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// left lists what earlier runs left on hosts: verbs that still hang there,
// transient units, temporary files, nodes out of rotation. While a run is at work
// all of it is that run's, and its own.
func (x *session) left(ctx context.Context) ([]string, error) {
	if x.keeper.Busy(ctx) != nil {
		return nil, nil
	}
	var mu sync.Mutex
	var out []string
	add := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, fmt.Sprintf(format, args...))
	}
	err := x.everywhere(func(n stages.Node) error {
		f, err := n.Agent.FenceShow(ctx)
		if err != nil {
			return err
		}
		for _, v := range f.Verbs {
			add("%s: %s", n.Name, v)
		}
		found, err := n.Agent.SweepShow(ctx, node.SweepIn{Home: x.deps.Layout.Home})
		for _, item := range found.Items {
			if line := leftover(item); line != "" {
				add("%s: %s", n.Name, line)
			}
		}
		return err
	})
	out = append(out, x.drains(ctx)...)
	slices.Sort(out)
	return out, err
}

// leftover names a thing that a run left; "" for the record of a job that has
// ended, which stays until the next of its name: a resume finds its result there.
func leftover(item node.Leftover) string {
	switch {
	case item.Kind != "job":
		line := item.Kind + " " + item.Path
		if item.Active {
			line += " (at work)"
		}
		return line
	case !item.Active:
		return ""
	case slices.Contains(stages.MigrationUnits(), item.Unit):
		return fmt.Sprintf("migration %s at work, of run %s (it is never ended; `refit resume` finds it again)", item.Unit, item.Run)
	}
	return fmt.Sprintf("unit %s at work, of run %s", item.Unit, item.Run)
}

// drains names each web node that a proxy sends nothing to.
func (x *session) drains(ctx context.Context) []string {
	var out []string
	for _, n := range x.deps.Fleet.With(hosts.Web) {
		if proxies := x.drainedOn(ctx, n); proxies != "" {
			out = append(out, fmt.Sprintf("%s: out of rotation on %s", n.Name, proxies))
		}
	}
	return out
}

// drainedOn names the proxies that send nothing to a web node; "" for none. A proxy
// that cannot be asked is left to those who look at proxies.
func (x *session) drainedOn(ctx context.Context, n stages.Node) string {
	var on []string
	for _, p := range x.deps.Fleet.With(hosts.Proxy) {
		out, err := nginx.DrainState(ctx, []*node.Agent{p.Agent}, x.drainOf(n))
		if err == nil && out[p.Name] {
			on = append(on, p.Name)
		}
	}
	return strings.Join(on, ", ")
}

func (x *session) drainOf(n stages.Node) nginx.DrainOptions {
	return nginx.DrainOptions{Files: []string{x.deps.Proxies.Web, x.deps.Proxies.Streaming}, Address: n.Address}
}

// halted is the error of a doctor that was interrupted: looking changes nothing, and
// what was fixed stays fixed.
func (x *session) halted(look context.Context, fixing bool) error {
	if !fixing {
		return interrupted(look)
	}
	return exitWith(exitInterrupted, fmt.Errorf("%w; what was cleared stays so, and `refit doctor --fix` goes on with the rest", context.Cause(look)))
}

// fix clears what crashed runs left, under the lease. While a run stands half
// way, its drains are part of it and stay. look ends with the first Ctrl-C: then
// what is being cleared is cleared, and nothing more begun.
func (x *session) fix(ctx, look context.Context, stop <-chan struct{}, say pipeline.Say) error {
	if err := x.idle(look); err != nil {
		return err
	}
	if err := x.noneLeft(look); err != nil {
		return err
	}
	held, err := pipeline.Hold(look, x.keeper, "doctor --fix", pipeline.HoldOptions{})
	if err != nil {
		return lockError(look, err)
	}
	defer func() {
		if err := release(ctx, held); err != nil {
			say("%v", err)
		}
	}()
	if err := x.unmoved(held.Context); err != nil {
		return err
	}
	if err := x.raiseFences(held.Context, x.keeper.Me.String()); err != nil {
		if end := interrupted(look); end != nil {
			return end
		}
		return exitWith(exitRefused, err)
	}
	// Under the lease, and not ended by the first Ctrl-C.
	work, end := under(ctx, held)
	defer end()
	for _, part := range []func(context.Context, pipeline.Say) error{x.clear, x.undrain} {
		select {
		case <-stop:
			return x.halted(look, true)
		default:
		}
		if err := part(work, say); err != nil {
			if ctx.Err() != nil {
				return x.halted(ctx, true)
			}
			return err
		}
	}
	return nil
}

// under is ctx for as long as the lease is held.
func under(ctx context.Context, held *pipeline.Held) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(held.Context, func() {
		select {
		case <-held.Lost():
			cancel(pipeline.ErrLockLost)
		default:
		}
	})
	return ctx, func() { unhook(); cancel(nil) }
}

// clear ends the transient units that nobody waits for, migrations excepted, and
// removes the files.
func (x *session) clear(ctx context.Context, say pipeline.Say) error {
	var mu sync.Mutex
	voice := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		say(format, args...)
	}
	return x.everywhere(func(n stages.Node) error {
		in := node.SweepIn{Home: x.deps.Layout.Home}
		found, err := n.Agent.SweepShow(ctx, in)
		if err != nil {
			return err
		}
		for _, item := range found.Items {
			if item.Kind != "job" || !item.Active || slices.Contains(stages.MigrationUnits(), item.Unit) {
				continue
			}
			if _, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.StopUnits, Units: []string{item.Unit}}, nil); err != nil {
				return fmt.Errorf("cannot stop %s on %s: %w", item.Unit, n.Name, err)
			}
			voice("stopped %s on %s", item.Unit, n.Name)
		}
		in.Clear = true
		if found, err = n.Agent.Sweep(ctx, in); err != nil {
			return err
		}
		for _, item := range found.Items {
			if line := leftover(item); line != "" {
				voice("%s: %s%s", n.Name, line, map[bool]string{true: ": cleared", false: ": stays"}[item.Cleared])
			}
		}
		return nil
	})
}

// undrain puts nodes that answer back into rotation.
func (x *session) undrain(ctx context.Context, say pipeline.Say) error {
	var proxies []*node.Agent
	for _, p := range x.deps.Fleet.With(hosts.Proxy) {
		proxies = append(proxies, p.Agent)
	}
	for _, n := range x.deps.Fleet.With(hosts.Web) {
		on := x.drainedOn(ctx, n)
		if on == "" {
			continue
		}
		if err := x.deps.Answers(ctx, n); err != nil {
			say("%s is out of rotation on %s and stays so, since it does not answer: %v", n.Name, on, err)
			continue
		}
		if err := nginx.Undrain(ctx, proxies, x.drainOf(n), func(line string) { say("%s", line) }); err != nil {
			return err
		}
		say("%s is back in rotation", n.Name)
	}
	return nil
}
