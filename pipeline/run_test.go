package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// plain is a stage made of functions; nil ones do nothing.
type plain struct {
	name             string
	check, run, undo func(context.Context) error
	log              *[]string
}

func (p *plain) Name() string { return p.name }

func (p *plain) do(ctx context.Context, what string, f func(context.Context) error) error {
	if p.log != nil {
		*p.log = append(*p.log, what+" "+p.name)
	}
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (p *plain) Check(ctx context.Context, _ Say) error { return p.do(ctx, "check", p.check) }
func (p *plain) Run(ctx context.Context, _ Say) error   { return p.do(ctx, "run", p.run) }
func (p *plain) Undo(ctx context.Context, _ Say) error  { return p.do(ctx, "undo", p.undo) }

// course is a small run of named plain stages, resumed as often as a test wants.
type course struct {
	disk   disk
	log    []string
	stages map[string]*plain
	order  []string
	oneWay map[string]bool
	epoch  int64
	seen   events
}

func newCourse(order ...string) *course {
	c := &course{order: order, stages: map[string]*plain{}, oneWay: map[string]bool{}}
	for _, n := range order {
		c.stages[n] = &plain{name: n, log: &c.log}
	}
	return c
}

func (c *course) plan() Plan {
	p := Plan{ID: "run-1", Kind: "upgrade", From: "v1", To: "v2"}
	for _, n := range c.order {
		p.Steps = append(p.Steps, Step{Stage: c.stages[n], Host: "kirk", OneWay: c.oneWay[n], Switches: strings.HasPrefix(n, "roll")})
	}
	return p
}

func (c *course) journal(t *testing.T) *Journal {
	t.Helper()
	c.epoch++
	if c.disk.stored == nil {
		return NewJournal(c.plan(), &c.disk, c.epoch, time.Now())
	}
	j, err := LoadJournal(t.Context(), &c.disk, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Adopt(&c.disk, c.epoch); err != nil {
		t.Fatal(err)
	}
	return j
}

func (c *course) execute(t *testing.T, ctx context.Context, o Options) Result {
	t.Helper()
	o.Watch = &c.seen
	return Execute(ctx, c.plan(), c.journal(t), o)
}

func (c *course) did() string {
	s := strings.Join(c.log, ", ")
	c.log = nil
	return s
}

func TestAFailedStepAndAllBeforeItAreTakenBackInReverse(t *testing.T) {
	c := newCourse("build", "place", "roll kirk", "roll spock", "record")
	cause := errors.New("/ answers 500")
	c.stages["roll spock"].run = func(context.Context) error {
		return fmt.Errorf("the gate: %w", &Evidence{Err: cause, From: "mastodon-web on spock", Lines: []string{"NameError"}})
	}
	res := c.execute(t, t.Context(), Options{})
	want := "run build, run place, run roll kirk, run roll spock, undo roll spock, undo roll kirk, undo place, undo build"
	if got := c.did(); got != want {
		t.Errorf("did %s", got)
	}
	if res.Status != Undone || !res.Touched || res.Step != "roll spock" || res.Host != "kirk" || !errors.Is(res.Err, cause) {
		t.Errorf("%+v", res)
	}
	if len(res.Proof) != 1 || res.Proof[0].Lines[0] != "NameError" {
		t.Errorf("proof: %+v", res.Proof)
	}
	if res.Steps[3].State != Back || res.Steps[4].State != Pending {
		t.Errorf("steps: %+v", res.Steps)
	}
}

func TestAFailureBeforeAnythingWasSwitchedLeavesTheRunUntouched(t *testing.T) {
	c := newCourse("build", "place", "roll kirk")
	c.stages["place"].run = func(context.Context) error { return errors.New("disk full") }
	if res := c.execute(t, t.Context(), Options{}); res.Status != Undone || res.Touched {
		t.Errorf("%s, touched %v", res.Status, res.Touched)
	}
}

func TestARefusalBeforeAnythingWasSwitchedIsARefusalAndLaterAFailure(t *testing.T) {
	for step, want := range map[string]Status{"place": Refused, "roll spock": Undone} {
		c := newCourse("build", "place", "roll kirk", "roll spock")
		c.stages[step].run = func(context.Context) error { return fmt.Errorf("here: %w", Refuse("no %s", "room")) }
		if res := c.execute(t, t.Context(), Options{}); res.Status != want || !errors.Is(res.Err, ErrRefused) {
			t.Errorf("%s: %s, %v", step, res.Status, res.Err)
		}
	}
}

func TestOnePressOfCtrlCEndsTheRunBetweenTwoStepsAndResumeGoesOn(t *testing.T) {
	c := newCourse("build", "roll kirk", "roll spock")
	stop := make(chan struct{})
	c.stages["roll kirk"].run = func(context.Context) error {
		close(stop)
		return nil
	}
	res := c.execute(t, t.Context(), Options{Stop: stop})
	if got := c.did(); got != "run build, run roll kirk" || res.Status != Stopped || res.Step != "roll spock" {
		t.Errorf("did %s; %s at %s", got, res.Status, res.Step)
	}
	c.stages["roll kirk"].run = nil
	if res := c.execute(t, t.Context(), Options{}); res.Status != Done {
		t.Error(res.Status, res.Err)
	}
	if got := c.did(); got != "run roll spock" {
		t.Errorf("the resume did %s", got)
	}
}

func TestOnePressOfCtrlCEndsASoakAndNotAGateInTheMiddleOfARoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourse("roll kirk", "soak")
		stop := make(chan struct{})
		time.AfterFunc(5*time.Second, func() { close(stop) })
		yes := func(context.Context) error { return nil }
		c.stages["roll kirk"].run = func(ctx context.Context) error {
			return Await(ctx, Gate{Name: "kirk serves", Probe: yes, Hold: 10 * time.Second}, nil)
		}
		began := time.Now()
		res := c.execute(t, t.Context(), Options{Stop: stop})
		if res.Status != Stopped || res.Step != "soak" || time.Since(began) != 10*time.Second {
			t.Errorf("%s at %s after %s", res.Status, res.Step, time.Since(began))
		}
		c.did()
		stop = make(chan struct{})
		time.AfterFunc(5*time.Second, func() { close(stop) })
		c.stages["soak"].run = func(ctx context.Context) error {
			return Await(ctx, Gate{Name: "soak", Probe: yes, Every: time.Minute, Hold: 10 * time.Minute, Safe: true}, nil)
		}
		began = time.Now()
		res = c.execute(t, t.Context(), Options{Stop: stop})
		if res.Status != Stopped || res.Step != "soak" || time.Since(began) != 5*time.Second {
			t.Errorf("%s at %s after %s", res.Status, res.Step, time.Since(began))
		}
		if got := c.did(); got != "run soak" {
			t.Errorf("did %s", got)
		}
		c.stages["soak"].run = nil
		if res := c.execute(t, t.Context(), Options{}); res.Status != Done || c.did() != "check soak, run soak" {
			t.Errorf("%s %v", res.Status, res.Err)
		}
	})
}

