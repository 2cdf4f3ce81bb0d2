package report

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/slacktest"
)

// script is a run that fails in its second step and goes back, as its engine would
// journal and tell it: each deed marks the journal first.
func (x *story) script() []func() {
	mark := func(step string, state pipeline.State, why string, e pipeline.Event) func() {
		return func() {
			for i := range x.run.Steps {
				if x.run.Steps[i].Name == step {
					x.run.Steps[i].State = state
					if why != "" {
						x.run.Steps[i].Error = why
					}
				}
			}
			e.Step, e.Err = step, why
			x.tell(e)
		}
	}
	return []func(){
		mark("build", pipeline.Doing, "", pipeline.Event{Kind: pipeline.StepStarted}),
		mark("build", pipeline.Finish, "", pipeline.Event{Kind: pipeline.StepDone, Elapsed: time.Second}),
		mark("roll web kirk", pipeline.Doing, "", pipeline.Event{Kind: pipeline.StepStarted}),
		mark("roll web kirk", pipeline.Failed, "it broke", pipeline.Event{Kind: pipeline.StepFailed}),
		mark("roll web kirk", pipeline.Undoing, "", pipeline.Event{Kind: pipeline.StepUndoing}),
		mark("roll web kirk", pipeline.Back, "", pipeline.Event{Kind: pipeline.StepUndone, Elapsed: time.Second}),
		mark("build", pipeline.Back, "", pipeline.Event{Kind: pipeline.StepUndone, Elapsed: time.Second}),
	}
}

// undone is the report of the script's run.
func undone(x *story) Report {
	r := done(x)
	r.Status, r.Step, r.Cause, r.Touched = pipeline.Undone, "roll web kirk", "it broke", true
	return r
}

// live runs the script in processes of which the first dies at its n-th deed, and
// tells whether it died, and where.
func (x *story) live(n int, after bool) (died bool, where string) {
	fates := [][2]int{{n, map[bool]int{true: 1}[after]}}
	deaths := x.lives(func() (int, bool) {
		if len(fates) == 0 {
			return -1, false
		}
		f := fates[0]
		fates = nil
		return f[0], f[1] == 1
	})
	if len(deaths) == 0 {
		return false, ""
	}
	return true, deaths[0]
}

// lives runs the script in processes of which each has its fate: the deed at which it
// dies, before that has its effect or after. It tells where they died.
func (x *story) lives(fate func() (n int, after bool)) (deaths []string) {
	var d *deadly
	start := func() {
		n, after := fate()
		d = x.mortal(n, after)
		x.open()
		x.s.Begin(x.run)
	}
	// again buries the dead and starts the next process, until one is alive.
	again := func(words string) {
		for d.isDead() {
			x.bury()
			deaths = append(deaths, d.what)
			x.run.Resumed = true
			pass(3 * time.Second)
			start()
			x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: words})
			pass(2 * time.Second)
		}
	}
	start()
	x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
	pass(2 * time.Second)
	for _, deed := range x.script() {
		again("resuming upgrade")
		deed()
		pass(2 * time.Second)
	}
	again("resuming upgrade")
	x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
	pass(2 * time.Second)
	x.s.End(undone(x))
	pass(10 * time.Second)
	for {
		said := x.s.Close(time.Minute)
		if !d.isDead() {
			if len(said) > 0 {
				x.t.Errorf("%q", said)
			}
			return deaths
		}
		// The engine has nothing more to do: the next command tells what was not told.
		x.run.Over = true
		again("looking back")
		x.s.End(undone(x))
	}
}

// once fails the test unless everything of the script was told exactly once.
func (x *story) once(what string) {
	x.t.Helper()
	count := map[string]int{}
	for _, m := range x.slack.Messages() {
		kind := strings.TrimPrefix(m.Key, "run/"+x.run.ID)
		switch {
		case kind == "":
			count["root"]++
			has(x.t, what+": the run's message", m.Said[len(m.Said)-1], "failed and taken back")
		case strings.HasPrefix(kind, "/failed/"):
			count["failure"]++
		case strings.HasPrefix(kind, "/end/"):
			count["end"]++
		}
	}
	all := x.all()
	for line, words := range map[string][]string{
		"build done": {"build on uhura: done ", "build: done "}, "kirk back": {"roll web kirk: taken back"},
		"build back": {"build on uhura: taken back", "build: taken back"},
	} {
		for _, w := range words {
			count[line] += strings.Count(all, w)
		}
		// A message's line of notification repeats its first line.
		for _, m := range x.slack.Messages() {
			for _, w := range words {
				if strings.Contains(m.Text, w) {
					count[line]--
				}
			}
		}
	}
	for _, k := range []string{"root", "failure", "end", "build done", "kirk back", "build back"} {
		if count[k] != 1 {
			x.t.Errorf("%s: %q is told %d times:\n%s", what, k, count[k], all)
		}
	}
	x.lawful()
}

