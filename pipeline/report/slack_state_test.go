package report

import (
	"errors"
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
	path := SlackState(dir, "run1")
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
	other := filepath.Join(dir, "kept.txt")
	if err := errors.Join(os.WriteFile(other, nil, 0o600), os.Chtimes(other, old, old), os.Chtimes(path, old, old), slackFile(SlackState(dir, "run2")).save([]byte("new"))); err != nil {
		t.Fatal(err)
	}
	forgetOld(dir)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 || list[0].Name() != "kept.txt" || list[1].Name() != "slack-run2.json" {
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
