package report

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/slacktest"
)

// rolls tells a run that goes well, a step every half minute.
func (x *story) rolls() {
	x.s.Begin(x.run)
	x.tell(pipeline.Event{Kind: pipeline.LockTaken, Text: "epoch 7"})
	x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade from v4.5.14 to v4.5.15, 3 steps"})
	for _, s := range x.run.Steps {
		x.tell(pipeline.Event{Kind: pipeline.StepStarted, Step: s.Name, Text: "because"})
		pass(4 * time.Second)
		x.tell(pipeline.Event{Kind: pipeline.HostSeen, Step: s.Name, Host: s.Host, State: "starting", Release: "v4.5.15"})
		x.tell(pipeline.Event{Kind: pipeline.StepWaiting, Step: s.Name, Text: "Puma on " + s.Host + " answers with v4.5.15", Elapsed: time.Second, Expect: time.Minute})
		pass(26 * time.Second)
		x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: s.Name, Text: "a word of " + s.Name})
		x.tell(pipeline.Event{Kind: pipeline.StepDone, Step: s.Name, Elapsed: 30 * time.Second})
	}
}

func done(x *story) Report {
	return Report{
		Run: x.run.ID, Kind: "upgrade", From: x.run.From, To: x.run.To, Status: pipeline.Done, Seconds: 90,
		Hosts: []HostRow{{Name: "kirk", Roles: "web", Release: "v4.5.15", State: "running"}, {Name: "spock", Roles: "web", Release: "v4.5.15", State: "running"}},
		Notes: []string{"search: nothing to do"},
	}
}

func (x *story) ends() {
	x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Done)})
	x.s.End(done(x))
}

func TestAWholeRunIsOneMessageEditedInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.rolls()
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Done)})
		pass(10 * time.Second) // every host is asked where it stands
		x.s.End(done(x))
		if said := x.close(15 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		for _, m := range x.slack.Messages() {
			if m.Thread != "" && m.Edits() > 0 {
				t.Errorf("said and mended: %q", m.Said)
			}
		}
		root := x.root()
		if root.Edits() < 4 || root.Edits() > 20 {
			t.Errorf("edited %d times", root.Edits())
		}
		all := strings.Join(root.Said, "\n")
		has(t, "what the run's message said on its way", all, "running, step 2 of 3: roll web kirk", "Puma on kirk answers with v4.5.15", "upgrade --to v4.5.15", "ops on bridge", "starting")
		has(t, "the run's message at last", root.Said[len(root.Said)-1], "vmst.io: upgrade v4.5.14 → v4.5.15", "✅", "done", "kirk   web  v4.5.15  running", "1 min")
		has(t, "the thread", x.all(), "[2/3] roll web kirk: done in 30 s", "a word of roll web spock", "search: nothing to do")
		for _, m := range x.slack.Messages() {
			if m.Broadcast {
				t.Errorf("loud without need: %s", m.Text)
			}
		}
		x.lawful()
	})
}

func TestAFailureAndAQuestionAreLoudAndLongLogsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		x.tell(pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk"})
		pass(10 * time.Second)
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web kirk", Err: "Puma on kirk answers 502"})
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Person), Err: "Puma on kirk answers 502"})
		var lines []string
		for i := range 40 {
			lines = append(lines, fmt.Sprintf("line %d %s", i, strings.Repeat("x", 500)))
		}
		r := done(x)
		r.Status, r.Step, r.Host, r.Cause, r.State, r.Next = pipeline.Person, "roll web kirk", "kirk", "Puma on kirk answers 502", "kirk is drained", "refit resume"
		r.Proof = []pipeline.Proof{{From: "mastodon-web.service on kirk", Lines: lines}}
		x.s.End(r)
		if said := x.close(time.Minute); len(said) > 0 {
			t.Error(said)
		}
		loud := 0
		for _, m := range x.slack.Messages() {
			if m.Broadcast {
				loud++
				if m.Thread == "" || strings.Contains(m.Said[0], "line 12") {
					t.Errorf("a log in the channel: %s", m.Said[0])
				}
			}
		}
		if loud != 2 {
			t.Errorf("%d loud messages, not the failure and the question:\n%s", loud, x.all())
		}
		has(t, "what is told", x.all(), "failed: roll web kirk", "Puma on kirk answers 502", "kirk is drained", "Next: refit resume", "line 39", "🙋 vmst.io")
		x.lawful()
	})
}

func TestSecretsAndMarkupNeverReachTheChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		bad := "<!channel> & <https://evil|click> ``` " + x.o.Token + " postgres://mastodon:hunter22@majel/x password=hunter33 https://hooks.slack.com/services/T1/B1/hunter44 Authorization: Bearer hunter5555 " + strings.Repeat("<&>", 3000)
		x.tell(pipeline.Event{Kind: pipeline.StepWaiting, Step: "build", Text: bad, Err: bad})
		x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: "build", Text: bad})
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "build", Err: bad})
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: bad})
		r := done(x)
		r.Status, r.Step, r.Cause, r.State, r.Next, r.Notes = pipeline.Undone, "build", bad, bad, bad, []string{bad, bad}
		r.Proof = []pipeline.Proof{{From: bad, Lines: []string{bad, bad}}}
		x.s.End(r)
		if said := x.close(time.Minute); len(said) > 0 {
			t.Error(said)
		}
		for _, m := range x.slack.Messages() {
			for _, said := range append(m.Said, string(m.Blocks), string(m.Metadata)) {
				for _, secret := range []string{x.o.Token, "hunter", "<!channel", "<https://evil"} {
					if strings.Contains(said, secret) {
						t.Errorf("%q stands in %s", secret, said)
					}
				}
			}
		}
		if b, err := x.disk.load(); err != nil || strings.Contains(string(b), "hunter") || strings.Contains(string(b), x.o.Token) {
			t.Errorf("a secret lies on the disk (%v)", err)
		}
		x.lawful()
	})
}

func TestAStormOf429IsWaitedOutAndWhatPiledUpIsOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		storm := time.Now().Add(2 * time.Minute)
		x.slack.Meddle(func(slacktest.Call) slacktest.Fault {
			if time.Now().Before(storm) {
				return slacktest.Busy
			}
			return slacktest.None
		})
		x.rolls()
		pass(2 * time.Minute)
		x.ends()
		if said := x.close(time.Minute); len(said) > 0 {
			t.Error(said)
		}
		if n := len(x.slack.Messages()); n > 4 {
			t.Errorf("%d messages for what piled up:\n%s", n, x.all())
		}
		if n := len(x.slack.Calls()); n > 15 {
			t.Errorf("%d calls", n)
		}
		has(t, "what is told", x.all(), "roll web spock: done in", "roll web kirk: done in", "build on uhura: done in")
		x.root()
		x.lawful()
	})
}

func TestAnOutageShorterThanTheDeadlineLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Down(true)
		x.rolls()
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web spock", Err: "it broke"})
		pass(5 * time.Minute)
		x.slack.Down(false)
		pass(time.Minute)
		x.ends()
		if said := x.close(15 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		has(t, "what is told", x.all(), "build on uhura: done in", "a word of roll web kirk", "it broke", "✅")
		x.root()
		x.lawful()
	})
}

func TestAnOutageLongerThanTheDeadlineIsSaidAtTheEndAndTheRunsMessageComesAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Down(true)
		x.rolls()
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web spock", Err: "it broke"})
		pass(30 * time.Minute)
		x.slack.Down(false)
		pass(time.Minute)
		x.ends()
		said := strings.Join(x.close(15*time.Second), "\n")
		has(t, "what is said at the end", said, "Slack was not told all", "failed: roll web spock", "lines of detail", "connection refused")
		has(t, "the run's message", x.root().Said[len(x.root().Said)-1], "✅", "done")
		x.lawful()
	})
}

func TestASlackThatIsNeverThereIsSaidAtTheEndAndHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Down(true)
		x.rolls()
		x.ends()
		said := strings.Join(x.close(5*time.Second), "\n")
		has(t, "what is said at the end", said, "did not get there", "vmst.io: upgrade v4.5.14 → v4.5.15", "cannot reach Slack")
	})
}

func TestARevokedTokenIsSaidOnceAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		pass(10 * time.Second)
		x.slack.Revoke()
		calls := len(x.slack.Calls())
		x.rolls()
		x.ends()
		said := x.close(5 * time.Second)
		if len(said) != 1 || strings.Count(said[0], "token_revoked") != 1 {
			t.Errorf("%q", said)
		}
		has(t, "what is said", strings.Join(said, "\n"), "install the app again", "what is shown there is old")
		if n := len(x.slack.Calls()) - calls; n != 1 {
			t.Errorf("%d calls with a token that is void", n)
		}
		x.lawful()
	})
}

func TestAnArchivedChannelIsTriedAgainAndMendedInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Archive(true)
		x.rolls()
		if n := len(x.slack.Calls()); n > 3 {
			t.Errorf("%d calls in a minute and a half", n)
		}
		x.slack.Archive(false)
		pass(2 * time.Minute)
		x.ends()
		if said := x.close(15 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		has(t, "what is told", x.all(), "build on uhura: done in")
		x.root()
		x.lawful()
	})
}

