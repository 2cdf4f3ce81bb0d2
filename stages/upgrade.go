package stages

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/pipeline"
)

// Upgrade is THE TABLE: what an upgrade does, in the order in which it does it.
// The plan printed is the plan run; a host is a stage of its own, so the journal,
// a resume and the way back need no second bookkeeping.
func Upgrade(id string, d Deps, f *Facts) pipeline.Plan {
	p := pipeline.Plan{ID: id, Kind: "upgrade", From: f.From.Version.String(), To: f.To.Version.String(), Facts: f}
	add := func(s pipeline.Step) { p.Steps = append(p.Steps, s) }
	asked := f.asked(d)

	// Every fact that could stop the run, asked of all hosts at once, before anything is touched.
	add(pipeline.Step{Stage: preflight{d, f}, Why: "ask every host, the database, Redis and the proxies what could stop the upgrade"})
	if asked.Seal {
		// Before any image is taken of a node: what a clone of it must not start.
		add(pipeline.Step{Stage: seal{d}, Why: "let no unit of Mastodon's start on a clone of a node"})
	}
	// One node of each tier as an image, begun now, since that takes as long as a build.
	if all := live(f); len(all) > 0 {
		add(pipeline.Step{Stage: snapshot{d, f, id}, Why: "begin to keep " + keptNames(all) + " as images, while they work"})
	}
	// Ruby and Node, once for all releases that pin them, then the release from its tag, on a
	// builder for each system: nodes never build and need no compiler.
	making(d, f, "build "+p.To+" from its unmodified tag", add)
	// On all nodes at once, beside the live release; booted once with the node's own configuration.
	add(pipeline.Step{Stage: place{d, f}, Why: "put it on every node, not live, and boot it there once"})
	// Before any page of the new release is served, its files answer on every web node.
	add(pipeline.Step{Stage: bridge{d, f}, Why: "let both web nodes serve the hashed files of both releases"})
	if asked.CDN != "" {
		// The same for the host that pages name instead of the web nodes.
		add(pipeline.Step{Stage: cdn{d, f}, Why: "copy its hashed files to the bucket behind " + asked.CDN})
	}
	// What the fleet is about to be, committed and pushed before the first change that users
	// could feel.
	if f.Configs != nil {
		add(pipeline.Step{Stage: intend{d, f, id}, Why: d.Configs.intends()})
	}

	// The images are complete before anything is changed. Those of nodes that are switched
	// off for it are made here, when nothing else can fail any more.
	if all := live(f); len(all) > 0 {
		add(pipeline.Step{Stage: snapshotsDone{d, f, id}, Why: "wait until the images are complete: nothing is changed before", Expect: expected(all)})
	}
	for _, k := range f.snapshots(true) {
		n, _ := d.Fleet.Named(k.Host)
		add(pipeline.Step{Stage: snapshotOff{d, f, id, n}, Why: "take it out, switch it off, keep it as an image, switch it on, gate, put it back", Host: k.Host, Expect: k.most()})
	}

	// Files of hosts that are not rolled: where something differs, one host at a time.
	for _, n := range d.apart(f) {
		add(pipeline.Step{Stage: configsOf{d, f, n}, Why: "change " + strings.Join(f.Configs.Differ[n.Name], ", "), Host: n.Name, Switches: true})
	}

	if asked.dumps(f) {
		// To the store, while nothing of the schema has changed and nothing holds tables.
		add(pipeline.Step{Stage: dump{d, f, id}, Why: "dump the database to the store, and read the dump's contents back"})
	}
	if asked.Restore && len(f.Pre) > 0 {
		add(pipeline.Step{Stage: restorePoint{d, f, false}, Why: "note the instant that the database could be restored to"})
	}
	// Additive migrations, while the old code serves: new code never meets an old schema.
	add(pipeline.Step{Stage: preMigrate{d, f}, Why: orWhy(len(f.Pre) > 0, "apply "+count(len(f.Pre), "migration")+" that the old code lives with", "nothing to apply"), Host: d.migrator().Name, Expect: d.Holds.Migrated})

	// The tiers, in the order that the job classes ask for (see order.go), one node at a time.
	sidekiq := func() {
		for _, name := range f.Sidekiq {
			n, _ := d.Fleet.Named(name)
			add(pipeline.Step{Stage: rollSidekiq{d, f, n}, Why: "quiet, stop, switch, start, gate" + orWhy(n.Schedules(), " (the scheduler's node)", ""), Host: name, Switches: true, Expect: d.Holds.Sidekiq + 30*time.Second})
		}
	}
	web := func() {
		for _, name := range f.Web {
			n, _ := d.Fleet.Named(name)
			add(pipeline.Step{Stage: rollWeb{d, f, n}, Why: "drain on every proxy, stop, switch, start, gate, undrain, watch", Host: name, Switches: true, Expect: d.Holds.Web + 30*time.Second})
		}
	}
	if f.SidekiqFirst {
		sidekiq()
		web()
	} else {
		web()
		sidekiq()
	}

	// The last time at which the way back costs nothing.
	add(pipeline.Step{Stage: soak{d, f}, Why: "ask every gate again until the time is over", Expect: d.Holds.Soak})
	if asked.Restore && len(f.Post) > 0 {
		add(pipeline.Step{Stage: restorePoint{d, f, true}, Why: "note the instant that the database could be restored to, once more"})
	}
	// The point of no return, if the database lacks any of them.
	add(pipeline.Step{Stage: postMigrate{d, f}, Why: orWhy(len(f.Post) > 0, "apply "+count(len(f.Post), "migration")+" after which "+p.From+" cannot run: THE POINT OF NO RETURN", "nothing to apply"), Host: d.migrator().Name, OneWay: len(f.Post) > 0, Switches: len(f.Post) > 0})
	// Mappings only; what needs an import is named, never started.
	add(pipeline.Step{Stage: search{d, f}, Why: "bring the search server's mappings up to date, if they changed"})
	add(pipeline.Step{Stage: record{d, f}, Why: "write down what the fleet runs now", Host: d.keeper().Name})
	if f.Configs != nil {
		add(pipeline.Step{Stage: outcome{d, f, id}, Why: "commit and push how it went"})
	}
	// Never the release before: rollback needs it.
	add(pipeline.Step{Stage: prune{d, f}, Why: fmt.Sprintf("remove releases older than the last %d", d.Keep)})
	if len(f.Golden) > 0 {
		// Of nodes from which old releases are gone, so that a new one starts on this.
		add(pipeline.Step{Stage: golden{d, f, id}, Why: "keep one node of each tier as the image that new nodes are made from"})
		add(pipeline.Step{Stage: retireImages{d, f, id}, Why: "remove old images of this fleet's, never the last of a tier"})
	}
	return p
}

