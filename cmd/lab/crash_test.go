package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/pipeline"
)

// isKilledOnTheWayBackAndForth is the end of the test of a patch release: it goes
// back to v4.5.1 and up to v4.5.2 again, and refit is killed with SIGKILL at every
// mark of the journal on both ways. By turns root and two users without rights
// resume, each from his own folder.
func (f *fleet) isKilledOnTheWayBackAndForth(t *testing.T) {
	t.Helper()
	f.allJobsRun(t, func() {
		f.withUsers(t, func(load *lab.Load) {
			by := f.operators(t, false)
			back := f.crashing(t, load, by, "v4.5.1", "v4.5.2")
			back.goesOn(t)
			back.course(t, pipeline.Undone, "rollback", "--yes")
			f.runsEverywhere(t, "v4.5.1")
			f.must(t, 3, "", []string{"rollback", "--yes"}, "was taken back already")
			up := f.crashing(t, load, by, "v4.5.1", "v4.5.2")
			up.course(t, pipeline.Done, "upgrade", "--to", "v4.5.2", "--yes")
			up.mirrored(t)
		})
	})
	f.runsEverywhere(t, "v4.5.2")
	f.well(t)
}

// TestLabAnUpgradeWithMigrationsIsEndedThroughKillsAtEveryMark kills a minor with
// pre-migrations at every mark of the journal, and one with post-migrations after it
// at every change on a host too.
func TestLabAnUpgradeWithMigrationsIsEndedThroughKillsAtEveryMark(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	by := f.operators(t, true)
	f.backOnOldSchema(t, "v4.5.2", func() {
		f.allJobsRun(t, func() {
			f.withUsers(t, func(load *lab.Load) {
				for _, way := range [][2]string{{"v4.5.2", "v4.6.0"}, {"v4.6.0", "v4.7.0"}} {
					c := f.crashing(t, load, by, way[0], way[1])
					c.deeds = way[1] == "v4.7.0"
					c.course(t, pipeline.Done, "upgrade", "--to", way[1], "--yes")
					c.mirrored(t)
					c.free(t)
				}
			})
		})
		f.runsEverywhere(t, "v4.7.0")
		f.must(t, 3, "", []string{"rollback", "--yes"}, "cannot go back to v4.6.0")
	})
}

// TestLabAFailedUpgradeIsTakenBackThroughKillsAtEveryMark kills an
// upgrade whose web roll fails, from the placed release on, on its way there and on its
// way back, at every mark of the journal and at every change on a host.
func TestLabAFailedUpgradeIsTakenBackThroughKillsAtEveryMark(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	f.allJobsRun(t, func() {
		f.withUsers(t, func(load *lab.Load) {
			c := f.crashing(t, load, f.operators(t, true), "v4.5.2", "v4.5.5")
			c.deeds, c.since = true, "place: done"
			c.course(t, pipeline.Undone, "upgrade", "--to", "v4.5.5", "--yes")
			c.mirrored(t)
			c.free(t)
		})
	})
	f.runsEverywhere(t, "v4.5.2")
	f.well(t)
}

// TestLabAKilledUpgradeIsTakenBackThroughKillsAtEveryMark kills an
// upgrade with migrations while its first web node is rolled, and then the rollback
// of what that left, at every change on a host too.
func TestLabAKilledUpgradeIsTakenBackThroughKillsAtEveryMark(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	f.withDatabase(t, func() {
		f.allJobsRun(t, func() {
			f.withUsers(t, func(load *lab.Load) {
				c := f.crashing(t, load, f.operators(t, true), "v4.5.2", "v4.6.0")
				c.until = "roll web kirk: doing"
				c.course(t, pipeline.Undone, "upgrade", "--to", "v4.6.0", "--yes")
				c.until, c.deeds = "", true
				c.course(t, pipeline.Undone, "rollback", "--yes")
				c.mirrored(t)
				c.free(t)
			})
		})
		f.runsEverywhere(t, "v4.5.2")
	})
}

// goesOn makes the newest run of the keeper the one that is killed from here on.
func (c *crash) goesOn(t *testing.T) {
	t.Helper()
	for id := range c.others {
		j, err := c.f.journal(id)
		if err != nil {
			t.Fatal(err)
		}
		if j.Kind == "upgrade" && j.Outcome != pipeline.Refused && id > c.run {
			c.run = id
		}
	}
	c.fresh(t)
	c.together = nil
}

// mirrored asks that the copy of the one who was killed last is the journal, or the
// journal as it was one save before: the kill fell between the two.
func (c *crash) mirrored(t *testing.T) {
	t.Helper()
	j, err := c.f.journal(c.run)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.holder.mirror(c.run))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(b, []byte("\n"))
	copied, err := pipeline.ParseJournal(body)
	if err != nil {
		t.Fatalf("the copy of %s: %v", c.holder.name, err)
	}
	if copied.Seq != j.Seq && copied.Seq != j.Seq-1 {
		t.Errorf("%s has save %d in %s, the keeper has save %d", c.holder.name, copied.Seq, filepath.Base(c.holder.mirror(c.run)), j.Seq)
	}
}

// free gives the lease back that a killed operator of another machine holds.
func (c *crash) free(t *testing.T) {
	t.Helper()
	if a := c.by[0].run(t, "unlock", "--yes"); a.code != 0 {
		t.Fatalf("cannot free the lease: %s", a)
	}
}

// backOnOldSchema runs do and then puts the database and every node back, past a
// point of no return: the lab knows a way back that a fleet has not.
func (f *fleet) backOnOldSchema(t *testing.T, release string, do func()) {
	t.Helper()
	f.withDatabase(t, func() {
		do()
		for host, units := range appUnits {
			for _, argv := range [][]string{append([]string{"systemctl", "stop"}, units...), {"ln", "-sfn", "releases/" + release, "/home/mastodon/live"}} {
				if _, err := f.Exec(t.Context(), host, argv...); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	f.runsEverywhere(t, release)
}