// A process that dies at any save and any call, before it has its effect or after,
// leaves one that comes after it what it needs to tell everything once.
func TestAKillAtAnyPointNeitherDoublesNorLosesAMessage(t *testing.T) {
	for _, after := range []bool{false, true} {
		kills := map[string]int{}
		for n := 1; ; n++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				x := begin(t, nil)
				x.s.Close(time.Second)
				var where string
				died, where = x.live(n, after)
				kills[where]++
				x.once(fmt.Sprintf("killed at deed %d (%s, after: %t)", n, where, after))
			})
			if !died || t.Failed() {
				t.Logf("killed at %d points, after their effect: %t, %v", n-1, after, kills)
				if n < 20 && !t.Failed() {
					t.Errorf("only %d points", n)
				}
				break
			}
		}
	}
}

// Processes that die again and again, each at a random point, tell everything once
// between them.
func TestManyKillsNeitherDoubleNorLoseAMessage(t *testing.T) {
	total := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			x := begin(t, nil)
			x.s.Close(time.Second)
			r := rand.New(rand.NewPCG(seed, 1))
			lives := 0
			deaths := x.lives(func() (int, bool) {
				if lives++; lives > 12 {
					return -1, false
				}
				return 1 + r.IntN(15), r.IntN(2) == 0
			})
			total += len(deaths)
			x.once(fmt.Sprintf("seed %d, killed at %v", seed, deaths))
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d kills", total)
}

// Every single call may lose its answer, or be lost itself, without a kill.
func TestAnAnswerThatIsLostIsFoundAgain(t *testing.T) {
	for _, fault := range []slacktest.Fault{slacktest.Cut, slacktest.Dropped, slacktest.BrokenAfter, slacktest.Broken, slacktest.Refused, slacktest.Busy} {
		for n := 1; n < 12; n++ {
			synctest.Test(t, func(t *testing.T) {
				x := beginWith(t, slacktest.Options{Late: 4 * time.Second, Skew: -3 * time.Minute}, nil)
				x.s.Close(time.Second)
				calls := 0
				x.slack.Meddle(func(slacktest.Call) slacktest.Fault {
					if calls++; calls == n {
						return fault
					}
					return slacktest.None
				})
				x.live(-1, false)
				x.once(fmt.Sprintf("fault %d at call %d", fault, n))
			})
		}
	}
}

// takenOver tells the first half of the script on one machine, which then dies; what is to
// come is another's, with a disk of its own.
func (x *story) takenOver() {
	x.s.Begin(x.run)
	x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
	for _, deed := range x.script()[:4] {
		deed()
		pass(4 * time.Second)
	}
	x.bury()
	x.disk = &memory{}
	x.o.disk, x.run.Resumed = x.disk, true
	pass(2 * time.Hour)
}

// goesOn tells the rest.
func (x *story) goesOn(what string) {
	x.t.Helper()
	for _, deed := range x.script()[4:] {
		deed()
		pass(2 * time.Second)
	}
	x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
	x.s.End(undone(x))
	if said := x.close(time.Minute); len(said) > 0 {
		x.t.Error(said)
	}
	x.once(what)
}

func TestARunThatIsTakenOverByAnotherMachineKeepsItsMessage(t *testing.T) {
	for _, fault := range []slacktest.Fault{slacktest.None, slacktest.Busy, slacktest.Cut, slacktest.Broken} {
		synctest.Test(t, func(t *testing.T) {
			x := begin(t, nil)
			x.takenOver()
			struck := false
			x.slack.Meddle(func(c slacktest.Call) slacktest.Fault {
				if struck || c.Method != "conversations.replies" {
					return slacktest.None
				}
				struck = true
				return fault
			})
			x.open()
			x.s.Begin(x.run)
			x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "resuming upgrade"})
			pass(time.Minute)
			x.goesOn(fmt.Sprintf("taken over, fault %d when its thread is read", fault))
		})
	}
}

