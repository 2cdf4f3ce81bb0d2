package stages

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/pipeline"
)

// astray is a world in which the fleet runs v4.5.15, and one node came back with v4.5.14.
func astray(t *testing.T, host string, test func(*testing.T, *world)) {
	t.Helper()
	inWorld(t, func(t *testing.T, w *world) {
		for _, n := range w.d.Fleet.Apps() {
			w.live[n.Name], w.runs[n.Name] = "v4.5.15", "v4.5.15"
		}
		w.live[host], w.runs[host] = "v4.5.14", "v4.5.14"
		w.forgotten, w.placed[host] = true, []string{"v4.5.15"}
		var err error
		if w.record, err = json.Marshal(Record{Schema: "refit.fleet/v1", Release: "v4.5.15", Digest: "digest of v4.5.15"}); err != nil {
			t.Fatal(err)
		}
		test(t, w)
	})
}

// align plans and runs, or goes on with what the shelf has.
func (w *world) align(host string, shelf *dying, back bool) pipeline.Result {
	w.t.Helper()
	ctx, kill := context.WithCancel(w.t.Context())
	defer kill()
	shelf.kill = kill
	watch := pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) { w.say("%s %s %s %s", e.Kind, e.Step, e.Text, e.Err) }))
	o := pipeline.Options{Ground: w.d.Ground(), Patience: time.Minute, Watch: watch}
	if shelf.last == nil {
		f, refused, err := w.d.ConceiveAlign(w.t.Context(), host, w.say)
		if err != nil || len(refused) > 0 {
			w.t.Fatal(refused, err)
		}
		p := Align("u-1", w.d, f)
		return pipeline.Execute(ctx, p, pipeline.NewJournal(p, shelf, 1, time.Now()), o)
	}
	j, err := pipeline.LoadJournal(w.t.Context(), shelf, "u-1")
	f := &Facts{}
	if err == nil {
		err = errors.Join(j.Adopt(shelf, 1), j.LoadFacts(f))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if back {
		return pipeline.Unwind(ctx, Align("u-1", w.d, f), j, o)
	}
	return pipeline.Execute(ctx, Align("u-1", w.d, f), j, o)
}

// inStep asks whether a node does what the fleet does again.
func (w *world) inStep(host string) {
	w.t.Helper()
	if w.live[host] != "v4.5.15" || w.runs[host] != "v4.5.15" || w.quiet[host] {
		w.t.Errorf("%s: live is %s, it runs %q, quiet %t", host, w.live[host], w.runs[host], w.quiet[host])
	}
	w.isOut(host, false)
}

func (w *world) isOut(host string, want bool) {
	w.t.Helper()
	n := w.node(host)
	if !n.Has(hosts.Web) {
		return
	}
	for _, p := range w.d.proxies() {
		if w.down[p.Name][n.Address] != want {
			w.t.Errorf("out of rotation on %s: %t", p.Name, !want)
		}
	}
}

func TestANodeThatIsOutOfStepIsBroughtToWhatTheFleetRuns(t *testing.T) {
	for _, host := range []string{"kirk", "scotty", "decker"} {
		astray(t, host, func(t *testing.T, w *world) {
			if res := w.align(host, &dying{left: 1000}, false); res.Status != pipeline.Done {
				t.Fatalf("%s: %s at %s: %v", host, res.Status, res.Step, res.Err)
			}
			w.inStep(host)
			done := w.done()
			if stop, to := strings.Index(done, host+": stop"), strings.Index(done, host+": switch to v4.5.15"); stop < 0 || to < stop {
				t.Errorf("it was not stopped before it was switched:\n%s", done)
			}
			for _, other := range w.d.Fleet.Apps().But(host) {
				if strings.Contains(done, other.Name+": ") {
					t.Errorf("%s was touched:\n%s", other.Name, done)
				}
			}
			if len(w.booted) != 1 || !strings.HasPrefix(w.booted[0], host+" ") {
				t.Errorf("booted once were %q", w.booted)
			}
		})
	}
}

func TestAnAlignmentThatIsKilledAnywhereIsGoneOnWith(t *testing.T) {
	for _, host := range []string{"kirk", "decker"} {
		for saves, ended := 1, false; !ended && saves < 40; saves++ {
			astray(t, host, func(t *testing.T, w *world) {
				shelf := &dying{left: saves}
				res := w.align(host, shelf, false)
				if ended = res.Status == pipeline.Done; !ended {
					shelf.left = 1000
					if res = w.align(host, shelf, false); res.Status != pipeline.Done {
						t.Fatalf("%s, killed after %d saves: %s at %s: %v", host, saves, res.Status, res.Step, res.Err)
					}
				}
				w.inStep(host)
			})
			if t.Failed() {
				return
			}
		}
	}
}

