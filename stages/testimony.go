package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// Testimony is what the hosts themselves say of where an upgrade stands: what is
// left to go by when the keeper does not answer or has lost its journals.
type Testimony struct {
	// Hosts are the witnesses by name; Silent why a host could not be asked. A host
	// is in exactly one of them.
	Hosts  map[string]Witness
	Silent map[string]error
	// Database is nil where it could not be asked, which DatabaseErr tells.
	Database    *mastodon.Database
	DatabaseErr error
	// SidekiqErr tells that Redis could not be asked which workers are quiet.
	SidekiqErr error
}

// Witness is what one host says.
type Witness struct {
	Facts node.Facts
	// Fence with the verbs that change the host right now.
	Fence node.Fence
	// Drained are the proxies that send a web node nothing, sorted; DrainErr tells
	// that one could not be asked.
	Drained  []string
	DrainErr error
	// Quiet: a Sidekiq process of the node takes no new jobs.
	Quiet bool
	// Jobs are the records of migration units, those at work and those that ended.
	Jobs []node.Job
}

// Testify asks every host at once. It changes nothing.
func (d Deps) Testify(ctx context.Context) *Testimony {
	t := &Testimony{Hosts: map[string]Witness{}, Silent: map[string]error{}}
	var mu sync.Mutex
	gather(d.Fleet, func(n Node) {
		w, err := d.witness(ctx, n)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Silent[n.Name] = err
			return
		}
		t.Hosts[n.Name] = w
	})
	var wg sync.WaitGroup
	var quiet map[string]bool
	wg.Go(func() { quiet, t.SidekiqErr = d.quiet(ctx) })
	wg.Go(func() {
		db, err := d.database(ctx)
		if t.DatabaseErr = err; err == nil {
			t.Database = &db
		}
	})
	drained := map[string][]string{}
	drainErr := map[string]error{}
	gather(d.webs(), func(n Node) {
		out, err := nginx.DrainState(ctx, d.proxyAgents(), d.drainOf(n))
		mu.Lock()
		defer mu.Unlock()
		drainErr[n.Name] = err
		for _, proxy := range slices.Sorted(maps.Keys(out)) {
			if out[proxy] {
				drained[n.Name] = append(drained[n.Name], proxy)
			}
		}
	})
	wg.Wait()
	for name, w := range t.Hosts {
		w.Drained, w.DrainErr, w.Quiet = drained[name], drainErr[name], quiet[name]
		t.Hosts[name] = w
	}
	return t
}

func (d Deps) witness(ctx context.Context, n Node) (w Witness, err error) {
	in := node.FactsIn{}
	if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) || n.Has(hosts.Builder) {
		in.Home, in.Units = d.Layout.Home, n.Units()
	}
	if w.Facts, err = n.Agent.Facts(ctx, in); err != nil {
		return w, err
	}
	if w.Fence, err = n.Agent.FenceShow(ctx); err != nil {
		return w, err
	}
	if !n.Has(hosts.Sidekiq) {
		return w, nil
	}
	for _, unit := range MigrationUnits() {
		job, err := n.Agent.JobStatus(ctx, unit)
		if err != nil {
			return w, fmt.Errorf("%s: cannot ask for %s: %w", n.Name, unit, err)
		}
		if job.State != node.JobNone {
			w.Jobs = append(w.Jobs, job)
		}
	}
	return w, nil
}

// quiet are the hosts on which a worker was told to take no new jobs.
func (d Deps) quiet(ctx context.Context) (map[string]bool, error) {
	now, err := d.sidekiq(ctx, mastodon.SidekiqIn{})
	out := map[string]bool{}
	for _, p := range now.Processes {
		out[p.Hostname] = out[p.Hostname] || p.Quiet
	}
	return out, err
}

