package stages

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// halfRolled is the world after Sidekiq was rolled, with kirk out of rotation and
// stopped, as a crash leaves it.
func halfRolled(w *world) {
	for _, n := range w.d.Fleet.Apps() {
		w.placed[n.Name] = []string{"v4.5.15"}
	}
	w.db.Applied = append(w.db.Applied, preMigration.Version)
	for _, n := range []string{"scotty", "decker"} {
		w.live[n], w.runs[n] = "v4.5.15", "v4.5.15"
	}
	w.runs["kirk"] = ""
	for _, proxy := range []string{"sulu", "chekov"} {
		w.down[proxy]["10.77.0.21"] = true
	}
}

func rebuilt(t *testing.T, w *world, copied *pipeline.Journal) *Rebuilt {
	t.Helper()
	r, err := w.d.Rebuild("u-1", w.d.Testify(t.Context()), w.f, copied, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// states are the marks of the plan's steps, in its order: "roll web kirk=doing".
func states(r *Rebuilt) string {
	var out []string
	for _, s := range r.Journal.Progress() {
		if s.State != pipeline.Pending {
			out = append(out, s.Name+"="+string(s.State))
		}
	}
	return strings.Join(out, ", ")
}

func TestARunIsRebuiltFromTheHostsAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		halfRolled(w)
		r := rebuilt(t, w, nil)
		const want = "preflight=done, build=done, place=done, bridge assets=doing, pre-migrate=done, roll sidekiq scotty=doing, roll sidekiq decker=doing, roll web kirk=doing"
		if got := states(r); got != want {
			t.Errorf("rebuilt:\n  %s\nwanted:\n  %s", got, want)
		}
		if len(r.Facts.Applied) != 1 || r.Facts.Digest != "digest of v4.5.15" || r.Journal.Direction != pipeline.Forward || r.Journal.OneWay() != "" {
			t.Errorf("facts %+v, %s, one way %q", r.Facts.Applied, r.Facts.Digest, r.Journal.OneWay())
		}
		if why := r.Why["roll web kirk"]; !strings.Contains(why, "v4.5.14") || !strings.Contains(why, "out of rotation on chekov, sulu") || !strings.Contains(why, "is inactive") {
			t.Errorf("why of kirk: %s", why)
		}
		if said := strings.Join(r.Said, "\n"); !strings.Contains(said, "rollback --from-hosts") || !strings.Contains(said, "how the site did before the run is lost") {
			t.Errorf("said: %s", said)
		}
		if w.done() != "" {
			t.Errorf("rebuilding changed something: %s", w.done())
		}
	})
}

func TestAWorkerThatWasOnlyQuietedCountsAsBegun(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.quiet["scotty"] = true
		if got := states(rebuilt(t, w, nil)); !strings.Contains(got, "roll sidekiq scotty=doing") || strings.Contains(got, "decker") {
			t.Error(got)
		}
	})
}

// copyOf is the copy of a journal with these marks, saved under epoch 1.
func copyOf(t *testing.T, w *world, marks map[string]pipeline.State, direction pipeline.Direction) *pipeline.Journal {
	t.Helper()
	all := map[string]pipeline.Mark{}
	for name, s := range marks {
		all[name] = pipeline.Mark{State: s}
	}
	j, err := pipeline.RestoreJournal(Upgrade("u-1", w.d, w.f), nil, all, direction, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j.Epoch, j.Seq = 1, 17
	return j
}

func TestACopyIsTrustedForNoMoreThanTheHostsConfirm(t *testing.T) {
	const kirk = "roll web kirk"
	serves := func(release string) func(*world) {
		return func(w *world) { w.live["kirk"], w.runs["kirk"] = release, release }
	}
	between := func(w *world) { w.live["kirk"], w.runs["kirk"] = "v4.5.15", "" }
	for name, test := range map[string]struct {
		host func(*world)
		copy pipeline.State
		want pipeline.State
	}{
		"both say done":                              {serves("v4.5.15"), pipeline.Finish, pipeline.Finish},
		"the copy is older than the roll":            {serves("v4.5.15"), pipeline.Pending, pipeline.Doing},
		"the copy was saved in the middle":           {serves("v4.5.15"), pipeline.Doing, pipeline.Doing},
		"somebody took it back after the copy":       {serves("v4.5.14"), pipeline.Finish, pipeline.Doing},
		"begun and nothing of it there":              {serves("v4.5.14"), pipeline.Doing, pipeline.Doing},
		"neither knows of it":                        {serves("v4.5.14"), pipeline.Pending, pipeline.Pending},
		"taken back, both say":                       {serves("v4.5.14"), pipeline.Back, pipeline.Back},
		"taken back, and rolled again since":         {serves("v4.5.15"), pipeline.Back, pipeline.Doing},
		"the copy says done and the host is between": {between, pipeline.Finish, pipeline.Doing},
		"the copy does not know that it was begun":   {between, pipeline.Pending, pipeline.Doing},
		"being taken back":                           {between, pipeline.Undoing, pipeline.Undoing},
		"failed":                                     {between, pipeline.Failed, pipeline.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				test.host(w)
				r := rebuilt(t, w, copyOf(t, w, map[string]pipeline.State{kirk: test.copy}, pipeline.Forward))
				if got := r.Journal.Marks[kirk].State; got != test.want {
					t.Errorf("%q, wanted %q (%s)", got, test.want, r.Why[kirk])
				}
				if r.Journal.Seq != 17 || r.Journal.Epoch != 1 {
					t.Errorf("save %d, epoch %d: later saves would not be above the copy", r.Journal.Seq, r.Journal.Epoch)
				}
			})
		})
	}
}

func TestACopyOnItsWayBackStaysOnIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		halfRolled(w)
		r := rebuilt(t, w, copyOf(t, w, map[string]pipeline.State{"roll sidekiq scotty": pipeline.Finish, "pre-migrate": pipeline.Finish, "place": pipeline.Finish}, pipeline.Backward))
		if r.Journal.Direction != pipeline.Backward || r.Journal.Marks["roll sidekiq scotty"].State != pipeline.Finish || r.Journal.Marks["roll sidekiq decker"].State != pipeline.Doing {
			t.Errorf("%s: %s", r.Journal.Direction, states(r))
		}
	})
}

func TestALaterHolderIsNamedAndTheDirectionLeftToThePerson(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		halfRolled(w)
		at := w.d.Testify(t.Context())
		kirk := at.Hosts["kirk"]
		kirk.Fence = node.Fence{Epoch: 9, Holder: "ana@bridge (process 7), run u-1"}
		at.Hosts["kirk"] = kirk
		r, err := w.d.Rebuild("u-1", at, w.f, copyOf(t, w, nil, pipeline.Forward), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(r.Said, "\n"); !strings.Contains(said, "epoch 9") || !strings.Contains(said, "ana@bridge") || !strings.Contains(said, "rollback --from-hosts") {
			t.Error(said)
		}
		if _, _, run := at.Epoch(); run != "u-1" {
			t.Errorf("the fence's run: %q", run)
		}
	})
}

func TestAPostMigrationInTheDatabaseIsOneWayWhateverTheCopySays(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"it is applied": func(w *world) { w.db.Applied = append(w.db.Applied, postMigration.Version) },
		"its unit was begun": func(w *world) {
			w.jobs[postUnit] = node.Job{Unit: postUnit, State: node.JobUnknown, Argv: migration{w.d, w.f, true}.recipe().Argv}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				halfRolled(w)
				spoil(w)
				for _, copied := range []*pipeline.Journal{nil, copyOf(t, w, nil, pipeline.Forward)} {
					r := rebuilt(t, w, copied)
					if r.Journal.OneWay() != "post-migrate" || r.Journal.Marks["post-migrate"].State != pipeline.Doing {
						t.Errorf("one way %q: %s", r.Journal.OneWay(), states(r))
					}
				}
			})
		})
	}
}

func TestAMigrationAtWorkIsAdopted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.jobs[preUnit] = node.Job{Unit: preUnit, State: node.JobRunning, Argv: migration{w.d, w.f, false}.recipe().Argv}
		w.lasts = 100
		r := rebuilt(t, w, nil)
		if got := r.Journal.Marks["pre-migrate"].State; got != pipeline.Doing || !strings.Contains(r.Why["pre-migrate"], "at work") {
			t.Errorf("%s: %s", got, states(r))
		}
	})
}

func TestWhatCannotBeToldApartIsRefusedWithWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*world)
		words []string
	}{
		"a host does not answer":       {func(w *world) { w.fails["spock facts"] = errDown }, []string{"spock cannot be asked", "bring it back", "take it out of refit.yml"}},
		"a proxy does not answer":      {func(w *world) { w.fails["sulu upstream.get"] = errDown }, []string{"whether kirk is in rotation", "sulu"}},
		"the database does not answer": {func(w *world) { w.dbFails = errDown }, []string{"the database cannot be asked"}},
		"Redis does not answer":        {func(w *world) { failEverywhere(w, "sidekiq") }, []string{"no node could ask Redis"}},
		"a third release":              {func(w *world) { w.runs["spock"] = "v4.5.9" }, []string{"v4.5.9 on spock", "by hand"}},
		"no release":                   {func(w *world) { w.live["spock"] = "v0"; w.runs["spock"] = "" }, []string{"v0 on spock"}},
		"a migration of another release": {func(w *world) {
			w.lasts = 100
			w.jobs[preUnit] = node.Job{Unit: preUnit, State: node.JobRunning, Argv: []string{"/home/mastodon/releases/v4.5.99/.refit/bin/bundle", "exec"}}
		}, []string{"refit-migrate-pre.service runs on scotty for another release", "v4.5.99", "never kill it"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				halfRolled(w)
				test.spoil(w)
				_, err := w.d.Rebuild("u-1", w.d.Testify(t.Context()), w.f, copyOf(t, w, nil, pipeline.Forward), time.Now())
				failsWith(t, err, append(test.words, "nothing was changed")...)
				if !errors.Is(err, pipeline.ErrRefused) {
					t.Errorf("no refusal: %v", err)
				}
			})
		})
	}
}

