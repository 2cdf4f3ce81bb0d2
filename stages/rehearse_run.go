package stages

import (
	"context"
	"fmt"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// startOld lets the copies run what the fleet runs: an upgrade of what does not work
// proves nothing.
type startOld struct{ rehearsing }

func (startOld) Name() string { return "start old" }

func (startOld) Check(context.Context, pipeline.Say) error { return nil }

func (s startOld) Run(ctx context.Context, say pipeline.Say) error {
	d, err := s.copies(ctx)
	if err != nil {
		return err
	}
	// All of them, right before any may start.
	for _, n := range d.Fleet {
		if err := s.proveShut(ctx, n, say); err != nil {
			return err
		}
	}
	if err := s.tables(ctx, d, say); err != nil {
		return err
	}
	release := s.f.From.Version.String()
	for _, n := range d.Fleet {
		if err := d.WritePermit(ctx, n, say); err != nil {
			return err
		}
		if err := s.start(ctx, d, n, release, say); err != nil {
			return err
		}
	}
	return pipeline.Remember(ctx)
}

// largest is how many tables are named.
const largest = 10

// tables notes how much data the times are of.
func (s startOld) tables(ctx context.Context, d Deps, say pipeline.Say) error {
	m := &s.r().Measured
	db, err := d.database(ctx)
	if err != nil {
		return err
	}
	if db.App == nil || db.App.Error != "" || !db.Same {
		return fmt.Errorf("the copies do not use %s as their database", s.r().Fork.Name)
	}
	m.Size = db.Size
	if m.Tables, err = mastodon.ReadTables(ctx, d.migrator().Agent, mastodon.TablesIn{Layout: d.Layout, Direct: d.Direct, Most: largest}); err != nil {
		return err
	}
	say("the copy of the database: %s", m.rows())
	return pipeline.Remember(ctx)
}

// start starts a copy's units on the release that its link names, and gates it. The time
// from the start to the gate is noted.
func (s rehearsing) start(ctx context.Context, d Deps, n Node, release string, say pipeline.Say) error {
	if len(n.Units()) == 0 {
		say("%s: nothing is started, for its units serve the scheduler", n.Name)
		return nil
	}
	began := time.Now()
	if d.runsOnly(ctx, n, release) != nil {
		if err := d.units(ctx, n, node.StartUnits, n.Units(), say); err != nil {
			return err
		}
	}
	if err := s.gates(ctx, d, n, release, say); err != nil {
		return d.why(ctx, n, began, err)
	}
	m := &s.r().Measured
	if m.Boots == nil {
		m.Boots = map[string]time.Duration{}
	}
	m.Boots[s.tier(n)+" "+release] = time.Since(began).Round(100 * time.Millisecond)
	return nil
}

func (s rehearsing) tier(n Node) string {
	if n.Has(hosts.Web) {
		return string(hosts.Web)
	}
	return string(hosts.Sidekiq)
}

// gates are those of a roll that need no proxy: the node itself is asked.
func (s rehearsing) gates(ctx context.Context, d Deps, n Node, release string, say pipeline.Say) error {
	if len(n.Units()) == 0 {
		return nil
	}
	g := d.gate(fmt.Sprintf("%s works with %s", n.Name, release), 0, func(ctx context.Context) error {
		if err := d.stayUp(ctx, n, map[string]int{}); err != nil {
			return err
		}
		if err := d.runsOnly(ctx, n, release); err != nil {
			return err
		}
		if n.Has(hosts.Web) {
			return d.serves(ctx, n, release, bootLook)
		}
		return d.workersRun(ctx, n, release, mastodon.SidekiqState{}, s.f)
	})
	g.Streak = 2
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	s.passed(fmt.Sprintf("%s works with %s", n.Name, release))
	return nil
}

// Undo has nothing to take back.
func (startOld) Undo(context.Context, pipeline.Say) error { return nil }

// placeNew puts the new release on the copies, as an upgrade would, and on nothing else.
type placeNew struct{ rehearsing }

func (placeNew) Name() string { return "place" }

func (placeNew) Check(context.Context, pipeline.Say) error { return nil }

func (s placeNew) Run(ctx context.Context, say pipeline.Say) error {
	d, err := s.copies(ctx)
	if err != nil {
		return err
	}
	for _, n := range d.Fleet {
		b := s.copyOf(n.Name)
		made := s.made(b)
		from := s.d.on(made.Builder).builder()
		// A builder that is a node too gets nothing.
		from.Roles = []hosts.Role{hosts.Builder}
		made.Builder = ""
		one := d
		one.Fleet = Fleet{from, n}
		if err := plainly((place{one, &Facts{From: s.f.From, To: s.f.To, Pre: s.f.Pre, Made: made}}).Run(ctx, say)); err != nil {
			return err
		}
	}
	return nil
}

// copyOf is the copy of that name.
func (s rehearsing) copyOf(host string) *Birth {
	for _, b := range s.r().Copies {
		if b.Host == host {
			return b
		}
	}
	return &Birth{Host: host}
}

// Undo has nothing to take back.
func (placeNew) Undo(context.Context, pipeline.Say) error { return nil }

// rollCopies moves the copies to the new release, the tier first that an upgrade moves first.
type rollCopies struct{ rehearsing }

func (rollCopies) Name() string { return "roll" }

func (rollCopies) Check(context.Context, pipeline.Say) error { return nil }

func (s rollCopies) Run(ctx context.Context, say pipeline.Say) error {
	d, err := s.copies(ctx)
	if err != nil {
		return err
	}
	order := append(d.webs(), d.sidekiqs()...)
	if s.f.SidekiqFirst {
		order = append(d.sidekiqs(), d.webs()...)
	}
	release := s.f.To.Version.String()
	for _, n := range order {
		if d.runsOnly(ctx, n, release) != nil || len(n.Units()) == 0 {
			w := s.birthOf(s.copyOf(n.Name), release)
			digest, err := d.proven(ctx, n, w.f, release, say)
			if err != nil {
				return err
			}
			if len(n.Units()) > 0 {
				if err := d.units(ctx, n, node.StopUnits, n.Units(), say); err != nil {
					return err
				}
			}
			if err := d.switchTo(ctx, n, release, digest, say); err != nil {
				return err
			}
		}
		if err := s.start(ctx, d, n, release, say); err != nil {
			return err
		}
	}
	return pipeline.Remember(ctx)
}

// Undo has nothing to take back.
func (rollCopies) Undo(context.Context, pipeline.Say) error { return nil }
