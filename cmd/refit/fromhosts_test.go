package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// withAKeeper is a session whose keeper answers, its folder, and that of this
// machine's copies.
func withAKeeper(t *testing.T) (x *session, onKeeper, here string) {
	t.Helper()
	dir, state := t.TempDir(), t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	agent, _ := hoststest.NewNode(t, nil, keeper.Verbs(dir)...)
	x = &session{
		config: config{Fleet: "vmst.io"}, say: t.Logf,
		keeper: &keeper.Keeper{Caller: agent, Name: "uhura", Pause: time.Microsecond},
	}
	return x, filepath.Join(dir, "journal"), filepath.Join(state, "refit", "vmst.io")
}

// edit puts other bytes into a journal's file.
func edit(t *testing.T, dir, id string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, id+".json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAJournalThatCannotBeReadIsToldWithItsExactRemedy(t *testing.T) {
	replaced := func(old, now string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Replace(string(b), old, now, 1)) }
	}
	for name, test := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"truncated":      {func(b []byte) []byte { return b[:len(b)/2] }, "refit resume --from-hosts"},
		"cut to nothing": {func([]byte) []byte { return nil }, "refit resume --from-hosts"},
		"edited":         {replaced("v4.5.15", "v4.5.16"), "refit resume --from-hosts"},
		"a newer format": {replaced(`"format":1`, `"format":2`), "use the newer refit"},
	} {
		t.Run(name, func(t *testing.T) {
			x, onKeeper, _ := withAKeeper(t)
			older := halfDone()
			older.ID, older.Outcome = "20250101-000000-older", pipeline.Done
			mirror(t, onKeeper, older)
			mirror(t, onKeeper, halfDone())
			edit(t, onKeeper, halfDone().ID, test.change)
			_, resume := x.latest(t.Context())
			for what, err := range map[string]error{"resume": resume, "upgrade": x.noneLeft(t.Context())} {
				if exitCode(err) != exitPerson || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), halfDone().ID) {
					t.Errorf("%s: code %d, %v", what, exitCode(err), err)
				}
			}
			if st := x.status(t.Context()); !strings.Contains(st.Next, test.want) || st.KeeperError == "" {
				t.Errorf("status: %s, %s", st.KeeperError, st.Next)
			}
		})
	}
}