func TestOnePressOfCtrlCDoesNotEndTheWayBack(t *testing.T) {
	c := newCourse("build", "roll kirk", "roll spock")
	stop := make(chan struct{})
	c.stages["roll spock"].run = func(context.Context) error { return errors.New("no") }
	c.stages["roll spock"].undo = func(ctx context.Context) error {
		close(stop)
		return Safe(ctx)
	}
	if res := c.execute(t, t.Context(), Options{Stop: stop}); res.Status != Undone {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}

func TestAnAbortEndsTheRunAtOnceAndTheJournalSaysSo(t *testing.T) {
	c := newCourse("build", "roll kirk", "roll spock")
	ctx, abort := context.WithCancel(t.Context())
	c.stages["roll kirk"].run = func(ctx context.Context) error {
		abort()
		return ctx.Err()
	}
	res := c.execute(t, ctx, Options{})
	if got := c.did(); got != "run build, run roll kirk" || res.Status != Interrupted || res.JournalErr != nil {
		t.Errorf("did %s; %s, %v", got, res.Status, res.JournalErr)
	}
	j, err := ParseJournal(c.disk.stored)
	if err != nil || j.Outcome != Interrupted || j.Marks["roll kirk"].State != Doing {
		t.Errorf("the journal: %q, %+v, %v", j.Outcome, j.Marks, err)
	}
	c.stages["roll kirk"].run = nil
	if res := c.execute(t, t.Context(), Options{}); res.Status != Done {
		t.Error(res.Status, res.Err)
	}
	if got := c.did(); got != "check roll kirk, run roll kirk, run roll spock" {
		t.Errorf("the resume did %s", got)
	}
}

func TestAnAbortOnTheWayBackLetsTheStepAtWorkEndAndResumeGoesOnBack(t *testing.T) {
	c := newCourse("build", "roll kirk", "roll spock")
	ctx, abort := context.WithCancel(t.Context())
	c.stages["roll spock"].run = func(context.Context) error { return errors.New("no") }
	c.stages["roll spock"].undo = func(ctx context.Context) error {
		abort()
		return ctx.Err()
	}
	res := c.execute(t, ctx, Options{})
	if got := c.did(); got != "run build, run roll kirk, run roll spock, undo roll spock" || res.Status != Interrupted {
		t.Errorf("did %s; %s", got, res.Status)
	}
	if res := c.execute(t, t.Context(), Options{}); res.Status != Undone || res.Step != "roll spock" || res.Err.Error() != "no" {
		t.Errorf("%s at %s: %v", res.Status, res.Step, res.Err)
	}
	if got := c.did(); got != "undo roll kirk, undo build" {
		t.Errorf("the resume did %s", got)
	}
}

func TestAStepThatNeedsAPersonIsNotUndoneAndIsTriedAgainOnResume(t *testing.T) {
	c := newCourse("build", "pre-migrate", "roll kirk")
	c.stages["pre-migrate"].run = func(context.Context) error {
		return fmt.Errorf("after 3 of 7: %w", &NeedsPerson{State: "the schema is half applied", Next: "refit resume", Err: errors.New("exit status 1")})
	}
	res := c.execute(t, t.Context(), Options{})
	if res.Status != Person || res.State != "the schema is half applied" || res.Next != "refit resume" || c.did() != "run build, run pre-migrate" {
		t.Errorf("%+v", res)
	}
	c.stages["pre-migrate"].run = nil
	if res := c.execute(t, t.Context(), Options{}); res.Status != Done || res.Err != nil {
		t.Error(res.Status, res.Err)
	}
	if got := c.did(); got != "check pre-migrate, run pre-migrate, run roll kirk" {
		t.Errorf("the resume did %s", got)
	}
}

func TestAResumeWhoseUnfinishedStepCannotRunNowChangesNothing(t *testing.T) {
	c := newCourse("build", "roll kirk")
	c.stages["roll kirk"].run = func(context.Context) error { return &NeedsPerson{State: "kirk is gone"} }
	c.execute(t, t.Context(), Options{})
	c.did()
	c.stages["roll kirk"].check = func(context.Context) error { return errors.New("kirk does not answer") }
	res := c.execute(t, t.Context(), Options{})
	if res.Status != Person || c.did() != "check roll kirk" || !strings.Contains(res.Err.Error(), "does not answer") {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}

func TestNothingIsTakenBackFromAOneWayStepOnAndAResumeGoesForward(t *testing.T) {
	c := newCourse("roll kirk", "post-migrate", "search", "record")
	c.oneWay["post-migrate"] = true
	c.stages["record"].run = func(context.Context) error { return errors.New("no") }
	res := c.execute(t, t.Context(), Options{})
	want := "run roll kirk, run post-migrate, run search, run record"
	if got := c.did(); got != want || res.Status != Person || res.OneWay != "post-migrate" || !strings.Contains(res.State, "point of no return") {
		t.Errorf("did %s; %+v", got, res)
	}
	c.stages["record"].run = nil
	if res := c.execute(t, t.Context(), Options{}); res.Status != Done || c.did() != "check record, run record" {
		t.Errorf("the resume ended as %s: %s", res.Status, res.State)
	}
}

func TestAOneWayStepThatFailedOnceIsNotForgottenByAnotherTry(t *testing.T) {
	c := newCourse("roll kirk", "post-migrate")
	c.oneWay["post-migrate"] = true
	c.stages["post-migrate"].run = func(context.Context) error { return &NeedsPerson{State: "half applied"} }
	c.execute(t, t.Context(), Options{})
	c.did()
	c.stages["post-migrate"].run = func(context.Context) error { return NotBegun(errors.New("the database does not answer")) }
	res := c.execute(t, t.Context(), Options{})
	if res.Status != Person || res.OneWay != "post-migrate" || strings.Contains(c.did(), "undo") {
		t.Errorf("%s, one way: %q", res.Status, res.OneWay)
	}
}

func TestAOneWayStepThatDidNotBeginMayBeWalkedBack(t *testing.T) {
	c := newCourse("roll kirk", "post-migrate")
	c.oneWay["post-migrate"] = true
	c.stages["post-migrate"].run = func(context.Context) error {
		return &NeedsPerson{State: "spock is unreachable", Err: NotBegun(Refuse("spock runs the old release"))}
	}
	if res := c.execute(t, t.Context(), Options{}); res.Status != Person || res.OneWay != "" {
		t.Errorf("%+v", res)
	}
	if res := Unwind(t.Context(), c.plan(), c.journal(t), Options{}); res.Status != Undone || !res.Asked {
		t.Errorf("%+v", res)
	}
	if got := c.did(); got != "run roll kirk, run post-migrate, undo post-migrate, undo roll kirk" {
		t.Errorf("did %s", got)
	}
}

func TestAFinishedRunIsWalkedBackUnlessAOneWayStepRan(t *testing.T) {
	for oneWay, want := range map[string]Status{"": Undone, "post-migrate": Refused} {
		c := newCourse("roll kirk", "post-migrate")
		c.oneWay[oneWay] = true
		if res := c.execute(t, t.Context(), Options{}); res.Status != Done {
			t.Fatal(res.Err)
		}
		c.did()
		// The plan of later finds nothing pending and no longer calls the step one-way.
		c.oneWay = map[string]bool{}
		res := Unwind(t.Context(), c.plan(), c.journal(t), Options{})
		if res.Status != want || errors.Is(res.Err, ErrOneWay) != (want == Refused) {
			t.Errorf("%q: %s, %v", oneWay, res.Status, res.Err)
		}
		if got := c.did(); want == Refused && got != "" {
			t.Errorf("did %s", got)
		}
	}
}

func TestTheFirstUndoThatFailsEndsTheWayBackAndIsNamed(t *testing.T) {
	c := newCourse("build", "roll kirk", "roll spock")
	c.stages["roll spock"].run = func(context.Context) error { return errors.New("no") }
	c.stages["roll kirk"].undo = func(context.Context) error { return errors.New("kirk does not answer") }
	res := c.execute(t, t.Context(), Options{})
	if res.Status != Person || res.UndoStep != "roll kirk" || res.UndoErr == nil || res.Step != "roll spock" || res.Err == nil {
		t.Errorf("%+v", res)
	}
	if got := c.did(); got != "run build, run roll kirk, run roll spock, undo roll spock, undo roll kirk" {
		t.Errorf("did %s", got)
	}
}

func TestARunThatIsOverSaysAgainHowItEndedAndDoesNothing(t *testing.T) {
	c := newCourse("build")
	c.execute(t, t.Context(), Options{})
	c.did()
	saves := c.disk.saves
	if res := c.execute(t, t.Context(), Options{}); res.Status != Done || c.did() != "" || c.disk.saves != saves {
		t.Errorf("%+v", res)
	}
}

func TestEveryEventNamesItsStepItsHostAndItsPlace(t *testing.T) {
	c := newCourse("build", "roll kirk")
	c.stages["roll kirk"].run = func(ctx context.Context) error {
		Tell(ctx, HostState{Host: "kirk", State: "draining", Release: "v1"})
		return errors.New("no")
	}
	c.execute(t, t.Context(), Options{})
	want := "run-started step-started step-done step-started host-seen step-failed step-undoing step-undone step-undoing step-undone run-ended"
	if got := c.seen.kinds(); got != want {
		t.Errorf("events\n%s\nwant\n%s", got, want)
	}
	for _, e := range c.seen.list {
		inStep := strings.HasPrefix(string(e.Kind), "step") || e.Kind == HostSeen
		if inStep && (e.Step == "" || e.Host != "kirk" || e.Index == 0) || e.Run != "run-1" || e.Total != 2 || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
	}
}

func TestAJournalThatCannotBeWrittenEndsTheRunAndNothingIsDoneOrUndone(t *testing.T) {
	for at, want := range map[int]string{
		1: "",
		2: "",
		3: "run build",
		4: "run build",
		5: "run build, run roll kirk",
		6: "run build, run roll kirk",
		7: "run build, run roll kirk, undo roll kirk",
	} {
		c := newCourse("build", "roll kirk")
		c.disk.at = map[int]fault{at: lostReply}
		c.stages["roll kirk"].run = func(context.Context) error { return errors.New("no") }
		res := c.execute(t, t.Context(), Options{})
		if got := c.did(); got != want || res.Status != LostJournal || !errors.Is(res.Err, errWire) {
			t.Errorf("save %d: did %q, want %q; %s: %v", at, got, want, res.Status, res.Err)
		}
	}
}

func TestAStageThatSwallowsAnErrorOfTheJournalDoesNotGoOn(t *testing.T) {
	c := newCourse("build", "roll kirk")
	c.disk.at = map[int]fault{3: writeError}
	c.stages["build"].run = func(ctx context.Context) error {
		if err := Remember(ctx); err == nil {
			t.Error("no error")
		}
		return nil
	}
	if res := c.execute(t, t.Context(), Options{}); res.Status != LostJournal || c.did() != "run build" {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}
