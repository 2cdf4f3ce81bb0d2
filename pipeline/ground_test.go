package pipeline

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errLink = errors.New("the link broke")

// soil is a ground in memory.
type soil struct {
	marks   map[string]string
	missing map[string]error
	back    time.Time // when all that is missing is there again; zero for never
	looks   int
}

func (s *soil) Look(context.Context) Footing {
	s.looks++
	if !s.back.IsZero() && time.Now().After(s.back) {
		clear(s.missing)
	}
	f := Footing{Marks: map[string]string{}, Missing: maps.Clone(s.missing)}
	for name, mark := range s.marks {
		if s.missing[name] == nil {
			f.Marks[name] = mark
		}
	}
	return f
}

func (s *soil) Shook(err error) bool { return errors.Is(err, errLink) }

// onGround runs a test of a course on a ground, in a time of its own.
func onGround(t *testing.T, test func(t *testing.T, c *course, s *soil, o Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &soil{marks: map[string]string{"kirk": "boot 1", "the database": "noon"}, missing: map[string]error{}}
		test(t, newCourse("place", "roll kirk", "roll spock"), s, Options{Ground: s, Patience: time.Minute})
	})
}

// failing is a Run that fails with each error in turn and then succeeds; then is
// called at each failure.
func failing(then func(), errs ...error) func(context.Context) error {
	return func(context.Context) error {
		if len(errs) == 0 {
			return nil
		}
		err := errs[0]
		errs = errs[1:]
		then()
		return err
	}
}

func TestAStepThatTheLinkFailedIsRunAgain(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, _ *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() {}, errLink, errLink)
		if res := c.execute(t, t.Context(), o); res.Status != Done {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if got, want := c.did(), "run place, run roll kirk, check roll kirk, run roll kirk, check roll kirk, run roll kirk, run roll spock"; got != want {
			t.Errorf("did %s", got)
		}
	})
}

func TestAHostThatIsAwayIsWaitedForAndNamed(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() {
			s.missing["kirk"] = errors.New("kirk: no answer")
			s.back = time.Now().Add(30 * time.Second)
		}, errLink)
		began := time.Now()
		if res := c.execute(t, t.Context(), o); res.Status != Done {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("took %s", took)
		}
		told := false
		for _, e := range c.seen.list {
			told = told || e.Kind == StepWaiting && e.Text == "kirk" && e.Err == "kirk: no answer" && e.Step == "roll kirk"
		}
		if !told {
			t.Errorf("nobody was told: %v", c.seen.list)
		}
	})
}

func TestAStepThatFailedWhileTheDatabaseWasReplacedIsRunAgainOnce(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		broken := errors.New("/ answers 500")
		c.stages["roll kirk"].run = failing(func() { s.marks["the database"] = "one o'clock" }, broken, broken)
		res := c.execute(t, t.Context(), o)
		if res.Status != Undone || !errors.Is(res.Err, broken) {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if got := strings.Count(c.did(), "run roll kirk"); got != 2 {
			t.Errorf("run %d times, want 2: the second failure has nothing to blame", got)
		}
	})
}

func TestAPersonIsNotCalledForWhatTheGroundDid(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() { s.marks["kirk"] = "boot 2" }, &NeedsPerson{State: "the site is off its baseline"})
		if res := c.execute(t, t.Context(), o); res.Status != Done {
			t.Errorf("%s: %v", res.Status, res.Err)
		}
	})
}

func TestAPersonIsCalledAtOnceWhenTheStepCannotRunAgain(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() { s.marks["kirk"] = "boot 2" }, &NeedsPerson{State: "INVALID index"})
		c.stages["roll kirk"].check = func(context.Context) error { return Refuse("INVALID index") }
		began := time.Now()
		if res := c.execute(t, t.Context(), o); res.Status != Person || res.State != "INVALID index" || time.Since(began) > time.Second {
			t.Errorf("%s after %s: %s", res.Status, time.Since(began), res.State)
		}
	})
}