func failEverywhere(w *world, verb string) {
	for _, n := range w.d.Fleet {
		w.fails[n.Name+" "+verb] = errDown
	}
}

func TestAFleetOfWhichNothingIsHalfWayIsNotRebuiltWithoutACopy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.placed["kirk"] = []string{"v4.5.15"}
		w.db.Applied = append(w.db.Applied, preMigration.Version)
		_, err := w.d.Rebuild("u-1", w.d.Testify(t.Context()), w.f, nil, time.Now())
		failsWith(t, err, "nothing was left half way", "refit upgrade --to v4.5.15")
	})
}

func TestTheReleaseBeforeIsTheOneThatOtherNodesRunOrTheNewestOtherThatLiesEverywhere(t *testing.T) {
	everywhere := func(w *world, release string) {
		for _, n := range w.d.Fleet.Apps() {
			w.live[n.Name], w.runs[n.Name] = release, release
		}
	}
	for name, test := range map[string]struct {
		change func(*world)
		want   string
		words  []string
	}{
		"others run it": {halfRolled, "v4.5.14", nil},
		"all are rolled": {func(w *world) {
			everywhere(w, "v4.5.15")
			w.placed["kirk"] = []string{"v4.5.13", "v4.5.15"}
		}, "v4.5.14", nil},
		"a link names one and its processes run the other": {func(w *world) {
			everywhere(w, "v4.5.15")
			w.live["kirk"] = "v4.5.13"
		}, "v4.5.13", nil},
		"two others": {func(w *world) {
			halfRolled(w)
			w.runs["spock"] = "v4.5.13"
		}, "", []string{"v4.5.13 on spock", "cannot be told"}},
		"a newer one":      {func(w *world) { everywhere(w, "v4.6.0") }, "", []string{"v4.6.0", "newer than v4.5.15"}},
		"a host is silent": {func(w *world) { w.fails["uhura facts"] = errDown }, "", []string{"uhura cannot be asked"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				test.change(w)
				got, err := w.d.CameFrom(w.d.Testify(t.Context()), w.f.To.Version)
				if test.words != nil {
					failsWith(t, err, test.words...)
					return
				}
				if err != nil || got.String() != test.want {
					t.Errorf("%s, %v", got, err)
				}
			})
		})
	}
}

func TestARunIsRebuiltForTheHostsThatAreNamedNow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		halfRolled(w)
		copied := copyOf(t, w, map[string]pipeline.State{"roll web spock": pipeline.Finish}, pipeline.Forward)
		for i, n := range w.d.Fleet {
			if n.Name == "spock" {
				w.d.Fleet[i].Name = "picard"
			}
		}
		w.live["picard"], w.runs["picard"] = "v4.5.14", "v4.5.14"
		missing, added := w.f.FleetChanged(w.d.Fleet)
		if !slices.Equal(missing, []string{"spock"}) || !slices.Equal(added, []string{"picard"}) {
			t.Fatalf("missing %v, added %v", missing, added)
		}
		r := rebuilt(t, w, copied)
		var steps []string
		for _, s := range r.Plan.Steps {
			if strings.HasPrefix(s.Name(), "roll web") {
				steps = append(steps, s.Name())
			}
		}
		if !slices.Equal(steps, []string{"roll web kirk", "roll web picard"}) || !strings.Contains(strings.Join(r.Said, " "), "no longer names spock") {
			t.Errorf("%v: %v", steps, r.Said)
		}
	})
}

func TestWhatHostsSayIsPutInWords(t *testing.T) {
	w := Witness{
		Facts:   node.Facts{Live: "v4.5.15", Units: []node.UnitState{{Name: mastodon.WebUnit, Active: "active", Release: "v4.5.14"}}},
		Drained: []string{"sulu"}, Quiet: true,
		Fence: node.Fence{Verbs: []node.Holder{{Verb: "switch", Run: "u-1"}}},
		Jobs:  []node.Job{{Unit: preUnit, State: node.JobRunning, Argv: []string{"bundle"}}},
	}
	for _, want := range []string{"runs v4.5.14", "out of rotation on sulu", "take no new jobs", "at work: switch of run u-1", "at work: " + preUnit} {
		if !strings.Contains(w.Stands(), want) {
			t.Errorf("%q lacks %q", w.Stands(), want)
		}
	}
}

func TestHowFarTheDatabaseIsIsToldWithoutAnyJournal(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		halfRolled(w)
		at := w.d.Testify(t.Context())
		for want, f := range map[string]*Facts{
			"has 1 of 1 pre-migrations and 0 of 1 post-migrations of v4.5.15": w.f,
			"answers, 2 migrations applied in all":                            {},
		} {
			if got := at.Migrations(f); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		w.dbFails = errDown
		if got := w.d.Testify(t.Context()).Migrations(w.f); !strings.Contains(got, "cannot be asked") {
			t.Error(got)
		}
	})
}