func TestANodeThatCannotBeBroughtIntoStepStaysOut(t *testing.T) {
	for name, harm := range map[string]func(*world, string){
		"it does not boot":       func(w *world, host string) { w.unbootable = host },
		"it does not start":      func(w *world, host string) { w.fails[host+" start"] = errors.New("exit code 1") },
		"it is another build":    func(w *world, host string) { w.lacks = map[string]bool{host + " v4.5.15": true} },
		"it does not do its job": func(w *world, host string) { w.sick = map[string]string{host + " v4.5.15": "503"} },
	} {
		t.Run(name, func(t *testing.T) {
			astray(t, "kirk", func(t *testing.T, w *world) {
				harm(w, "kirk")
				res := w.align("kirk", &dying{left: 1000}, false)
				if res.Status != pipeline.Undone {
					t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
				}
				if w.runs["kirk"] != "" {
					t.Errorf("it runs %s", w.runs["kirk"])
				}
				w.isOut("kirk", true)
				if !w.heard("stays out and stopped") || !w.heard("refit align --host kirk") {
					t.Error("nobody was told where it stands")
				}
			})
		})
	}
}

func TestAnAlignmentThatIsTakenBackLeavesTheNodeOut(t *testing.T) {
	astray(t, "kirk", func(t *testing.T, w *world) {
		shelf := &dying{left: 4}
		w.align("kirk", shelf, false)
		shelf.left = 1000
		if res := w.align("kirk", shelf, true); res.Status != pipeline.Undone {
			t.Fatalf("%s at %s: %v", res.Status, res.Step, res.Err)
		}
		if w.runs["kirk"] != "" {
			t.Errorf("it runs %s", w.runs["kirk"])
		}
		w.isOut("kirk", true)
	})
}

func TestAnAlignmentIsRefusedWhereNobodyKnowsWhatIsRight(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		harm func(*world)
		want string
	}{
		"in step":                   {"spock", func(*world) {}, "spock is in step: it runs v4.5.15"},
		"nobody's node":             {"picard", func(*world) {}, "no web or Sidekiq node picard"},
		"a proxy":                   {"sulu", func(*world) {}, "no web or Sidekiq node sulu"},
		"nothing on record":         {"kirk", func(w *world) { w.record = nil }, "uhura has no known release on record"},
		"most run something else":   {"kirk", func(w *world) { w.live["spock"], w.live["scotty"] = "v4.5.14", "v4.5.14" }, "nobody can say what kirk should run"},
		"its peer does not serve":   {"kirk", func(w *world) { w.sick = map[string]string{"spock": "502"} }, "spock does not serve well"},
		"the database is not there": {"kirk", func(w *world) { w.dbFails = errors.New("connection refused") }, "the database: "},
	} {
		t.Run(name, func(t *testing.T) {
			astray(t, "kirk", func(t *testing.T, w *world) {
				c.harm(w)
				_, refused, err := w.d.ConceiveAlign(t.Context(), c.host, w.say)
				if err != nil || !strings.Contains(strings.Join(refused, "; "), c.want) {
					t.Errorf("%q, %v", refused, err)
				}
				if w.done() != "" {
					t.Errorf("something was done: %s", w.done())
				}
			})
		})
	}
}

func TestAnUpgradeNamesTheHostThatIsOutOfStepAndTheCommand(t *testing.T) {
	astray(t, "kirk", func(t *testing.T, w *world) {
		v := w.d.Look(t.Context(), nil, w.say)
		release, refusal := runs(w.d, v)
		if release != "" || !strings.Contains(refusal, "kirk is out of step: it runs v4.5.14, and the fleet v4.5.15") || !strings.Contains(refusal, "`refit align --host kirk`") {
			t.Errorf("%q, %q", release, refusal)
		}
		refused, _ := w.d.Fleetwide(v)
		if !strings.Contains(strings.Join(refused, "; "), "refit align --host kirk") {
			t.Errorf("doctor says %q", refused)
		}
	})
}

func TestWhoIsOutOfStepIsSaidByTheRecordAlone(t *testing.T) {
	live := map[string]string{"a": "v4.5.15", "b": "v4.5.14", "c": "v4.5.15", "d": ""}
	for recorded, want := range map[string]int{"v4.5.15": 2, "v4.5.14": 0, "": 0, "v4.6.0": 0} {
		if got := OutOfStep(live, recorded); len(got) != want {
			t.Errorf("recorded %q: %q", recorded, got)
		}
	}
	if got := OutOfStep(map[string]string{"a": "v4.5.15"}, "v4.5.15"); got != nil {
		t.Errorf("%q", got)
	}
}
