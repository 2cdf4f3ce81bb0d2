package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

const unit = "refit-premigrate.service"

// callback is what the unit of a job calls before and after its command.
func callback(t *testing.T, m node.Machine, word string, env map[string]string) {
	t.Helper()
	for k, v := range env {
		t.Setenv(k, v)
	}
	if err := m.Serve(t.Context(), nil, []string{word, unit}, nil, os.Stdout); err != nil {
		t.Fatal(err)
	}
}

func job() node.JobIn {
	return node.JobIn{
		Unit: unit, Argv: []string{"bin/rails", "db:migrate"}, Env: []string{"DB_PASS=canary\"$`\\ \n'x"}, Dir: "/home/mastodon/releases/v1",
		User: "mastodon", NoNetwork: true, Properties: []string{"MemoryMax=2G"},
	}
}

func TestAJobsSecretsStandInAFileOfRootsAndInNoArgument(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	j, err := a.JobStart(t.Context(), job())
	if err != nil || j.State != node.JobRunning || j.Adopted || j.Run != "u-1" {
		t.Fatalf("got %+v, %v", j, err)
	}
	var run []string
	for _, c := range systemd.Calls() {
		if strings.Contains(strings.Join(c, " "), "canary") {
			t.Errorf("the secret stands in %q", c)
		}
		if c[0] == "systemd-run" {
			run = c
		}
	}
	for _, want := range []string{
		"--unit=" + unit, "--property=User=mastodon", "--property=WorkingDirectory=/home/mastodon/releases/v1", "--property=PrivateNetwork=yes",
		"--property=MemoryMax=2G", "--property=RuntimeMaxSec=infinity",
		"--property=ExecStopPost=+/var/lib/refit/bin/refit-0123456789abcdef node job.end " + unit,
	} {
		if !slices.Contains(run, want) {
			t.Errorf("systemd-run lacks %q: %q", want, run)
		}
	}
	env := filepath.Join(m.State, "jobs", unit, "env")
	b, err := os.ReadFile(env)
	if want := "DB_PASS=\"canary\\\"\\$\\`\\\\ \n'x\"\n"; err != nil || string(b) != want {
		t.Errorf("the environment file holds %q, %v, want %q", b, err, want)
	}
	if fi, err := os.Stat(env); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v, %v", fi.Mode(), err)
	}
	status, err := os.ReadFile(filepath.Join(m.State, "jobs", unit, "status.json"))
	if err != nil || strings.Contains(string(status), "canary") {
		t.Errorf("the record holds the secret: %s, %v", status, err)
	}
	callback(t, m, "job.end", map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"})
	if _, err := os.Stat(env); err == nil {
		t.Error("the environment file outlives the job")
	}
}

func TestAJobsEndIsOnRecordHoweverItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want node.Job
	}{
		"well":     {map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}, node.Job{Result: "success"}},
		"badly":    {map[string]string{"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "7"}, node.Job{Result: "exit-code", Code: 7}},
		"killed":   {map[string]string{"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}, node.Job{Result: "signal", Code: -1, Signal: "KILL"}},
		"shutdown": {map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, node.Job{Result: "signal", Code: -1, Signal: "TERM"}},
		"no start": {map[string]string{"SERVICE_RESULT": "exit-code", "EXIT_CODE": "", "EXIT_STATUS": ""}, node.Job{Result: "exit-code", Code: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			systemd := &hoststest.Systemd{}
			a, m := hoststest.NewNode(t, systemd)
			if _, err := a.JobStart(t.Context(), job()); err != nil {
				t.Fatal(err)
			}
			callback(t, m, "job.begin", nil)
			callback(t, m, "job.end", c.env)
			delete(systemd.Units, unit)
			got, err := a.JobStatus(t.Context(), unit)
			if err != nil || got.State != node.JobDone || got.Result != c.want.Result || got.Code != c.want.Code || got.Signal != c.want.Signal || got.Began.IsZero() || got.Ended.IsZero() {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
			if got.Succeeded() != (name == "well") {
				t.Errorf("succeeded: %v", got.Succeeded())
			}
		})
	}
}

func TestAJobAtWorkIsAdoptedAndNotStartedTwice(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, _ := hoststest.NewNode(t, systemd)
	for i := range 2 {
		j, err := a.JobStart(t.Context(), job())
		if err != nil || j.Adopted != (i == 1) {
			t.Fatalf("start %d: %+v, %v", i+1, j, err)
		}
	}
	runs := 0
	for _, c := range systemd.Calls() {
		if c[0] == "systemd-run" {
			runs++
		}
	}
	if runs != 1 {
		t.Errorf("started %d times", runs)
	}
	if err := a.JobClear(t.Context(), unit); !errors.Is(err, node.ErrInUse) {
		t.Errorf("clearing it: %v, want ErrInUse", err)
	}
}

func TestAJobWhoseEndNobodySawIsUnknown(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	if j, err := a.JobStatus(t.Context(), unit); err != nil || j.State != node.JobNone {
		t.Fatalf("before: %+v, %v", j, err)
	}
	if _, err := a.JobStart(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	delete(systemd.Units, unit)
	if j, err := a.JobStatus(t.Context(), unit); err != nil || j.State != node.JobNone {
		t.Errorf("asked for and never begun: %+v, %v, want none", j, err)
	}
	callback(t, m, "job.begin", nil)
	if j, err := a.JobStatus(t.Context(), unit); err != nil || j.State != node.JobUnknown {
		t.Errorf("begun and gone: %+v, %v, want unknown", j, err)
	}
	// Restarted in the middle: another boot.
	status := filepath.Join(m.State, "jobs", unit, "status.json")
	b, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), `"boot":"`) + len(`"boot":"`)
	if err := os.WriteFile(status, []byte(string(b[:i])+"x"+string(b[i+1:])), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := a.JobStatus(t.Context(), unit)
	if err != nil || j.State != node.JobUnknown || !strings.Contains(j.Text, "restarted") {
		t.Errorf("after a restart of the host: %+v, %v", j, err)
	}
	if j, err := a.JobStart(t.Context(), job()); err != nil || j.Adopted || j.State != node.JobRunning {
		t.Errorf("started anew: %+v, %v", j, err)
	}
}

func TestWhoWaitsForAJobIsAnsweredWhenItEnds(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	if _, err := a.JobStart(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	callback(t, m, "job.begin", nil)
	if j, err := a.JobAwait(t.Context(), unit, time.Nanosecond); err != nil || j.State != node.JobRunning {
		t.Fatalf("not ended in time: %+v, %v", j, err)
	}
	type answer struct {
		node.Job
		err error
	}
	begun, answered := make(chan bool), make(chan answer)
	go func() {
		close(begun)
		j, err := a.JobAwait(t.Context(), unit, time.Hour)
		answered <- answer{j, err}
	}()
	<-begun
	callback(t, m, "job.end", map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"})
	if got := <-answered; got.err != nil || !got.Succeeded() {
		t.Errorf("%+v", got)
	}
}

func TestAJobsLogIsReadInPieces(t *testing.T) {
	a, m := hoststest.NewNode(t, &hoststest.Systemd{})
	if _, err := a.JobLog(t.Context(), node.JobLogIn{Unit: unit}); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("no log: %v, want ErrNotFound", err)
	}
	if _, err := a.JobStart(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.State, "jobs", unit, "log"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   node.JobLogIn
		want string
		next int64
	}{
		{node.JobLogIn{Unit: unit, Max: 4}, "0123", 4},
		{node.JobLogIn{Unit: unit, Offset: 4}, "456789", 10},
		{node.JobLogIn{Unit: unit, Offset: 10}, "", 10},
		{node.JobLogIn{Unit: unit, Offset: -3}, "789", 10},
	} {
		got, err := a.JobLog(t.Context(), c.in)
		if err != nil || string(got.Data) != c.want || got.Next != c.next {
			t.Errorf("%+v: %q, %d, %v", c.in, got.Data, got.Next, err)
		}
	}
}

func TestSweepClearsEndedJobsOfARunAndLeavesThoseAtWork(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	home := t.TempDir()
	tree(t, home, map[string]string{"releases/.refit-tmp-placing-v1.0.0/f": "", ".refit-tmp-live": "-> x"})
	if _, err := a.JobStart(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	in := node.SweepIn{Home: home, Clear: true}
	out, err := a.Sweep(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range out.Items {
		if item.Cleared == (item.Kind == "job") {
			t.Errorf("cleared: %+v", item)
		}
	}
	if len(out.Items) != 3 {
		t.Errorf("found %+v", out.Items)
	}
	callback(t, m, "job.end", map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"})
	delete(systemd.Units, unit)
	if out, err := a.SweepShow(t.Context(), node.SweepIn{Home: home, Run: "u-1", Clear: true}); err != nil || len(out.Items) != 1 || out.Items[0].Cleared {
		t.Errorf("show: %+v, %v", out, err)
	}
	if out, err := a.Sweep(t.Context(), node.SweepIn{Home: home, Run: "another", Clear: true}); err != nil || len(out.Items) != 0 {
		t.Errorf("another run: %+v, %v", out, err)
	}
	if out, err := a.Sweep(t.Context(), in); err != nil || len(out.Items) != 1 || !out.Items[0].Cleared {
		t.Errorf("in the end: %+v, %v", out, err)
	}
}

func TestAJobIsStartedAnewOnlyOnceItsLastUnitIsGone(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	if _, err := a.JobStart(t.Context(), job()); err != nil {
		t.Fatal(err)
	}
	callback(t, m, "job.end", map[string]string{"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"})
	unlock := systemd.Lock()
	systemd.Units[unit].Active = "deactivating"
	unlock()
	done := make(chan error, 1)
	go func() {
		_, err := a.JobStart(t.Context(), job())
		done <- err
	}()
	// It looks at least twice before the unit goes.
	for range 3 {
		if _, err := a.JobStatus(t.Context(), unit); err != nil {
			t.Fatal(err)
		}
	}
	unlock = systemd.Lock()
	delete(systemd.Units, unit)
	unlock()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
}

func TestSweepRemovesAgentsThatNobodyUsedForAWeek(t *testing.T) {
	a, m := hoststest.NewNode(t, &hoststest.Systemd{})
	old := time.Now().Add(-8 * 24 * time.Hour)
	for name, at := range map[string]time.Time{"refit-0123456789abcdef": old, "refit-old": old, "refit-new": time.Now()} {
		tree(t, m.State, map[string]string{"bin/" + name: "x"})
		if err := os.Chtimes(filepath.Join(m.State, "bin", name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	out, err := a.Sweep(t.Context(), node.SweepIn{Home: t.TempDir(), Clear: true})
	if err != nil || len(out.Items) != 1 || filepath.Base(out.Items[0].Path) != "refit-old" {
		t.Errorf("got %+v, %v", out, err)
	}
}
