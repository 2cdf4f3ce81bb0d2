package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/pipeline"
)

// Aligning is the kind of plans that bring a node that is out of step to what the fleet runs.
const Aligning = "align"

// Alignment is a node that runs another release than the fleet: its disk was put back from
// a snapshot, or somebody set it up by hand.
type Alignment struct {
	Host string `json:"host"`
	// Was is the release that it came with; empty for none.
	Was string `json:"was,omitempty"`
}

// OutOfStep tells which nodes run another release than the one that is on record for the
// fleet, and what to do. live is the release of each. It is empty when all are in step, and
// where the record does not say which of them are right: nothing is on record, or most
// nodes run something else.
func OutOfStep(live map[string]string, recorded string) []string {
	var astray []string
	for _, name := range slices.Sorted(maps.Keys(live)) {
		if live[name] != recorded {
			astray = append(astray, name)
		}
	}
	if recorded == "" || 2*len(astray) > len(live) || len(astray) == len(live) {
		return nil
	}
	var out []string
	for _, name := range astray {
		out = append(out, fmt.Sprintf("%s is out of step: it runs %s, and the fleet %s. Its disk was put back from a snapshot, or it was set up by hand: `refit align --host %s` takes it out, brings it to %s and puts it back",
			name, orUnknown(live[name]), recorded, name, recorded))
	}
	return out
}

// ConceiveAlign asks the fleet what it takes to bring a node back into step, and writes it
// down in facts. Refusals are what stands against it. Nothing is changed.
func (d Deps) ConceiveAlign(ctx context.Context, host string, say pipeline.Say) (f *Facts, refused []string, err error) {
	refuse := func(format string, args ...any) { refused = append(refused, fmt.Sprintf(format, args...)) }
	n, ok := d.Fleet.Named(host)
	if !ok || !n.Has(hosts.Web) && !n.Has(hosts.Sidekiq) {
		refuse("refit.yml has no web or Sidekiq node %s", host)
		return nil, refused, nil
	}
	v := d.Look(ctx, nil, say)
	if len(v.Unreachable) > 0 {
		return nil, nil, errors.Join(slices.Collect(maps.Values(v.Unreachable))...)
	}
	if v.RecordedErr != nil {
		return nil, nil, fmt.Errorf("cannot read what the fleet runs: %w", v.RecordedErr)
	}
	live := v.live(d.Fleet.Apps())
	if live[host] == v.Recorded && v.Recorded != "" {
		refuse("%s is in step: it runs %s, as the fleet does by what %s has on record", host, v.Recorded, d.keeper().Name)
		return nil, refused, nil
	}
	if len(OutOfStep(live, v.Recorded)) == 0 {
		refuse("nobody can say what %s should run: %s has %s on record for the fleet, and the nodes run %v. `refit status` says whether a run was left half way; else upgrade or roll the nodes by hand until most run one release",
			host, d.keeper().Name, orUnknown(v.Recorded), live)
		return nil, refused, nil
	}
	version, err := builds.ParseVersion(v.Recorded)
	if err != nil {
		return nil, nil, fmt.Errorf("%s has %q on record for the fleet: %w", d.keeper().Name, v.Recorded, err)
	}
	record, err := d.Recorded(ctx)
	if err != nil {
		return nil, nil, err
	}
	f = &Facts{Align: &Alignment{Host: host, Was: live[host]}, Asked: d.asks(), Baseline: baseline(v), Web: names(d.webs()), Sidekiq: names(d.sidekiqs())}
	f.To.Version = version
	f.To.Tag.Name, f.To.Tag.Commit, f.To.Tag.Tree = version.String(), record.Commit, record.Tree
	if len(d.Fleet.With(hosts.Builder)) == 1 {
		f.Digest = record.of(host)
	}
	for _, peer := range d.webs().But(host) {
		if err := v.Web[peer.Name]; err != nil && n.Has(hosts.Web) {
			refuse("%s does not serve well (%v): nothing is taken out beside it", peer.Name, err)
		}
	}
	for _, p := range d.proxies() {
		if err := v.ProxyErr[p.Name]; err != nil {
			refuse("%s: %v", p.Name, err)
		}
	}
	if v.DatabaseErr != nil {
		refuse("the database: %v", v.DatabaseErr)
	}
	if v.SidekiqErr != nil {
		refuse("Sidekiq's state: %v", v.SidekiqErr)
	}
	f.Said = append(f.Said, fmt.Sprintf("%s came with %s, and the fleet runs %s: taken back, it stays out and stopped, for nobody knows whether %s can run on the schema of %s",
		host, orUnknown(live[host]), v.Recorded, orUnknown(live[host]), v.Recorded))
	if n.Schedules() {
		f.Said = append(f.Said, "it has the scheduler, which stands still until it is in step")
	}
	return f, refused, nil
}

