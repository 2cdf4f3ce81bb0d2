package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
)

func TestTheStateFileIsPrivateWholeAndForgottenInTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "told")
	path, releases := SlackState(dir, "20260101-000000-abcde"), SlackState(dir, "releases")
	f := slackFile(path)
	if _, err := f.load(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := f.save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := f.load(); err != nil || string(b) != text {
			t.Errorf("%s %v", b, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	old := time.Now().Add(-100 * 24 * time.Hour)
	if err := errors.Join(slackFile(releases).save(nil), os.Chtimes(releases, old, old), os.Chtimes(path, old, old), slackFile(SlackState(dir, "20260401-000000-abcde")).save(nil)); err != nil {
		t.Fatal(err)
	}
	forgetOld(dir)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 || list[0].Name() != "slack-20260401-000000-abcde.json" || list[1].Name() != "slack-releases.json" {
		t.Errorf("%v %v", list, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := slackFile(filepath.Join(dir, "file", "state.json")).save(nil); err == nil {
		t.Error("a file is no folder")
	}
}

func TestAStateOfAnotherFormatOrChannelIsNotUsed(t *testing.T) {
	for text, want := range map[string]string{
		`{"format":1,"channel":"C1","seq":7}`: "", `{"format":1,"channel":"C2","seq":7}`: "", `{"format":9,"channel":"C1","seq":7}`: "format 9", `{`: "cannot read",
	} {
		s, err := readState(&memory{b: []byte(text)}, "C1")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if used := s.Seq == 7; used != strings.Contains(text, `1,"channel":"C1"`) || s.Told == nil {
			t.Errorf("%s: %+v", text, s)
		}
	}
}

func TestARunIsLookedBackAtForADayAndOnlyIfItsEndWasNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := SlackState(t.TempDir(), "run")
		if SlackUnfinished(path) {
			t.Error("nothing was told")
		}
		x := begin(t, func(o *SlackOptions) { o.disk, o.State = nil, path })
		x.s.Begin(x.run)
		x.tell(pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade"})
		pass(10 * time.Second)
		now := time.Now() // the bubble's; the file has the machine's
		if err := os.Chtimes(path, now, now); err != nil || !SlackUnfinished(path) {
			t.Errorf("a run without an end is told whole (%v)", err)
		}
		old := now.Add(-25 * time.Hour)
		if err := os.Chtimes(path, old, old); err != nil || SlackUnfinished(path) {
			t.Errorf("yesterday's run is news (%v)", err)
		}
		x.ends()
		if said := x.close(time.Minute); len(said) > 0 {
			t.Error(said)
		}
		now = time.Now()
		if err := os.Chtimes(path, now, now); err != nil || SlackUnfinished(path) {
			t.Errorf("something is left to tell (%v)", err)
		}
	})
}

// A watcher's Slack tells runs one after another and releases, in one file, for months.
func TestOneSlackTellsRunsAndReleasesForMonthsAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.s.Release(seen())
		for i := range 3 {
			x.run.ID, x.run.Began = fmt.Sprintf("2026010%d-000000-abcde", i), time.Now()
			x.rolls()
			x.ends()
		}
		pass(time.Hour)
		x.slack.Down(true)
		x.tell(pipeline.Event{Kind: pipeline.StepSaid, Step: "build", Text: "x"})
		pass(time.Minute)
		if said := x.s.Trouble(); !strings.Contains(said, "cannot reach Slack") {
			t.Errorf("%q", said)
		}
		x.slack.Down(false)
		pass(time.Minute)
		if said := append(x.close(time.Minute), x.s.Trouble()); len(said) != 1 || said[0] != "" {
			t.Errorf("%q", said)
		}
		if n := len(x.channel()); n != 4 {
			t.Errorf("%d messages in the channel:\n%s", n, x.all())
		}
		for _, m := range x.slack.Messages() {
			if m.Thread != "" && !strings.Contains(m.Key, "release/") && !strings.HasPrefix(m.Key, x.keyOf(m.Thread)+"/") {
				t.Errorf("%s stands in the thread of %s", m.Key, x.keyOf(m.Thread))
			}
		}
		pass(100 * 24 * time.Hour)
		n := len(x.slack.Messages())
		x.open()
		x.s.Release(seen())
		pass(time.Minute)
		x.close(time.Minute)
		if len(x.disk.b) > 3000 || len(x.slack.Messages()) != n {
			t.Errorf("%d messages more, and %d bytes are remembered: %s", len(x.slack.Messages())-n, len(x.disk.b), x.disk.b)
		}
		x.lawful()
	})
}

// keyOf is the key of the message with a timestamp.
func (x *story) keyOf(ts string) string {
	for _, m := range x.slack.Messages() {
		if m.TS == ts {
			return m.Key
		}
	}
	return ""
}