// Epoch is the highest fence of all hosts, with who raised it and, where that is
// said, for which run.
func (t *Testimony) Epoch() (epoch int64, holder, run string) {
	for _, name := range slices.Sorted(maps.Keys(t.Hosts)) {
		if f := t.Hosts[name].Fence; f.Epoch > epoch {
			epoch, holder = f.Epoch, f.Holder
		}
	}
	_, run, _ = strings.Cut(holder, FenceRun)
	return epoch, holder, run
}

// FenceRun stands between the holder and the run in what a run's fences say.
const FenceRun = ", run "

// refusals are why nothing can be rebuilt on this testimony.
func (t *Testimony) refusals(d Deps) []string {
	var out []string
	for _, n := range d.Fleet {
		if err := t.Silent[n.Name]; err != nil {
			out = append(out, fmt.Sprintf("%s cannot be asked where it stands: %v; bring it back, or take it out of refit.yml if it is gone for good", n.Name, err))
		} else if err := t.Hosts[n.Name].DrainErr; err != nil {
			out = append(out, fmt.Sprintf("it cannot be seen whether %s is in rotation: %v", n.Name, err))
		}
	}
	if len(out) > 0 {
		return out
	}
	if t.DatabaseErr != nil {
		out = append(out, fmt.Sprintf("the database cannot be asked which migrations it has: %v", t.DatabaseErr))
	}
	if t.SidekiqErr != nil {
		out = append(out, t.SidekiqErr.Error())
	}
	return out
}

// Migrations tells in words how far the database is with a run's migrations.
func (t *Testimony) Migrations(f *Facts) string {
	if t.DatabaseErr != nil {
		return "cannot be asked: " + t.DatabaseErr.Error()
	}
	if len(f.Pre)+len(f.Post) == 0 {
		return fmt.Sprintf("answers, %s applied in all", count(len(t.Database.Applied), "migration"))
	}
	has := func(list []builds.Migration) int {
		return len(without(list, lacking(f.To.Contents, *t.Database, true)))
	}
	return fmt.Sprintf("has %d of %d pre-migrations and %d of %d post-migrations of %s", has(f.Pre), len(f.Pre), has(f.Post), len(f.Post), f.To.Version)
}

// runs are the releases that a node's live link names and its processes run, "" for
// a link to none.
func (w Witness) runs() []string {
	out := []string{w.Facts.Live}
	for _, u := range w.Facts.Units {
		if u.Running() {
			out = append(out, u.Release)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// settled is nil when the node serves the release and nothing else, in rotation.
func (w Witness) settled(release string) error {
	var faults []string
	if w.Facts.Live != release {
		faults = append(faults, "its link names "+orUnknown(w.Facts.Live))
	}
	for _, u := range w.Facts.Units {
		switch {
		case !u.Running():
			faults = append(faults, u.Name+" is "+u.Active)
		case u.Release != release:
			faults = append(faults, u.Name+" runs "+orUnknown(u.Release))
		}
	}
	if len(w.Drained) > 0 {
		faults = append(faults, "out of rotation on "+strings.Join(w.Drained, ", "))
	}
	if w.Quiet {
		faults = append(faults, "its workers take no new jobs")
	}
	if len(faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(faults, ", "))
}

// Stands tells in words where a host stands.
func (w Witness) Stands() string {
	words := "serves"
	if err := w.settled(w.Facts.Live); err != nil {
		words = err.Error()
	}
	if len(w.Facts.Units) == 0 {
		words = "up"
	}
	for _, v := range w.Fence.Verbs {
		words += fmt.Sprintf("; at work: %s of run %s", v.Verb, v.Run)
	}
	for _, j := range w.Jobs {
		if j.State == node.JobRunning {
			words += fmt.Sprintf("; at work: %s (%s)", j.Unit, strings.Join(j.Argv[:min(len(j.Argv), 1)], " "))
		}
	}
	return words
}

// has tells whether a release lies whole on the host.
func (w Witness) has(release string) bool {
	return slices.ContainsFunc(w.Facts.Releases, func(r node.ReleaseFact) bool { return r.Name == release && r.Complete })
}
