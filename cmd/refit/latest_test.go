package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

// gone is a keeper's host that nobody reaches.
type gone struct{ err error }

func (g gone) Call(context.Context, string, any, io.Reader, any, func(string)) error { return g.err }

// withoutItsKeeper is a session whose keeper cannot be asked, and the folder of its mirror.
func withoutItsKeeper(t *testing.T, err error) (*session, string) {
	t.Helper()
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	return &session{
		config: config{Fleet: "vmst.io"},
		keeper: &keeper.Keeper{Caller: gone{err}, Name: "uhura", Pause: time.Microsecond},
	}, filepath.Join(state, "refit", "vmst.io")
}

// mirror puts the copy of a journal where an upgrade leaves it.
func mirror(t *testing.T, dir string, j *pipeline.Journal) {
	t.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&keeper.Dir{Path: dir}).Save(t.Context(), j.ID, j.Epoch, j.Seq, b); err != nil {
		t.Fatal(err)
	}
}

func TestALostKeeperNeedsAPersonAndTheMirrorNamesTheRun(t *testing.T) {
	x, dir := withoutItsKeeper(t, hosts.ErrSilent)
	mirror(t, dir, halfDone())
	_, resume := x.latest(t.Context())
	for name, err := range map[string]error{"resume, rollback": resume, "upgrade": x.noneLeft(t.Context())} {
		if exitCode(err) != exitPerson {
			t.Errorf("%s: code %d", name, exitCode(err))
		}
		for _, want := range []string{"bring keeper uhura back", dir, "run " + halfDone().ID + ": roll web kirk is doing"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v\ndoes not say %q", name, err, want)
			}
		}
		if strings.Contains(fmt.Sprint(err), "nothing was touched") {
			t.Errorf("%s: %v\nsays that nothing was touched, of a run half way", name, err)
		}
	}
}

func TestWithoutKeeperAndWithoutARunHalfWayAnUpgradeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*pipeline.Journal){
		"no run":   nil,
		"run done": func(j *pipeline.Journal) { j.Outcome = pipeline.Done },
	} {
		t.Run(name, func(t *testing.T) {
			x, dir := withoutItsKeeper(t, hosts.ErrUnreachable)
			if change != nil {
				j := halfDone()
				change(j)
				mirror(t, dir, j)
			}
			err := x.noneLeft(t.Context())
			if exitCode(err) != exitRefused || !strings.Contains(err.Error(), "keeper uhura") || !strings.Contains(err.Error(), "nothing was touched") {
				t.Errorf("code %d: %v", exitCode(err), err)
			}
			if _, err := x.latest(t.Context()); exitCode(err) != exitPerson || !strings.Contains(err.Error(), dir) {
				t.Errorf("resume: code %d: %v", exitCode(err), err)
			}
		})
	}
}

func TestAMirrorThatCannotBeReadIsNotTakenForNoRun(t *testing.T) {
	x, dir := withoutItsKeeper(t, hosts.ErrUnreachable)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, halfDone().ID+".json"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := x.noneLeft(t.Context())
	if exitCode(err) != exitPerson || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
}

func TestAKeeperThatRefusesOurKeyIsNotALostKeeper(t *testing.T) {
	x, _ := withoutItsKeeper(t, hosts.ErrAuth)
	if _, err := x.latest(t.Context()); exitCode(err) != exitAuth {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
}

func TestStatusSaysWhatToDoWithoutItsKeeper(t *testing.T) {
	x, dir := withoutItsKeeper(t, hosts.ErrSilent)
	mirror(t, dir, halfDone())
	st := x.status(t.Context())
	for _, want := range []string{"bring keeper uhura back", dir, halfDone().ID} {
		if !strings.Contains(st.Next, want) {
			t.Errorf("%q does not say %q", st.Next, want)
		}
	}
	if st.Run == nil || st.Run.ID != halfDone().ID || st.Copy != dir {
		t.Errorf("the run by this machine's copy: %+v in %q", st.Run, st.Copy)
	}
	var text strings.Builder
	if err := st.text(&text); err != nil || !strings.Contains(text.String(), "by this machine's copy in "+dir) {
		t.Errorf("%v\n%s", err, text.String())
	}
	if !strings.Contains(st.KeeperError, hosts.ErrSilent.Error()) {
		t.Error(st.KeeperError)
	}
	x, _ = withoutItsKeeper(t, errors.Join(hosts.ErrHostKey))
	if st := x.status(t.Context()); !strings.Contains(st.Next, "host key") {
		t.Error(st.Next)
	}
}