// making adds the steps that make a release, on each builder that it is made on.
func making(d Deps, f *Facts, why string, add func(pipeline.Step)) {
	for _, m := range f.all() {
		on := d.on(m.Builder)
		if names := artifactNames(m.Recipe.Toolchain); names != "" {
			add(pipeline.Step{Stage: toolchains{on, f}, Why: "make " + names + ", unless they are there", Host: on.builder().Name})
		}
		add(pipeline.Step{Stage: build{on, f}, Why: why, Host: on.builder().Name})
	}
}

// Prepares tells whether a step of the table only prepares: it changes nothing that
// serves and nothing of the schema.
func Prepares(step string) bool {
	for _, each := range []string{toolchains{}.Name(), build{}.Name()} {
		if step == each || strings.HasPrefix(step, each+" ") {
			return true
		}
	}
	return slices.Contains([]string{
		preflight{}.Name(), seal{}.Name(), snapshot{}.Name(), place{}.Name(), bridge{}.Name(), cdn{}.Name(), snapshotsDone{}.Name(), dump{}.Name(), restorePoint{}.Name(), intend{}.Name(),
	}, step)
}

// Place is the table of `refit place`: the release lies ready on every node, and
// nothing that serves is touched.
func Place(id string, d Deps, f *Facts) pipeline.Plan {
	p := Build(id, d, f)
	p.Kind = "place"
	p.Steps = append(p.Steps, pipeline.Step{Stage: place{d, f}, Why: "put it on every node, not live, and boot it there once"})
	return p
}

// Build is the table of `refit build`: the release lies ready on the builder.
func Build(id string, d Deps, f *Facts) pipeline.Plan {
	p := pipeline.Plan{ID: id, Kind: "build", From: f.From.Version.String(), To: f.To.Version.String(), Facts: f}
	making(d, f, "build from the unmodified tag", func(s pipeline.Step) { p.Steps = append(p.Steps, s) })
	return p
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orWhy(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}
