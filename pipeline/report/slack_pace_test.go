package report

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline/report/slacktest"
)

// another is a second teller of the story's channel, with a memory of its own.
func (x *story) another() *Slack {
	x.t.Helper()
	o := x.o
	o.disk = &memory{}
	s, err := NewSlack(o)
	if err != nil {
		x.t.Fatal(err)
	}
	return s
}

func TestTwoTellersOfAChannelKeepToItsPaceTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Pace = NewSlackPace() })
		watcher := x.another()
		const each = 5
		for i := range each {
			x.s.Notice(fmt.Sprint("run ", i), fmt.Sprint("the run's ", i))
			watcher.Notice(fmt.Sprint("watch ", i), fmt.Sprint("the watcher's ", i))
		}
		pass(2 * 2 * each * slackPace) // each of what is new to a blank memory is looked for first
		if n := len(x.channel()); n != 2*each {
			t.Errorf("%d of %d messages were sent at the pace of one", n, 2*each)
		}
		for _, s := range []*Slack{x.s, watcher} {
			if said := s.Close(time.Second); len(said) > 0 {
				t.Error(said)
			}
		}
		x.lawful()
	})
}

func TestASecondTellerDoesNotCallASlackThatToldTheFirstToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Pace = NewSlackPace() })
		other := x.another()
		x.slack.Meddle(func(c slacktest.Call) slacktest.Fault {
			if c.N == 1 {
				return slacktest.Busy
			}
			return slacktest.None
		})
		x.s.Notice("a", "the first")
		pass(time.Second)
		other.Notice("b", "the second")
		pass(45 * time.Second)
		if n := len(x.channel()); n != 2 {
			t.Errorf("%d messages stand in the channel", n)
		}
		for _, s := range []*Slack{x.s, other} {
			if said := s.Close(time.Second); len(said) > 0 {
				t.Error(said)
			}
		}
		x.lawful()
	})
}

func TestATellerThatIsClosedDoesNotWaitForTheOthersTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Pace = NewSlackPace() })
		if err := x.o.Pace.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.s.Notice("a", "never sent")
		before := time.Now()
		said := x.s.Close(5 * time.Second)
		if took := time.Since(before); took > 6*time.Second || len(said) == 0 {
			t.Errorf("it took %s and said %q", took, said)
		}
		x.o.Pace.give(0)
		if n := len(x.channel()); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
	})
}
