package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A holder that was frozen learns that its lease was taken from the hosts, which
// refuse it, or from the shelf, before its next renewal is due.
func TestWhoeverIsRefusedBecauseTheLeaseWasTakenSaysSoAndUndoesNothing(t *testing.T) {
	refused := errors.New("epoch 7 is over")
	for name, fail := range map[string]func(*course){
		"a host refuses":      func(c *course) { c.stages["roll kirk"].run = func(context.Context) error { return refused } },
		"the shelf refuses":   func(c *course) { c.disk.at = map[int]fault{5: writeError} },
		"on the way back too": func(c *course) { c.stages["roll kirk"].undo = func(context.Context) error { return refused } },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCourse("build", "roll kirk", "roll spock")
			fail(c)
			taken := false
			l := &lease{ttl: time.Minute, renew: func(context.Context, int) (bool, error) { return taken, nil }}
			h, _ := hold(t, l)
			c.epoch = 6 // the journal's next is the lease's
			res := func() Result {
				if name != "on the way back too" {
					taken = true
					return c.execute(t, h.Context, Options{})
				}
				c.stages["roll spock"].run = func(context.Context) error { taken = true; return nil }
				if done := c.execute(t, h.Context, Options{}); done.Status != Done {
					t.Fatalf("%s: %s %v", name, done.Status, done.Err)
				}
				c.log = nil
				c.epoch = 6
				return Unwind(h.Context, c.plan(), c.journal(t), Options{})
			}()
			if res.Status != LostLock || !errors.Is(res.Err, ErrLockLost) {
				t.Errorf("%s: %s: %v", name, res.Status, res.Err)
			}
			did := c.did()
			if want := map[string]string{"on the way back too": "undo roll spock, undo roll kirk"}[name]; want == "" && did != "run build, run roll kirk" || want != "" && did != want {
				t.Errorf("%s: did %s", name, did)
			}
			if err := h.Release(t.Context()); err != nil {
				t.Error(err)
			}
			if l.released != 0 {
				t.Errorf("%s: another's lease was given back", name)
			}
		})
	}
}

func TestARefusalWhileTheLeaseIsOursIsAFailureLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, renew := range map[string]func(context.Context, int) (bool, error){
			"still ours":                 nil,
			"the keeper does not answer": func(context.Context, int) (bool, error) { return false, errors.New("cut") },
		} {
			c := newCourse("build", "roll kirk")
			c.stages["roll kirk"].run = func(context.Context) error { return errors.New("/ answers 500") }
			h, _ := hold(t, &lease{ttl: time.Minute, renew: renew})
			c.epoch = 6
			if res := c.execute(t, h.Context, Options{}); res.Status != Undone {
				t.Errorf("%s: %s: %v", name, res.Status, res.Err)
			}
			if err := h.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
