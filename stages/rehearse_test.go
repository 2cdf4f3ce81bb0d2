package stages

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

func TestARehearsalMeasuresAndLeavesNothing(t *testing.T) {
	inTheatre(t, func(t *testing.T, th *theatre) {
		shelf := &dying{left: 1000}
		res, f := th.play(shelf, th.conceiveCopy(), false)
		if res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		th.bare("done")
		m := f.Rehearsal.Measured
		if m.At.IsZero() || len(m.Migrations) != 2 || m.Migrations[0].Took != 81500*time.Millisecond || m.Migrations[0].Post || !m.Migrations[1].Post || m.Pre != 90*time.Second || m.Post != 90*time.Second {
			t.Errorf("measured %+v", m)
		}
		lines := strings.Join(m.Lines(nil), "\n")
		for _, word := range []string{"1,200,000 rows in statuses", "3.0 GiB", "20251101000000 add_a_column took 1m21.5s", "while the old code serves 1m30s"} {
			if !strings.Contains(lines, word) {
				t.Errorf("does not say %q: %s", word, lines)
			}
		}
		if len(m.Boots) != 4 || f.Applied != nil {
			t.Errorf("boots %v, applied %v", m.Boots, f.Applied)
		}
		gates := strings.Join(m.Gates, "\n")
		for _, word := range []string{"tried and not reached are", "10.77.0.41:5432", "10.77.0.41:25061", "10.77.0.42:6379", "10.77.0.21:22", "192.0.2.1:443", "10.77.0.203:443", "works with v4.5.14", "works with v4.5.15"} {
			if !strings.Contains(gates, word) {
				t.Errorf("no gate says %q: %s", word, gates)
			}
		}
		if bytes.Contains(shelf.last, []byte(redisPassword)) || th.w.heard(redisPassword) {
			t.Error("the password of the new Redis is in the journal, or was said")
		}
	})
}

func TestARehearsalThatFailsLeavesNothing(t *testing.T) {
	broken := errors.New("the rack is dark")
	for name, c := range map[string]struct {
		spoil func(*theatre)
		says  string
	}{
		"the copy is refused":               {func(th *theatre) { th.fails["Fork pg"] = &cloud.ScopeError{Scope: "database:create"} }, "database:create"},
		"no Redis is made":                  {func(th *theatre) { th.fails["Fork valkey"] = broken }, "the rack is dark"},
		"the copy is never there":           {func(th *theatre) { th.took = 24 * time.Hour }, "online"},
		"nothing is built":                  {func(th *theatre) { th.fails["build"] = broken }, "the rack is dark"},
		"no firewall is made":               {func(th *theatre) { th.fails["CreateFirewall"] = broken }, "the rack is dark"},
		"no web node is made":               {func(th *theatre) { th.fails["Create web"] = broken }, "the rack is dark"},
		"no Sidekiq node is made":           {func(th *theatre) { th.fails["Create sidekiq"] = broken }, "the rack is dark"},
		"the copy of the fork is lost":      {func(th *theatre) { th.lost = "Fork pg" }, "lost"},
		"the login is not given":            {func(th *theatre) { th.fails["Login"] = broken }, "the rack is dark"},
		"a node shows a strange key":        {func(th *theatre) { delete(th.known, "10.77.0.21") }, "shows none of the host keys"},
		"the fleet's database is near":      {func(th *theatre) { th.leaks = "10.77.0.41:5432" }, "reaches 10.77.0.41:5432"},
		"the fleet's Redis is near":         {func(th *theatre) { th.leaks = "10.77.0.42:6379" }, "reaches 10.77.0.42:6379"},
		"the world is near":                 {func(th *theatre) { th.leaks = "192.0.2.1:443" }, "it is not shut in, so nothing is started"},
		"a way opens when both are shut in": {func(th *theatre) { th.leaks, th.tight = "192.0.2.1:443", 2 }, "it is not shut in, so nothing is started"},
		"the old release does not start":    {func(th *theatre) { th.w.fails["rehearsal-web-"+copyRun+" start"] = broken }, "the rack is dark"},
		"it uses another database":          {func(th *theatre) { th.fork.Same = false }, "do not use"},
		"a migration fails":                 {func(th *theatre) { th.w.fails["migration"] = broken }, "not applied: 20251101000000"},
		"an index is left INVALID": {func(th *theatre) {
			th.w.ends = func(w *world, j node.Job) node.Job {
				th.fork.Invalid = []mastodon.Index{{Name: "i", Table: "t"}}
				return breaks(w, j)
			}
		}, "INVALID index"},
		"the new release does not boot": {func(th *theatre) { th.w.unbootable = "rehearsal-sidekiq-" + copyRun + "'" }, "does not boot"},
		"the new release does not serve": {func(th *theatre) {
			th.w.sick["rehearsal-web-"+copyRun+"' v4.5.15"] = "/ answers 500"
		}, "/ answers 500"},
	} {
		t.Run(name, func(t *testing.T) {
			inTheatre(t, func(t *testing.T, th *theatre) {
				f := th.conceiveCopy()
				c.spoil(th)
				res, _ := th.play(&dying{left: 1000}, f, false)
				if res.Status != pipeline.Undone || res.Touched || !strings.Contains(res.Err.Error(), c.says) {
					t.Errorf("%s at %s, touched %v: %v, %v", res.Status, res.Step, res.Touched, res.Err, res.UndoErr)
				}
				th.bare(name)
			})
		})
	}
}

