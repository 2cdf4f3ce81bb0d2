package report

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/slacktest"
)

// What a watcher meets in months: a state that is lost, outages of days, rights that are
// taken away and given back, people who delete messages.

func TestAReleaseIsFoundAgainInSlackWhereNothingIsRemembered(t *testing.T) {
	for name, lose := range map[string]func(x *story){
		"the file is gone":  func(x *story) { x.disk = &memory{} },
		"half of it is":     func(x *story) { x.disk.b = x.disk.b[:len(x.disk.b)/2] },
		"it cannot be read": func(x *story) { x.disk.b = []byte(`{"format":99}`) },
	} {
		synctest.Test(t, func(t *testing.T) {
			x := begin(t, nil)
			r := seen()
			x.s.Notice("alarm", "a tag moved")
			x.looks(r, 2*time.Hour)
			x.bury()
			lose(x)
			x.o.disk = x.disk
			x.open()
			r.Decision = "begins now"
			x.s.Notice("alarm", "a tag moved")
			x.looks(r, 2*time.Hour)
			x.s.Notice("another", "it came back")
			pass(time.Minute)
			x.close(10 * time.Second)
			list := x.slack.Messages()
			if len(list) != 3 {
				t.Fatalf("%s: %d messages:\n%s", name, len(list), x.all())
			}
			for _, m := range list {
				if strings.Contains(m.Text, "v4.5.15") {
					has(t, name+": the announcement", m.Text, "begins now")
				}
			}
			x.lawful()
		})
	}
}

func TestAReleaseThatStaysOpenForMonthsIsStillAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		r := seen()
		for range 200 {
			x.s.Release(r)
			pass(24 * time.Hour)
		}
		r.Question = "refit approve --plan 4d5e6f"
		x.looks(r, time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		list := x.slack.Messages()
		has(t, "the announcement", list[0].Said[len(list[0].Said)-1], "4d5e6f")
		if last := list[len(list)-1]; !last.Broadcast || last.Thread != list[0].TS || !strings.Contains(last.Text, "4d5e6f") {
			t.Error(x.all())
		}
		x.lawful()
	})
}

func TestAfterAnOutageOnlyWhatIsStillTrueIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		r := seen()
		x.looks(r, 20*time.Hour) // 26 hours are left
		x.slack.Down(true)
		r.Question = "refit approve --plan 4d5e6f"
		x.looks(r, 10*time.Hour)
		r.Question = "refit approve --plan 778899"
		x.looks(r, 13*time.Hour) // 3 hours are left
		x.slack.Down(false)
		x.looks(r, 30*time.Minute)
		var loud []string
		for _, m := range x.slack.Messages()[1:] {
			loud = append(loud, m.Text)
		}
		all := strings.Join(loud, "\n")
		has(t, "what is told afterwards", all, "778899", " h left to run it")
		if len(loud) != 2 || strings.Contains(all, "24 h left") || strings.Contains(all, "6 h left") {
			t.Errorf("%q", loud)
		}
		x.slack.Down(true)
		x.looks(r, 4*time.Hour) // the deadline passes
		r.Settled, r.Question = "the fleet runs it", ""
		x.looks(r, time.Hour)
		x.slack.Down(false)
		x.looks(r, time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		if n := len(x.slack.Messages()); n != 3 || strings.Contains(x.all(), "deadline passed") {
			t.Errorf("of a release that runs:\n%s", x.all())
		}
		x.lawful()
	})
}

func TestATokenWhoseRightIsGivenBackIsUsedAgainWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Revoke()
		x.looks(seen(), 24*time.Hour)
		has(t, "what is said meanwhile", x.s.Trouble(), "token_revoked")
		if n := len(x.slack.Calls()); n > 25 {
			t.Errorf("%d calls in a day with a token that is void", n)
		}
		x.slack.Restore()
		x.looks(seen(), 2*time.Hour)
		if said := append(x.close(10*time.Second), x.s.Trouble()); len(said) != 1 || said[0] != "" {
			t.Errorf("%q", said)
		}
		has(t, "the announcement", x.root().Text, "Mastodon v4.5.15")
		x.lawful()
	})
}

func TestAMessageIsLookedForAgainWhereTheAppWasShutOutMeanwhile(t *testing.T) {
	for name, shut := range map[string][2]func(*slacktest.Server){
		"out of the channel": {func(s *slacktest.Server) { s.Kick(true) }, func(s *slacktest.Server) { s.Kick(false) }},
		"a void token":       {(*slacktest.Server).Revoke, (*slacktest.Server).Restore},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := begin(t, nil)
			cut := false
			x.slack.Meddle(func(c slacktest.Call) slacktest.Fault {
				if cut || c.Method != "chat.postMessage" {
					return slacktest.None
				}
				cut = true
				return slacktest.Cut
			})
			x.s.Release(seen())
			pass(3 * time.Second)
			if len(x.slack.Messages()) != 1 {
				t.Fatal("the message whose answer is lost is not there")
			}
			shut[0](x.slack)
			pass(10 * time.Minute)
			shut[1](x.slack)
			pass(2 * time.Hour)
			if said := x.close(10 * time.Second); len(said) > 0 {
				t.Errorf("%s: %q", name, said)
			}
			x.root()
			x.lawful()
		})
	}
}

func TestWhatIsLoudIsToldInTheChannelWhereItsThreadWasDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		pass(5 * time.Second)
		x.slack.Delete(x.root().TS)
		x.tell(pipeline.Event{Kind: pipeline.StepStarted, Step: "build"})
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "build", Err: "it broke"})
		pass(time.Minute)
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
		x.s.End(undone(x))
		x.close(15 * time.Second)
		list := x.channel()
		if len(list) != 2 {
			t.Fatalf("%d messages in the channel:\n%s", len(list), x.all())
		}
		has(t, "the failure", list[0].Text, "failed: build")
		has(t, "the end", list[1].Text, "FAILED")
	})
}

func TestTheTeamIsRemindedOfAReleaseWhoseMessageSlackWouldNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Meddle(func(slacktest.Call) slacktest.Fault { return slacktest.Moody })
		x.looks(seen(), time.Hour)
		x.slack.Meddle(nil)
		x.looks(seen(), 23*time.Hour)
		said := strings.Join(x.close(10*time.Second), "\n")
		has(t, "what is said at the end", said, "the_weather", "Mastodon v4.5.15")
		has(t, "the reminder", x.root().Text, "left to run it here")
		x.lawful()
	})
}

func TestTheKeyOfAnAlarmTellsNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Notice("identity/v4.6.5/cannot read https://x:hunter22@git.example: "+x.o.Token+strings.Repeat("x", 9000), "🛑 v4.6.5 is not what it was")
		pass(time.Minute)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		for _, text := range []string{string(x.root().Metadata), string(x.disk.b)} {
			if strings.Contains(text, "hunter") || strings.Contains(text, x.o.Token) {
				t.Error(text)
			}
		}
		x.lawful()
	})
}

func TestAChannelThatIsLongAndSlowIsReadToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		door, err := slackWay(x.o)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range 2*findPage + 1 {
			if _, err := door.post(t.Context(), fmt.Sprint(i), body{Text: "x"}, "", false); err != nil {
				t.Fatal(err)
			}
			pass(1100 * time.Millisecond)
		}
		x.slack.Slow(slackCall - time.Second) // three pages take longer than one call may
		keys, err := door.find(t.Context(), began, "")
		if err != nil || len(keys) != 2*findPage+1 {
			t.Errorf("%d messages, %v", len(keys), err)
		}
		x.close(time.Second)
		x.lawful()
	})
}