func TestARunOfTwoHundredStepsStaysUnderTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.run.Steps = nil
		for i := range 200 {
			x.run.Steps = append(x.run.Steps, pipeline.StepResult{Name: fmt.Sprintf("roll web node%03d", i), Host: fmt.Sprintf("node%03d", i)})
			x.run.Hosts = append(x.run.Hosts, HostRow{Name: fmt.Sprintf("node%03d", i), Roles: "web", State: "serving"})
		}
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		for _, s := range x.run.Steps {
			x.tell(pipeline.Event{Kind: pipeline.StepStarted, Step: s.Name})
			for i := range 5 {
				x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: s.Name, Text: fmt.Sprintf("word %d of %s", i, s.Name)})
				x.tell(pipeline.Event{Kind: pipeline.StepWaiting, Step: s.Name, Text: fmt.Sprintf("condition %d", i), Expect: time.Minute})
				pass(100 * time.Millisecond)
			}
			x.tell(pipeline.Event{Kind: pipeline.StepDone, Step: s.Name, Elapsed: 500 * time.Millisecond})
		}
		x.ends()
		if said := x.close(30 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		var all string
		for _, m := range x.slack.Messages() {
			all += strings.TrimPrefix(m.Said[0], m.Text) // the notification's line is the first one again
		}
		for _, s := range x.run.Steps {
			if n := strings.Count(all, s.Name+": done in"); n != 1 {
				t.Errorf("%s is told %d times", s.Name, n)
			}
		}
		if n := x.root().Edits(); n > 40 {
			t.Errorf("the run's message was edited %d times in 100 seconds", n)
		}
		t.Logf("%d calls, %d messages in %s", len(x.slack.Calls()), len(x.slack.Messages()), 100*time.Second)
		x.root()
		x.lawful()
	})
}

func TestNothingOfSlackBlocksTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Slow(time.Hour)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		synctest.Wait()
		for i := range slackRoom + 100 { // tell fails the test if any of them takes time
			x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: "build", Text: fmt.Sprint(i)})
		}
		said := strings.Join(x.close(3*time.Second), "\n")
		has(t, "what is said at the end", said, "Slack was not told of 100 events", "nobody knows whether these did")
		x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: "build", Text: "late"})
	})
}

func TestWhatSlackRefusesForItsFormIsToldInPlainWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		synctest.Wait()
		x.slack.Meddle(func(slacktest.Call) slacktest.Fault { return slacktest.Picky })
		x.rolls()
		x.ends()
		if said := x.close(15 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		if root := x.root(); string(root.Blocks) != "[]" || !strings.Contains(root.Text, "done") {
			t.Errorf("%s %s", root.Text, root.Blocks)
		}
	})
}

func TestARunsMessageThatCannotBeEditedIsLeftAndSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		pass(5 * time.Second)
		x.slack.Delete(x.root().TS)
		x.rolls()
		x.ends()
		said := strings.Join(x.close(15*time.Second), "\n")
		has(t, "what is said", said, "message_not_found")
	})
}

func TestADiskThatKeepsNothingIsSaidAndTheTellingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.close(time.Second)
		x.o.disk = fullDisk{}
		x.open()
		x.rolls()
		x.ends()
		said := strings.Join(x.close(15*time.Second), "\n")
		has(t, "what is said", said, "cannot remember what was told to Slack", "no space")
		has(t, "what a process of months says meanwhile", x.s.Trouble(), "cannot remember what was told to Slack")
		has(t, "the run's message", x.root().Text, "done")
	})
}

type fullDisk struct{}

func (fullDisk) load() ([]byte, error) { return nil, errors.New("no space") }
func (fullDisk) save([]byte) error     { return errors.New("no space") }

func TestABodyLargerThanAllOfSlacksLimitsIsCutToFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		defer x.close(time.Second)
		door, err := slackWay(x.o)
		if err != nil {
			t.Fatal(err)
		}
		long := escape(strings.Repeat("a<b ", 20000), 70000)
		b := body{Text: long, Head: strings.Repeat("🔵", 500), Foot: long}
		for range 60 {
			b.Fields, b.Parts = append(b.Fields, long), append(b.Parts, code(strings.Repeat("a<b ", 20000), 5000))
		}
		ts, err := door.post(t.Context(), "key", b, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := door.edit(t.Context(), ts, b); err != nil {
			t.Error(err)
		}
		b.Plain = true
		if err := door.edit(t.Context(), ts, b); err != nil {
			t.Error(err)
		}
		x.lawful()
	})
}
