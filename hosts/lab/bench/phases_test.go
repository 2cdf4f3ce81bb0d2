package bench

import (
	"bytes"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock gives times that the test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func about(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func TestPhasesAreToldApartHoweverTheOutputIsCut(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	var all bytes.Buffer
	p := &phases{to: &all, now: c.now}
	began := c.at
	for _, step := range []struct {
		after time.Duration
		text  string
	}{
		{2 * time.Second, "starting\n== ben"},
		{0, "ch: place\nPLAY [== bench: roll] ******\n"}, // both at 2 s
		{3 * time.Second, "ok\n"},
		{1 * time.Second, "PLAY [== bench: roll] ****\nPLAY [== bench: fin"}, // the same again
		{1 * time.Second, "ish] *\n"},
	} {
		c.at = c.at.Add(step.after)
		if _, err := p.Write([]byte(step.text)); err != nil {
			t.Fatal(err)
		}
	}
	c.at = c.at.Add(500 * time.Millisecond)
	got := p.seconds(began, c.at)
	want := map[string]float64{phasePrepare: 2, phasePlace: 0, phaseRoll: 5, phaseFinish: 0.5}
	if !maps.EqualFunc(got, want, about) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !strings.HasPrefix(all.String(), "starting\n== bench: place\n") {
		t.Errorf("the output was not passed on: %q", all.String())
	}
}

func TestRefitsStepsAreGatheredInPhasesThatAddUp(t *testing.T) {
	report := `{"schema":"x","steps":[{"name":"preflight","seconds":1},{"name":"build","host":"uhura","seconds":0.5},{"name":"place","seconds":4},
		{"name":"bridge assets","seconds":2},{"name":"pre-migrate","host":"scotty","seconds":3},{"name":"roll sidekiq scotty","host":"scotty","seconds":5},
		{"name":"roll web kirk","host":"kirk","seconds":6},{"name":"soak","seconds":0.2},{"name":"prune","seconds":0.3}]}`
	got, steps, err := refitPhases([]byte(report), 25)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{phasePrepare: 4, phasePlace: 4.5, phaseBridge: 2, phaseMigrate: 3, phaseRoll: 11, phaseFinish: 0.5}
	if !maps.EqualFunc(got, want, about) || len(steps) != 9 {
		t.Errorf("got %v, want %v (%d steps)", got, want, len(steps))
	}
	var sum float64
	for _, s := range got {
		sum += s
	}
	if !about(sum, 25) {
		t.Errorf("the phases add up to %v", sum)
	}
	for _, wrong := range []string{"", "{}", "no JSON"} {
		if _, _, err := refitPhases([]byte(wrong), 1); err == nil {
			t.Errorf("%q is taken for a report", wrong)
		}
	}
}

func TestAHelperThatIsLeftWithThePipeDoesNotProlongACommand(t *testing.T) {
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), "sh", "-c", "sleep 30 & echo $! >&2; echo '== bench: place'")
	l, err := listen(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("its end was seen after %s", took)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	// As the group's end does.
	if out, err := exec.CommandContext(t.Context(), "kill", strings.TrimSpace(string(pid))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 2 {
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := l.seconds(began, time.Now())[phasePlace]; !ok || l.report.String() != "== bench: place\n" {
		t.Errorf("heard %q", l.report.String())
	}
	kept, err := os.ReadFile(filepath.Join(dir, "stdout"))
	if err != nil || string(kept) != "== bench: place\n" {
		t.Errorf("kept %q, %v", kept, err)
	}
}