func TestAFailureOnSolidGroundStandsAtOnce(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() {}, errors.New("/ answers 500"))
		began := time.Now()
		if res := c.execute(t, t.Context(), o); res.Status != Undone || time.Since(began) > time.Second {
			t.Errorf("%s after %s", res.Status, time.Since(began))
		}
		if s.looks != 2 {
			t.Errorf("looked %d times, want at the start and at the failure", s.looks)
		}
	})
}

func TestARefusalIsNoMatterOfTheGround(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["place"].run = failing(func() { s.marks["kirk"] = "boot 2" }, Refuse("no"))
		if res := c.execute(t, t.Context(), o); res.Status != Refused || s.looks != 1 {
			t.Errorf("%s, %d looks", res.Status, s.looks)
		}
	})
}

func TestAHostThatStaysAwayEndsTheRunAndIsNotWaitedForTwice(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		c.stages["roll kirk"].run = failing(func() { s.missing["kirk"] = errors.New("kirk: unreachable") }, errLink)
		c.stages["roll kirk"].undo = func(context.Context) error { return errLink }
		began := time.Now()
		res := c.execute(t, t.Context(), o)
		if took := time.Since(began); res.Status != Person || took < time.Minute || took > 70*time.Second {
			t.Fatalf("%s after %s: %v", res.Status, took, res.Err)
		}
		if want := "bring kirk back, then `refit resume`"; !strings.Contains(res.Next, want) {
			t.Errorf("next: %s", res.Next)
		}
		for _, want := range []string{"roll kirk could not be taken back", "kirk did not come back"} {
			if !strings.Contains(res.State, want) {
				t.Errorf("state: %s", res.State)
			}
		}
		if !strings.Contains(res.Err.Error(), "waited 1m0s for kirk in vain") {
			t.Errorf("cause: %v", res.Err)
		}
		delete(s.missing, "kirk")
		c.stages["roll kirk"].undo = nil
		if res := c.execute(t, t.Context(), o); res.Status != Undone {
			t.Errorf("after it came back: %s: %v", res.Status, res.Err)
		}
	})
}

func TestAStopIsHeardWhileAHostIsWaitedFor(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		stop := make(chan struct{})
		o.Stop = stop
		c.stages["roll kirk"].run = failing(func() {
			s.missing["kirk"] = errors.New("kirk: no answer")
			time.AfterFunc(10*time.Second, func() { close(stop) })
		}, errLink)
		if res := c.execute(t, t.Context(), o); res.Status != Stopped || res.Step != "roll kirk" {
			t.Errorf("%s at %s", res.Status, res.Step)
		}
	})
}

func TestAnAbortIsHeardWhileTheWayBackWaitsForAHost(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		ctx, cancel := context.WithCancel(t.Context())
		c.stages["roll spock"].run = failing(func() {}, errors.New("/ answers 500"))
		c.stages["roll kirk"].undo = func(context.Context) error {
			s.missing["kirk"] = errors.New("kirk: no answer")
			time.AfterFunc(10*time.Second, cancel)
			return errLink
		}
		if res := c.execute(t, ctx, o); res.Status != Interrupted || res.Step != "roll kirk" || res.Steps[1].State != Undoing {
			t.Errorf("%s at %s: %+v", res.Status, res.Step, res.Steps)
		}
	})
}

func TestAHostThatRestartsForEverEndsTheWait(t *testing.T) {
	onGround(t, func(t *testing.T, c *course, s *soil, o Options) {
		boots := 0
		c.stages["roll kirk"].run = func(context.Context) error {
			boots++
			s.marks["kirk"] = strings.Repeat("boot ", boots)
			time.Sleep(5 * time.Second)
			return errLink
		}
		began := time.Now()
		res := c.execute(t, t.Context(), o)
		if res.Status != Undone || time.Since(began) > 80*time.Second {
			t.Errorf("%s after %s", res.Status, time.Since(began))
		}
		if !errors.Is(res.Err, errLink) || !strings.Contains(res.Err.Error(), "waits.unreachable") {
			t.Errorf("the error does not say why the step was not run again: %v", res.Err)
		}
	})
}