func TestAKeeperThatWasSetUpAnewDoesNotForgetTheRunThatThisMachineKnows(t *testing.T) {
	x, _, here := withAKeeper(t)
	if j, err := x.latest(t.Context()); j != nil || err != nil {
		t.Errorf("before the first run: %v, %v", j, err)
	}
	mirror(t, here, halfDone())
	for what, err := range map[string]error{"resume": second(x.latest(t.Context())), "upgrade": x.noneLeft(t.Context())} {
		for _, want := range []string{"keeper uhura knows of no upgrade", here, halfDone().ID, "refit resume --from-hosts", "Nothing was changed"} {
			if exitCode(err) != exitPerson || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: code %d, without %q: %v", what, exitCode(err), want, err)
			}
		}
	}
	over := halfDone()
	over.Outcome, over.Seq = pipeline.Done, 5
	mirror(t, here, over)
	if err := x.noneLeft(t.Context()); err != nil {
		t.Errorf("of a run that is over: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// raised is a testimony of hosts whose fences were raised by a run under an epoch.
func raised(epoch int64, run string) *stages.Testimony {
	return &stages.Testimony{Hosts: map[string]stages.Witness{"kirk": {Fence: node.Fence{Epoch: epoch, Holder: "ana@bridge (process 7)" + stages.FenceRun + run}}}}
}

func TestTheNewestCopyThatIsOfTheRunOnTheHostsIsUsed(t *testing.T) {
	run := halfDone().ID
	with := func(change func(*pipeline.Journal)) *pipeline.Journal {
		j := halfDone()
		if change != nil {
			change(j)
		}
		return j
	}
	done := func(j *pipeline.Journal) { j.Outcome = pipeline.Done }
	for name, test := range map[string]struct {
		keeper, here *pipeline.Journal
		torn         bool // the keeper's
		fences       *stages.Testimony
		seq          int64  // of the copy used, 0 for none
		said         string // if none is used
	}{
		"only this machine has one":               {here: with(nil), fences: raised(3, run), seq: 4},
		"only the keeper has one":                 {keeper: with(nil), fences: raised(3, run), seq: 4},
		"none has":                                {fences: raised(3, run)},
		"the keeper's is newer":                   {keeper: with(func(j *pipeline.Journal) { j.Seq = 9 }), here: with(nil), fences: raised(3, run), seq: 9},
		"this machine's is newer":                 {keeper: with(nil), here: with(func(j *pipeline.Journal) { j.Seq = 9 }), fences: raised(3, run), seq: 9},
		"this machine's has the higher epoch":     {keeper: with(func(j *pipeline.Journal) { j.Seq = 9 }), here: with(func(j *pipeline.Journal) { j.Epoch, j.Seq = 4, 5 }), fences: raised(4, run), seq: 5},
		"it is over":                              {here: with(done), fences: raised(3, run)},
		"somebody went on with it":                {here: with(nil), fences: raised(9, run), seq: 4},
		"another run came later":                  {here: with(nil), fences: raised(9, "20270101-000000-other"), said: "worked on later by run 20270101-000000-other"},
		"the keeper's is torn":                    {keeper: with(nil), torn: true, here: with(nil), fences: raised(3, run), seq: 4},
		"the keeper's is torn and over":           {keeper: with(done), torn: true, here: with(done), fences: raised(3, run), seq: 4},
		"the keeper's is torn and of another run": {keeper: with(func(j *pipeline.Journal) { j.ID = "20270101-000000-other" }), torn: true, here: with(nil), fences: raised(3, run), said: "it is not used"},
	} {
		t.Run(name, func(t *testing.T) {
			x, onKeeper, here := withAKeeper(t)
			if test.keeper != nil {
				mirror(t, onKeeper, test.keeper)
			}
			if test.torn {
				edit(t, onKeeper, test.keeper.ID, func(b []byte) []byte { return b[:30] })
			}
			if test.here != nil {
				mirror(t, here, test.here)
			}
			c, err := x.findCopies(t.Context(), test.fences)
			if err != nil {
				t.Fatal(err)
			}
			if test.seq == 0 && c.journal != nil || test.seq != 0 && (c.journal == nil || c.journal.Seq != test.seq) {
				t.Errorf("used: %+v", c.journal)
			}
			if said := strings.Join(c.said, "\n"); !strings.Contains(said, test.said) {
				t.Errorf("said: %s", said)
			}
			if test.torn && c.damaged != test.keeper.ID {
				t.Errorf("damaged: %q", c.damaged)
			}
		})
	}
}

func TestACopyOfANewerFormatIsNotRebuiltOverByAnOlderRefit(t *testing.T) {
	x, onKeeper, _ := withAKeeper(t)
	mirror(t, onKeeper, halfDone())
	edit(t, onKeeper, halfDone().ID, func(b []byte) []byte { return []byte(strings.Replace(string(b), `"format":1`, `"format":2`, 1)) })
	if _, err := x.findCopies(t.Context(), raised(3, "")); exitCode(err) != exitPerson || !strings.Contains(err.Error(), "use the newer refit") {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
}

func TestAFleetThatChangedInTheMiddleIsToldHostByHost(t *testing.T) {
	host := func(name string, r hosts.Role) stages.Node {
		return stages.Node{Host: hosts.Host{Name: name, Roles: []hosts.Role{r}}}
	}
	x := &session{deps: stages.Deps{Fleet: stages.Fleet{host("kirk", hosts.Web), host("picard", hosts.Web)}}}
	err := x.sameFleet(halfDone(), &stages.Facts{Web: []string{"kirk", "spock"}})
	for _, want := range []string{"spock is not in refit.yml any more", `"roll web spock" is not begun`, "picard is new", "Put refit.yml back", "Nothing was changed", "refit resume --from-hosts"} {
		if exitCode(err) != exitRefused || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("code %d, without %q: %v", exitCode(err), want, err)
		}
	}
	if err := x.sameFleet(halfDone(), &stages.Facts{Web: []string{"picard", "kirk"}}); err != nil {
		t.Error(err)
	}
}

func TestAHostThatKeepsARunFromGoingOnIsNamedWithWhereTheRunStands(t *testing.T) {
	x := &session{keeper: &keeper.Keeper{Name: "uhura"}}
	dead := fmt.Errorf("%w: spock: %w", errFences, hosts.ErrSilent)
	err := x.noLease(t.Context(), execution{journal: halfDone()}, dead)
	for _, want := range []string{"spock", "this command changed nothing", "roll web kirk is doing", "bring the host back, then `refit resume`", "`refit resume --from-hosts`"} {
		if exitCode(err) != exitPerson || !strings.Contains(err.Error(), want) {
			t.Errorf("code %d, without %q: %v", exitCode(err), want, err)
		}
	}
	if err := x.noLease(t.Context(), execution{journal: halfDone(), back: true}, dead); !strings.Contains(err.Error(), "then `refit rollback`") {
		t.Error(err)
	}
	if err := x.noLease(t.Context(), execution{}, dead); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "nothing was touched") {
		t.Errorf("a run that had not begun: code %d: %v", exitCode(err), err)
	}
	if err := x.noLease(t.Context(), execution{journal: halfDone()}, keeper.ErrNoSpace); exitCode(err) != exitPerson || !strings.Contains(err.Error(), "mend the disk of uhura, then `refit resume`") {
		t.Error(err)
	}
	if err := x.noLease(t.Context(), execution{}, errors.Join(errFences, hosts.ErrHostKey)); exitCode(err) != exitAuth {
		t.Errorf("another host key: code %d", exitCode(err))
	}
	if err := x.noLease(t.Context(), execution{}, keeper.ErrDamaged); !strings.Contains(err.Error(), "refit unlock") {
		t.Error(err)
	}
}

func TestToIsForARunWithoutAnyCopy(t *testing.T) {
	for _, line := range []string{"resume --to v4.5.15", "rollback --to v4.5.15 --yes"} {
		code, _, errs := command(t.Context(), strings.Fields(line)...)
		if code != exitUsage || !strings.Contains(errs, "--from-hosts") {
			t.Errorf("refit %s: code %d, %s", line, code, errs)
		}
	}
}

func TestARunThatWasRebuiltIsNotGoneOnWithIfAnotherOperatorCameBetween(t *testing.T) {
	for name, between := range map[string]bool{"nobody came": false, "somebody came": true} {
		t.Run(name, func(t *testing.T) {
			x, _, _ := withAKeeper(t)
			x.keeper.Above = func(context.Context) (int64, error) { return 6, nil }
			x.above = 6 // the highest fence, as it was seen
			if between {
				other := &keeper.Keeper{Caller: x.keeper.Caller, Name: "uhura", Above: x.keeper.Above}
				if _, _, err := other.Acquire(t.Context(), "resume"); err != nil {
					t.Fatal(err)
				}
				if err := other.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := x.keeper.Acquire(t.Context(), "resume"); err != nil {
				t.Fatal(err)
			}
			err := x.unmoved(t.Context())
			if between != (err != nil) || between && (exitCode(err) != exitRefused || !strings.Contains(err.Error(), "another operator was at work")) {
				t.Error(err)
			}
		})
	}
}

func TestAKeeperThatWasFoundAwayIsNotWaitedForTwice(t *testing.T) {
	x, dir := withoutItsKeeper(t, hosts.ErrUnreachable)
	calls := 0
	x.keeper.Caller = counting{&calls}
	if err := x.idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := calls
	if _, err := x.latest(t.Context()); exitCode(err) != exitPerson || !strings.Contains(err.Error(), dir) || calls != asked {
		t.Errorf("%d more calls: %v", calls-asked, err)
	}
}

type counting struct{ n *int }

func (c counting) Call(context.Context, string, any, io.Reader, any, func(string)) error {
	*c.n++
	return hosts.ErrUnreachable
}