func TestAProcessThatDiesWhileItTakesARunOverLeavesItWholeToTheNext(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				x := begin(t, nil)
				x.takenOver()
				d := x.mortal(n, after)
				x.open()
				x.s.Begin(x.run)
				x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "resuming upgrade"})
				pass(20 * time.Second)
				if died = d.isDead(); died {
					x.bury()
					x.o.disk, x.o.Client = x.disk, x.slack.Client()
					x.open()
					pass(10 * time.Second) // it knows what to tell of the run only then
					x.s.Begin(x.run)
					x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "resuming upgrade"})
					pass(20 * time.Second)
				}
				d.live()
				x.goesOn(fmt.Sprintf("taken over, killed at deed %d (%s, after: %t)", n, d.what, after))
			})
			if !died || t.Failed() {
				t.Logf("killed at %d points, after their effect: %t", n-1, after)
				break
			}
		}
	}
}

func TestARunOfAnotherMachineThatNeverReachedSlackIsToldWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		for i, s := range []pipeline.State{pipeline.Finish, pipeline.Failed} {
			x.run.Steps[i].State = s
		}
		x.run.Steps[1].Error = "it broke"
		x.run.Resumed = true
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "resuming upgrade"})
		pass(time.Minute)
		for _, deed := range x.script()[4:] {
			deed()
			pass(2 * time.Second)
		}
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
		x.s.End(undone(x))
		if said := x.close(time.Minute); len(said) > 0 {
			t.Error(said)
		}
		x.once("told late")
	})
}

func TestWithoutTheRightToReadAMessageIsRatherToldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := beginWith(t, slacktest.Options{Scopes: []string{"chat:write"}}, nil)
		x.slack.Meddle(func(c slacktest.Call) slacktest.Fault {
			if c.N == 1 {
				return slacktest.Cut
			}
			return slacktest.None
		})
		x.rolls()
		x.ends()
		said := strings.Join(x.close(15*time.Second), "\n")
		has(t, "what is said at the end", said, "may stand there twice", "channels:history")
		if list := x.channel(); len(list) != 2 || strings.Count(list[1].Said[0], "(again: ") != 2 { // in the notification and in what is seen
			t.Errorf("%+v", list)
		}
		x.lawful()
	})
}

func TestAStateFileThatCannotBeReadCostsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		for _, deed := range x.script()[:4] {
			deed()
			pass(4 * time.Second)
		}
		x.bury()
		x.disk.b = []byte("{half a fi")
		x.run.Resumed = true
		x.open()
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "resuming upgrade"})
		for _, deed := range x.script()[4:] {
			deed()
			pass(2 * time.Second)
		}
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
		x.s.End(undone(x))
		said := strings.Join(x.close(time.Minute), "\n")
		has(t, "what is said", said, "cannot read what was told to Slack")
		x.once("damaged")
	})
}

func TestAStepThatFailsAgainIsToldAgainAndAnUntoldFailureOfItToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		failures := func() (n int) {
			for _, m := range x.slack.Messages() {
				if strings.Contains(m.Key, "/failed/") {
					n++
				}
			}
			return n
		}
		for process, want := range []int{1, 2, 3} {
			if process > 0 {
				x.open()
				x.run.Resumed = true
			}
			if process == 2 {
				// Killed over an Undo that failed: the journal knows, nobody was told.
				x.run.Steps[1].State, x.run.Steps[1].Error = pipeline.Undoing, "no way back"
			}
			x.s.Begin(x.run)
			x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
			if process < 2 {
				x.tell(pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk"})
				pass(10 * time.Second)
				x.run.Steps[1].State, x.run.Steps[1].Error = pipeline.Failed, "it broke"
				x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web kirk", Err: "it broke"})
			}
			x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Person), Err: "it broke"})
			if said := x.close(time.Minute); len(said) > 0 {
				t.Error(said)
			}
			if got := failures(); got != want {
				t.Errorf("after process %d %d failures are told, not %d:\n%s", process+1, got, want, x.all())
			}
		}
		x.root()
		x.lawful()
	})
}
