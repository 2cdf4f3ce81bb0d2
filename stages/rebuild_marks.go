package stages

import (
	"fmt"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// mark tells where a step stands, and from what that was taken. Doing is the mark of
// all that began and cannot be proved done: it is looked at and run again, or taken
// back.
func (b *rebuilding) mark(s pipeline.Step) (pipeline.Mark, string) {
	var was pipeline.Mark
	if b.copied != nil {
		was = b.copied.Marks[s.Name()]
	}
	switch stage := s.Stage.(type) {
	case rollWeb:
		return b.roll(stage.n, was)
	case rollSidekiq:
		return b.roll(stage.n, was)
	case preflight:
		if b.sign {
			return doneAs(was), "taken as done: what it asks no longer holds half way"
		}
	case toolchains, build, place:
		if b.placed == len(b.d.Fleet.Apps()) {
			return doneAs(was), fmt.Sprintf("%s lies whole on every node", b.to)
		}
		if b.placed > 0 {
			return begun(was), fmt.Sprintf("%s lies on %d of %d nodes", b.to, b.placed, len(b.d.Fleet.Apps()))
		}
	case seal, bridge, cdn:
		if b.rolled {
			return begun(was), "nodes were rolled after it; it is asked again"
		}
	case snapshot, snapshotsDone, snapshotOff:
		if b.sign {
			return doneAs(was), "taken as done: images that are made half way are not of the release before"
		}
	case dump:
		if b.migrated() {
			return doneAs(was), "taken as done: a dump that is made now is not of the database before the migrations"
		}
	case restorePoint:
		if !stage.post && b.migrated() || stage.post && len(b.applied(b.f.Post)) > 0 {
			return doneAs(was), "taken as done: the migrations have begun, and what was not noted before them is not known"
		}
	case preMigrate:
		return b.pre(was)
	case soak:
		if was.State == pipeline.Finish && b.all {
			return was, "the copy says so, and every node serves " + b.to
		}
	case postMigrate:
		return b.post(was)
	case search, prune, golden, retireImages:
		if was.State == pipeline.Finish && b.all {
			return was, "the copy says so"
		}
	}
	// Nothing on the hosts speaks for it.
	if was.State == pipeline.Pending {
		return was, ""
	}
	return begun(was), "the copy says so; it is looked at again"
}

// migrated tells whether the database was changed by the run, or is being changed.
func (b *rebuilding) migrated() bool {
	return b.rolled || len(b.f.Applied) > 0 || b.job(preUnit).State == node.JobRunning || len(b.applied(b.f.Post)) > 0
}

// roll judges a node by what it says itself.
func (b *rebuilding) roll(n Node, was pipeline.Mark) (pipeline.Mark, string) {
	w := b.t.Hosts[n.Name]
	old, now := w.settled(b.from), w.settled(b.to)
	switch {
	case old == nil && (was.State == pipeline.Pending || was.State == pipeline.Back):
		return was, fmt.Sprintf("%s serves %s", n.Name, b.from)
	case old == nil && was.State == pipeline.Finish:
		return begun(was), fmt.Sprintf("the copy says done, and %s serves %s again", n.Name, b.from)
	case old == nil:
		return was, fmt.Sprintf("%s serves %s; the copy says that it was begun", n.Name, b.from)
	case now == nil && was.State == pipeline.Finish:
		return was, fmt.Sprintf("the copy says so, and %s serves %s", n.Name, b.to)
	case now == nil:
		return begun(was), fmt.Sprintf("%s serves %s", n.Name, b.to)
	}
	return begun(was), fmt.Sprintf("%s is in between: its link names %s, %s", n.Name, orUnknown(w.Facts.Live), w.Stands())
}

// pre judges the pre-migrations by the database.
func (b *rebuilding) pre(was pipeline.Mark) (pipeline.Mark, string) {
	left := lacking(b.f.To.Contents, *b.t.Database, false)
	job := b.job(preUnit)
	switch {
	case job.State == node.JobRunning:
		return begun(was), preUnit + " is at work"
	case len(left) == 0 && (b.rolled || was.State == pipeline.Finish):
		return doneAs(was), "the database has every one of them"
	case len(left) == 0 && len(b.f.Applied) > 0:
		return begun(was), "the database has every one of them; the site is watched again"
	case len(b.f.Applied) > 0:
		return begun(was), fmt.Sprintf("the database has %d of %d", len(b.f.Applied), len(b.f.Pre))
	case job.State != node.JobNone:
		return begun(was), preUnit + " ran and the database has none of them"
	case b.rolled && len(left) > 0:
		return begun(was), "the database lacks some though nodes were rolled"
	case was.State == pipeline.Pending:
		return was, ""
	}
	return begun(was), "the copy says so; the database has none of them"
}

// post judges the post-migrations by the database: with one of them applied there is
// no way back, whatever a copy says.
func (b *rebuilding) post(was pipeline.Mark) (pipeline.Mark, string) {
	applied := b.applied(b.f.Post)
	job := b.job(postUnit)
	if len(applied) > 0 || job.State != node.JobNone && len(b.f.Post) > 0 {
		m := begun(was)
		m.OneWayBegun = true
		if len(applied) == 0 {
			return m, postUnit + " was begun: no way back"
		}
		return m, fmt.Sprintf("the database has %d of %d: no way back", len(applied), len(b.f.Post))
	}
	if was.State == pipeline.Pending {
		return was, ""
	}
	m := begun(was)
	return m, orWhy(m.OneWayBegun, "the copy says that it was begun: no way back", "the copy says so; the database has none of them")
}

// begun is the mark of a step that is to be looked at again. One that failed or is
// being taken back keeps its mark.
func begun(was pipeline.Mark) pipeline.Mark {
	if was.State != pipeline.Failed && was.State != pipeline.Undoing {
		was.State = pipeline.Doing
	}
	return was
}

func doneAs(was pipeline.Mark) pipeline.Mark {
	was.State = pipeline.Finish
	return was
}
