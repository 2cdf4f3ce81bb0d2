package stages

import (
	"errors"
	"testing"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

func TestAnIllPeerOnTheNewReleaseIsBroughtBackFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, n := range []string{"kirk", "spock"} {
			w.live[n], w.runs[n] = "v4.5.15", "v4.5.15"
		}
		w.sick["kirk v4.5.15"] = "/ answers 500"
		if err := (rollWeb{w.d, w.f, w.node("spock")}).Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w,
			"both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.14", "kirk: start", "both: 10.77.0.21 up",
			"both: 10.77.0.22 down", "spock: stop", "spock: switch to v4.5.14", "spock: start", "both: 10.77.0.22 up")
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.live["scotty"], w.live["decker"], w.runs["decker"], w.runs["scotty"] = "v4.5.15", "v4.5.15", "v4.5.15", ""
		if err := (rollSidekiq{w.d, w.f, w.node("decker")}).Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w,
			"scotty: stop", "scotty: switch to v4.5.14", "scotty: start",
			"decker: kill TSTP", "decker: stop", "decker: switch to v4.5.14", "decker: start")
	})
}

func TestAPeerThatAWayBackLeftOutOfRotationIsPutBackFirst(t *testing.T) {
	back := []string{"both: 10.77.0.22 down", "spock: stop", "spock: switch to v4.5.14", "spock: start", "both: 10.77.0.22 up"}
	for name, c := range map[string]struct {
		on      []string // the proxies that have it out
		release string   // that it runs
		first   []string
	}{
		"it serves the old release":                {[]string{"sulu", "chekov"}, "v4.5.14", []string{"both: 10.77.0.21 up"}},
		"one proxy has it back already":            {[]string{"chekov"}, "v4.5.14", []string{"both: 10.77.0.21 up"}},
		"it was only taken out of rotation so far": {[]string{"sulu", "chekov"}, "v4.5.15", []string{"both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.14", "kirk: start", "both: 10.77.0.21 up"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.live["kirk"], w.runs["kirk"] = c.release, c.release
				w.live["spock"], w.runs["spock"] = "v4.5.15", "v4.5.15"
				for _, proxy := range c.on {
					w.down[proxy]["10.77.0.21"] = true
				}
				if err := (rollWeb{w.d, w.f, w.node("spock")}).Undo(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				didAll(t, w, append(c.first, back...)...)
			})
		})
	}
}

func TestASiteThatIsIllIsNoReasonToStopOnTheWayBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15"
		w.errors5xx, w.slow = 30, time.Minute
		if err := (rollWeb{w.d, w.f, w.node("kirk")}).Undo(t.Context(), w.say); err != nil {
			t.Error(err)
		}
	})
}

func TestAQuietWorkerIsRestartedThoughItRunsTheRelease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) { // as after a crash between the signal and the stop, on the way back
		w.quiet["scotty"] = true
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "scotty: kill TSTP", "scotty: stop", "scotty: switch to v4.5.14", "scotty: start")
	})
}

func TestAPeerThatIsRolledBeforeIsJudgedWhenItsTurnHasPassed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Web, w.sick["spock v4.5.14"] = []string{"spock", "kirk"}, "/ answers 500"
		for _, name := range w.f.Web {
			if err := (rollWeb{w.d, w.f, w.node(name)}).Check(t.Context(), w.say); err != nil {
				t.Errorf("%s before anything was rolled: %v", name, err)
			}
		}
		w.runs["spock"], w.sick["spock v4.5.15"] = "v4.5.15", "/ answers 500"
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Check(t.Context(), w.say)
		if !errors.Is(err, pipeline.ErrRefused) {
			t.Errorf("not refused: %v", err)
		}
	})
}

func TestANodeIsNotTakenOutWhileAProxyCannotBeAsked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["chekov upstream.get"] = errDown
		failsWith(t, (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say), "cannot take kirk out: ", "chekov: the link is gone")
		didAll(t, w)
	})
}

func TestAHostThatIsAwayKeepsPostMigrationsFromBeginning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.onNew()
		w.fails["sulu fence.show"] = errDown
		err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "sulu: the link is gone", "`refit resume` when every host is back")
		did(t, w, "")
	})
}

func TestWhatIsDoneIsNotTakenBackForItsLastNotes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["uhura file.put"], w.fails["kirk prune"] = errDown, errDown
		needsPerson(t, (record{w.d, w.f}).Run(t.Context(), w.say), "every node runs v4.5.15; only /var/lib/refit/fleet.json could not be written on uhura", "`refit resume`")
		if err := (prune{w.d, w.f}).Run(t.Context(), w.say); err != nil || !w.heard("old releases stay: kirk: cannot remove old releases") {
			t.Errorf("%v, said %q", err, w.said)
		}
		w.onNew()
		w.db.Applied = append(w.db.Applied, oldMigration.Version)
		ends := w.ends
		w.ends = func(w *world, j node.Job) node.Job {
			w.slow = time.Minute
			return ends(w, j)
		}
		needsPerson(t, (postMigrate{w.d, w.f}).Run(t.Context(), w.say), "every node runs v4.5.15 and every migration was applied, but the site is off its baseline", "`refit resume` once it is well")
	})
}

func TestAnIndexThatIsBeingBuiltIsLeftBehindByNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.db.Invalid = []mastodon.Index{{Name: "index_a", Table: "accounts", Building: true}}
		if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Error(err)
		}
	})
}

func TestTheUsualShareOfErrorsIsPartOfTheBaseline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.errors5xx = 3
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if w.f.Baseline.Errors != 0.1 {
			t.Errorf("errors: %v", w.f.Baseline.Errors)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.requests, w.errors5xx, w.f.Baseline.Errors = 0, 0, 0
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil || w.f.Baseline.Errors != 0 || !w.heard("the usual share of errors is not known and taken for none") {
			t.Errorf("%v, errors %v, said %q", err, w.f.Baseline.Errors, w.said)
		}
	})
}