func TestWhatMayComeYetKeepsItsFirewallUntilItIsSwept(t *testing.T) {
	inTheatre(t, func(t *testing.T, th *theatre) {
		f := th.conceiveCopy()
		th.lost = "Create sidekiq"
		late := th.a.droplets
		if res, _ := th.play(&dying{left: 1000}, f, false); res.Status != pipeline.Undone {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if len(th.a.walls) != 1 || len(th.a.droplets) != len(late) {
			t.Errorf("left: %v, %v", th.a.walls, th.a.droplets)
		}
		th.sweep(0)
		th.bare("swept")
	})
}

// sweep does what `refit sweep --yes` does, some time later.
func (th *theatre) sweep(later time.Duration) {
	th.t.Helper()
	time.Sleep(later)
	list, err := th.w.d.Expired(th.t.Context())
	if err == nil {
		err = th.w.d.Sweep(th.t.Context(), list, th.w.say)
	}
	if err != nil {
		th.t.Error(err)
	}
}

func TestARehearsalThatIsKilledAnywhereLeavesNothing(t *testing.T) {
	for name, end := range map[string]func(*theatre, *dying) pipeline.Status{
		"resumed": func(th *theatre, shelf *dying) pipeline.Status {
			res, _ := th.play(shelf, nil, false)
			if res.Err != nil {
				th.t.Errorf("%s at %s: %v", res.Status, res.Step, res.Err)
			}
			return res.Status
		},
		"resumed after a sweep of idle firewalls": func(th *theatre, shelf *dying) pipeline.Status {
			th.sweep(0)
			res, _ := th.play(shelf, nil, false)
			return res.Status
		},
		"taken back": func(th *theatre, shelf *dying) pipeline.Status {
			res, _ := th.play(shelf, nil, true)
			return res.Status
		},
		"swept": func(th *theatre, _ *dying) pipeline.Status {
			th.sweep(rehearsalLife + time.Minute)
			th.sweep(0) // firewalls go when their machines have gone
			return pipeline.Done
		},
		"swept, then taken back": func(th *theatre, shelf *dying) pipeline.Status {
			th.sweep(rehearsalLife + time.Minute)
			res, _ := th.play(shelf, nil, true)
			return res.Status
		},
	} {
		t.Run(name, func(t *testing.T) {
			saves := 1
			for ended := false; !ended && saves < 200; saves++ {
				inTheatre(t, func(t *testing.T, th *theatre) {
					shelf := &dying{left: saves}
					res, _ := th.play(shelf, th.conceiveCopy(), false)
					if ended = res.Status == pipeline.Done; ended {
						return
					}
					shelf.left = 1000
					if got := end(th, shelf); got != pipeline.Done && got != pipeline.Undone {
						t.Errorf("after %d saves: %s", saves, got)
					}
					th.bare(name)
				})
			}
			if saves < 20 {
				t.Errorf("killed in %d places alone", saves)
			}
		})
	}
}

func TestARehearsalThatIsKilledInADeedLeavesNothing(t *testing.T) {
	for _, what := range []string{
		"Fork pg", "Fork valkey", "CreateFirewall", "Create web", "Create sidekiq", "hostkeys.make", "hostkeys.use",
		"env.rehearse", "permit.write", "units", "Destroy", "DestroyDatabase",
	} {
		for _, back := range []bool{false, true} {
			inTheatre(t, func(t *testing.T, th *theatre) {
				shelf := &dying{left: 1000}
				th.dies = what
				res, _ := th.play(shelf, th.conceiveCopy(), false)
				if th.dies != "" || res.Status == pipeline.Done {
					t.Fatalf("%s: not killed: %s", what, res.Status)
				}
				if res, _ = th.play(shelf, nil, back); res.Status != pipeline.Done && res.Status != pipeline.Undone {
					t.Errorf("%s: %s at %s: %v, %v", what, res.Status, res.Step, res.Err, res.UndoErr)
				}
				th.bare(what)
			})
		}
	}
}

func TestARehearsalDestroysNothingThatItDidNotMake(t *testing.T) {
	inTheatre(t, func(t *testing.T, th *theatre) {
		f := th.conceiveCopy()
		r := f.Rehearsal
		own := cloud.Marks("lab", cloud.ForRehearsal, copyRun, cloud.ExpiryTag(r.Until))
		without := func(tag string) []string {
			return slices.DeleteFunc(slices.Clone(own), func(t string) bool { return t == tag })
		}
		for i, tags := range [][]string{nil, without(cloud.MadeTag), without(cloud.FleetTag("lab")), without(cloud.PurposeTag(cloud.ForRehearsal)), without(cloud.RunTag(copyRun)), append(without(cloud.RunTag(copyRun)), cloud.RunTag("20261122-100000-zzzzz"))} {
			th.a.droplets = append(th.a.droplets, cloud.Droplet{ID: 700 + i, Name: r.Copies[0].Host + "-like", Tags: tags})
			th.a.bases = append(th.a.bases, cloud.Database{ID: string(rune('a' + i)), Name: r.Fork.Name + "-like", Tags: tags})
		}
		th.a.bases = append(th.a.bases, cloud.Database{ID: "own", Name: "a person's own copy", Tags: own})
		th.a.walls = append(th.a.walls, cloud.Firewall{ID: "w1", Name: cloud.BirthName("lab", "20261122-100000-zzzzz"), Tags: []string{cloud.RunTag(copyRun)}}, cloud.Firewall{ID: "w2", Name: "prod", Tags: []string{"prod"}})
		for i, tags := range [][]string{nil, without(cloud.MadeTag), without(cloud.PurposeTag(cloud.ForRehearsal)), without(cloud.RunTag(copyRun))} {
			th.a.droplets = append(th.a.droplets, cloud.Droplet{ID: 710 + i, Name: r.Copies[0].Host, Tags: tags})
		}
		th.a.droplets = append(th.a.droplets, cloud.Droplet{ID: 720, Name: "a person's own machine", Tags: own})
		bases, droplets := len(th.a.bases), len(th.a.droplets)
		if res, _ := th.play(&dying{left: 1000}, f, false); res.Status != pipeline.Done {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		// The run's own firewall stays too: machines that carry the run's tag are behind it.
		if len(th.a.bases) != bases || len(th.a.droplets) != droplets || len(th.a.walls) != 3 || !th.w.heard("stays for machines that may come yet") {
			t.Errorf("destroyed %q", th.a.gone)
		}
	})
}

func TestADatabaseOfTheCopysNameThatIsAnothersIsNotTouched(t *testing.T) {
	inTheatre(t, func(t *testing.T, th *theatre) {
		f := th.conceiveCopy()
		th.a.bases = append(th.a.bases, cloud.Database{ID: "x", Name: f.Rehearsal.Fork.Name, Engine: "pg", Status: online, Host: "10.77.0.77", Port: 1})
		res, _ := th.play(&dying{left: 1000}, f, false)
		if res.Status != pipeline.Undone || !strings.Contains(res.Err.Error(), "did not make") || len(th.a.bases) != 2 {
			t.Errorf("%s: %v; %v", res.Status, res.Err, th.a.bases)
		}
	})
}

func TestWhatCannotBeDestroyedWaitsForAPerson(t *testing.T) {
	for _, method := range []string{"Destroy", "DestroyDatabase"} {
		inTheatre(t, func(t *testing.T, th *theatre) {
			shelf := &dying{left: 1000}
			th.fails[method] = errors.New("the account is closed")
			res, _ := th.play(shelf, th.conceiveCopy(), false)
			if res.Status != pipeline.Person || !strings.Contains(res.UndoErr.Error(), "is left: the account is closed") {
				t.Errorf("%s: %v, %v", res.Status, res.Err, res.UndoErr)
			}
			delete(th.fails, method)
			if res, _ = th.play(shelf, nil, false); res.Status != pipeline.Undone {
				t.Errorf("%s: %v, %v", res.Status, res.Err, res.UndoErr)
			}
			th.bare(method)
		})
	}
}

func TestARehearsalIsRefusedWhereItCannotEnd(t *testing.T) {
	for says, spoil := range map[string]func(*theatre){
		"there is no golden image of the tier web": func(th *theatre) { th.a.images = nil },
		"may have 9, and a rehearsal needs 2":      func(th *theatre) { th.limit = 9 },
		"it is copied when it is online":           func(th *theatre) { th.a.bases[0].Status = "resizing" },
		"cloud.database":                           func(th *theatre) { th.w.d.Rehearsals = nil },
		"cloud.born.from":                          func(th *theatre) { th.w.d.Births = nil },
	} {
		inTheatre(t, func(t *testing.T, th *theatre) {
			spoil(th)
			refused, err := th.w.d.ConceiveCopy(context.Background(), copyRun, someFacts(t), th.w.say)
			if err != nil || !strings.Contains(strings.Join(refused, "\n"), says) {
				t.Errorf("%v; refused %q, not %q", err, refused, says)
			}
			th.bare("refused")
		})
	}
}