// Align is the table of `refit align`: a node that is out of step gets what the fleet runs.
func Align(id string, d Deps, f *Facts) pipeline.Plan {
	a := f.Align
	p := pipeline.Plan{ID: id, Kind: Aligning, From: a.Was, To: f.To.Version.String(), Facts: f}
	n, _ := d.Fleet.Named(a.Host)
	s := aligning{d, f, n}
	add := func(stage pipeline.Stage, why string, expect ...func(*pipeline.Step)) {
		step := pipeline.Step{Stage: stage, Why: why, Host: a.Host}
		for _, e := range expect {
			e(&step)
		}
		p.Steps = append(p.Steps, step)
	}
	switches := func(step *pipeline.Step) { step.Switches = true }
	// First of all: what it runs may not fit the schema any more.
	add(setAside{s}, "take it out and stop it: what it runs may not fit the schema", switches)
	if f.asked(d).Seal {
		add(seal{d}, "let no unit of Mastodon's start on a clone of it")
	}
	add(bringTo{s}, "bring it to "+p.To+", every file proved, and boot it there once")
	add(intoStep{s}, "switch, start, gate, put it back and watch", switches, func(step *pipeline.Step) {
		step.Expect = d.Holds.Web + 30*time.Second
		if !n.Has(hosts.Web) {
			step.Expect = d.Holds.Sidekiq + 30*time.Second
		}
	})
	return p
}

// aligning is what all stages of such a plan have.
type aligning struct {
	d Deps
	f *Facts
	n Node
}

func (s aligning) both() (w rollWeb, k rollSidekiq) {
	return rollWeb(s), rollSidekiq(s)
}

// takeOut leaves nothing of the node's at work, and no proxy that sends it requests.
func (s aligning) takeOut(ctx context.Context, say pipeline.Say) error {
	w, k := s.both()
	if s.n.Has(hosts.Web) {
		return w.takeOut(ctx, say)
	}
	return k.takeOut(ctx, say)
}

// setAside takes the node out.
type setAside struct{ aligning }

func (s setAside) Name() string { return "set aside " + s.n.Name }

func (s setAside) Check(ctx context.Context, say pipeline.Say) error {
	w, k := s.both()
	if s.n.Has(hosts.Web) {
		if w.missed(ctx) != nil {
			return nil
		}
		if err := w.peerServes(ctx); err != nil {
			return pipeline.Refuse("cannot take %s out: %w", s.n.Name, err)
		}
		return nil
	}
	return k.Check(ctx, say)
}

func (s setAside) Run(ctx context.Context, say pipeline.Say) error { return s.takeOut(ctx, say) }

// Undo leaves it out: it must not serve what it came with.
func (s setAside) Undo(ctx context.Context, say pipeline.Say) error {
	s.d = s.d.passingOver(ctx, say)
	if err := s.takeOut(ctx, say); err != nil {
		return err
	}
	say("%s stays out and stopped, out of step with the fleet: when the cause is mended, `refit align --host %s` again", s.n.Name, s.n.Name)
	return nil
}

// bringTo places the release and boots it once.
type bringTo struct{ aligning }

func (s bringTo) Name() string { return "bring " + s.n.Name }

func (s bringTo) Check(context.Context, pipeline.Say) error { return nil }

func (s bringTo) Run(ctx context.Context, say pipeline.Say) error {
	release := s.f.To.Version.String()
	if err := s.d.bring(ctx, s.n, s.f.To, "the disk of "+s.n.Name, say); err != nil {
		return err
	}
	digest, err := s.d.proven(ctx, s.n, s.f, release, say)
	if err != nil {
		return err
	}
	if s.f.Digest != "" && digest != s.f.Digest {
		return fmt.Errorf("%s: its %s is %.12s, and the fleet runs %.12s", s.n.Name, release, digest, s.f.Digest)
	}
	if err := s.d.boots(ctx, s.n, release, true, say); err != nil {
		return fmt.Errorf("%s: the release does not boot there: %w", s.n.Name, err)
	}
	return nil
}

// Undo leaves what was placed: nothing of it serves.
func (bringTo) Undo(context.Context, pipeline.Say) error { return nil }

// intoStep lets the node do its work again, on what the fleet runs.
type intoStep struct{ aligning }

func (s intoStep) Name() string { return "in step " + s.n.Name }

func (s intoStep) Check(context.Context, pipeline.Say) error { return nil }

func (s intoStep) Run(ctx context.Context, say pipeline.Say) error {
	w, k := s.both()
	if s.n.Has(hosts.Web) {
		if err := w.move(ctx, s.f.To.Version.String(), false, say); err != nil {
			return err
		}
	}
	if s.n.Has(hosts.Sidekiq) {
		return k.move(ctx, s.f.To.Version.String(), say)
	}
	return nil
}

// Undo takes it out again.
func (s intoStep) Undo(ctx context.Context, say pipeline.Say) error {
	s.d = s.d.passingOver(ctx, say)
	return s.takeOut(ctx, say)
}
