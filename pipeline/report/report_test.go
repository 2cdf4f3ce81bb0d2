package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"vmst.io/refit/pipeline"
)

func TestARunThatOnlyPreparedIsBegunAnewAndNotResumed(t *testing.T) {
	built := Summarise(pipeline.Plan{Kind: "build", To: "v4.6.0"}, pipeline.Result{Status: pipeline.Undone}, Extra{})
	if want := "mend the cause, then again: refit build --to v4.6.0"; built.Next != want {
		t.Errorf("got %q, want %q", built.Next, want)
	}
	for _, c := range []struct {
		from string
		res  pipeline.Result
		want string
	}{
		{"v4.5.14", pipeline.Result{Status: pipeline.Done}, ""},
		{"v4.5.14", pipeline.Result{Status: pipeline.LostLock}, "see who holds the lease: refit status; then again: refit place --to v4.6.0"},
		{"v4.5.14", pipeline.Result{Status: pipeline.Interrupted}, "refit place --to v4.6.0"},
		{"", pipeline.Result{Status: pipeline.Undone}, "mend the cause, then again: refit place --to v4.6.0 --first"},
		{"v4.5.14", pipeline.Result{Status: pipeline.Undone, Asked: true}, ""},
	} {
		r := Summarise(pipeline.Plan{ID: "r7", Kind: "place", From: c.from, To: "v4.6.0"}, c.res, Extra{})
		if r.Next != c.want {
			t.Errorf("%s from %q: got %q, want %q", c.res.Status, c.from, r.Next, c.want)
		}
	}
}

// golden compares with testdata/golden/NAME. REFIT_GOLDEN=write writes it anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("REFIT_GOLDEN") == "write" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as %s (REFIT_GOLDEN=write writes it anew):\n%s", path, got)
	}
}

var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// night is the events of a run that fails at its second web node.
func night() []pipeline.Event {
	var list []pipeline.Event
	add := func(after time.Duration, e pipeline.Event) {
		e.Time, e.Run, e.Total = start.Add(after), "r7", 4
		e.Index = map[string]int{"build": 1, "place": 2, "roll web kirk": 3, "roll web spock": 4}[e.Step]
		list = append(list, e)
	}
	const s = time.Second
	add(0, pipeline.Event{Kind: pipeline.LockTaken, Text: "lease taken, epoch 12, upgrade to v4.5.15"})
	add(0, pipeline.Event{Kind: pipeline.RunStarted, Text: "upgrade from v4.5.14 to v4.5.15, 4 steps"})
	add(0, pipeline.Event{Kind: pipeline.StepStarted, Step: "build", Host: "uhura", Text: "one artifact for all nodes", Expect: 90 * s})
	add(3*s, pipeline.Event{Kind: pipeline.StepSaid, Step: "build", Host: "uhura", Text: "bundle install\n45 gems"})
	add(80*s, pipeline.Event{Kind: pipeline.StepDone, Step: "build", Host: "uhura", Elapsed: 80 * s})
	add(80*s, pipeline.Event{Kind: pipeline.StepStarted, Step: "place"})
	add(84*s, pipeline.Event{Kind: pipeline.StepDone, Step: "place", Elapsed: 4 * s})
	add(84*s, pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk", Host: "kirk", Expect: 45 * s})
	add(85*s, pipeline.Event{Kind: pipeline.HostSeen, Step: "roll web kirk", Host: "kirk", State: "draining"})
	add(90*s, pipeline.Event{Kind: pipeline.StepWaiting, Step: "roll web kirk", Host: "kirk", Text: "Puma on kirk answers with v4.5.15", Err: "connection refused", Elapsed: 5 * s, Expect: 60 * s})
	add(110*s, pipeline.Event{Kind: pipeline.StepWaiting, Step: "roll web kirk", Host: "kirk", Text: "Puma on kirk answers with v4.5.15 (holding)", Elapsed: 10 * s, Expect: 30 * s})
	add(130*s, pipeline.Event{Kind: pipeline.HostSeen, Step: "roll web kirk", Host: "kirk", State: "serving", Release: "v4.5.15"})
	add(130*s, pipeline.Event{Kind: pipeline.StepDone, Step: "roll web kirk", Host: "kirk", Elapsed: 46 * s})
	add(130*s, pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web spock", Host: "spock", Expect: 45 * s})
	add(150*s, pipeline.Event{Kind: pipeline.LockLate, Text: "the lease could not be renewed, trying again", Err: "keeper uhura: no answer"})
	add(160*s, pipeline.Event{Kind: pipeline.LockRenewed, Text: "the lease is renewed again"})
	add(190*s, pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web spock", Host: "spock", Elapsed: 60 * s, Err: "Puma on spock answers with v4.5.15: not within 1m0s (61 probes): / answers 500"})
	add(191*s, pipeline.Event{Kind: pipeline.StopAsked, Text: "taking back is not stopped half way; it goes on to its end"})
	add(191*s, pipeline.Event{Kind: pipeline.StepUndoing, Step: "roll web spock", Host: "spock"})
	add(200*s, pipeline.Event{Kind: pipeline.StepUndone, Step: "roll web spock", Host: "spock", Elapsed: 9 * s})
	add(200*s, pipeline.Event{Kind: pipeline.StepUndoing, Step: "roll web kirk", Host: "kirk"})
	add(212*s, pipeline.Event{Kind: pipeline.UndoFailed, Step: "roll web kirk", Host: "kirk", Elapsed: 12 * s, Err: "kirk does not answer"})
	add(212*s, pipeline.Event{Kind: pipeline.RunEnded, Text: "person", Err: "/ answers 500"})
	return list
}

func TestEachEventIsOneTimestampedLineThatNamesItsHost(t *testing.T) {
	var b bytes.Buffer
	l := NewLines(&b, LinesOptions{})
	for _, e := range night() {
		l.Observe(e)
	}
	golden(t, "lines.txt", b.String())
	if l.Err() != nil {
		t.Error(l.Err())
	}
}

func TestEachEventIsOneLineOfJSONWithItsSchema(t *testing.T) {
	var b bytes.Buffer
	j := NewJSONEvents(&b)
	for _, e := range night() {
		j.Observe(e)
	}
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["schema"] != EventSchema {
			t.Errorf("%v: %s", err, line)
		}
	}
	golden(t, "events.jsonl", b.String())
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAWriterThatFailsIsRememberedAndHarmsNothing(t *testing.T) {
	l, j := NewLines(full{}, LinesOptions{}), NewJSONEvents(full{})
	for _, e := range night() {
		l.Observe(e)
		j.Observe(e)
	}
	if l.Err() == nil || j.Err() == nil {
		t.Error("the error is lost")
	}
}

func TestWhatAHostSaysCannotSteerTheReadersTerminal(t *testing.T) {
	var b bytes.Buffer
	NewLines(&b, LinesOptions{}).Observe(pipeline.Event{Kind: pipeline.StepSaid, Text: "\x1b]0;pwned\a\x1b[2J\u009b31m", Time: start})
	if strings.ContainsAny(b.String(), "\x1b\a\u009b") {
		t.Errorf("%q", b.String())
	}
	r := Report{Proof: []pipeline.Proof{{From: "x", Lines: []string{"\x1b[2J"}}}, Cause: "\x1b[2J", Hosts: []HostRow{{State: "\x1b[2J"}}}
	b.Reset()
	if err := r.Text(&b); err != nil || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%v %q", err, b.String())
	}
}

func plain(width, height int) view {
	r := lipgloss.NewRenderer(&bytes.Buffer{})
	r.SetColorProfile(termenv.Ascii)
	v := newView(r, TerminalOptions{
		Title: "lab: upgrade v4.5.14 → v4.5.15",
		Hosts: []HostRow{
			{Name: "kirk", Roles: "web", Release: "v4.5.14", State: "running"},
			{Name: "spock", Roles: "web", Release: "v4.5.14", State: "running"},
		},
		Steps: []string{"build", "place", "roll web kirk", "roll web spock"},
	}, start)
	v.width, v.height = width, height
	return v
}

func TestTheLiveViewShowsFleetStepsAndWhatIsWaitedFor(t *testing.T) {
	var b strings.Builder
	v := plain(100, 40)
	b.WriteString("before the first event\n\n" + v.View())
	for _, e := range night() {
		v = v.observe(e)
		switch e.Kind {
		case pipeline.StepWaiting, pipeline.LockLate, pipeline.StepUndoing, pipeline.RunEnded:
			b.WriteString("\n-- " + string(e.Kind) + "\n\n" + v.View())
		}
	}
	golden(t, "view.txt", b.String())
}

func TestTheLiveViewFitsTheTerminalAndKeepsTheStepAtWorkInSight(t *testing.T) {
	for _, height := range []int{14, 16, 24} {
		v := plain(40, height)
		v.steps = nil
		for range 30 {
			v.steps = append(v.steps, shown{name: "one of many"})
		}
		e := pipeline.Event{Kind: pipeline.StepStarted, Step: "the one at work", Index: 20, Time: start}
		v = v.observe(e)
		picture := v.View()
		if n := strings.Count(picture, "\n"); n > height {
			t.Errorf("%d lines on a terminal of %d", n, height)
		}
		if !strings.Contains(picture, "▸ the one at work") {
			t.Errorf("the step at work is out of sight:\n%s", picture)
		}
		for line := range strings.Lines(picture) {
			if n := lipgloss.Width(strings.TrimSuffix(line, "\n")); n > 40 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// shared is a buffer that two goroutines may use.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func TestTheTerminalKeepsWhatMattersInOrderAndEndsWhenClosed(t *testing.T) {
	var out shared
	term, err := NewTerminal(&out, TerminalOptions{Title: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range night() {
		term.Observe(e)
	}
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	got := out.b.String()
	term.Observe(night()[0])
	if out.b.String() != got {
		t.Error("the picture changes after the end")
	}
	if strings.Contains(got, "\x1b]") || strings.Contains(got, "\x1b[6n") || strings.Contains(got, "\x1b[c") {
		t.Error("the terminal is asked something that nobody reads the answer to")
	}
	if err := term.Close(); err != nil {
		t.Errorf("closing it twice: %v", err)
	}
	last := -1
	for _, want := range []string{"bundle install", "done in 1:20 min", "FAILED after 1:00 min", "taken back in 9.0 s", "COULD NOT BE TAKEN BACK"} {
		want = strings.Replace(want, "done in 1:20 min", "done in 1:20 min", 1)
		at := strings.Index(got, want)
		if at < last || at < 0 {
			t.Errorf("%q is missing or out of order", want)
		}
		last = at
	}
}

// screen plays what was written on a terminal of endless height.
func screen(t *testing.T, written string) string {
	t.Helper()
	lines, at := []string{""}, 0
	for written != "" {
		var up int
		switch {
		case strings.HasPrefix(written, "\x1b[J"):
			lines, written = lines[:at+1], written[3:]
			lines[at] = ""
		case strings.HasPrefix(written, "\x1b["):
			if n, err := fmt.Sscanf(written, "\x1b[%dA", &up); n != 1 || err != nil {
				t.Fatalf("not understood: %q", written[:10])
			}
			at -= up
			written = written[strings.IndexByte(written, 'A')+1:]
		case written[0] == '\r':
			written = written[1:]
		case written[0] == '\n':
			at++
			if at == len(lines) {
				lines = append(lines, "")
			}
			written = written[1:]
		default:
			end := strings.IndexAny(written, "\r\n\x1b")
			if end < 0 {
				end = len(written)
			}
			lines[at] += written[:end]
			written = written[end:]
		}
	}
	return strings.Join(lines, "\n")
}

func TestTheTerminalShowsOnePictureBelowTheLinesToKeep(t *testing.T) {
	var out shared
	term, err := NewTerminal(&out, TerminalOptions{Title: "lab", Steps: []string{"build", "place", "roll web kirk", "roll web spock"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range night() {
		term.Observe(e)
	}
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	got := screen(t, out.b.String())
	if n := strings.Count(got, "✗ roll web kirk"); n != 1 {
		t.Errorf("%d pictures:\n%s", n, got)
	}
	if strings.Index(got, "FAILED after") > strings.Index(got, "✓ build") || !strings.HasPrefix(got, "03:00:03 [1/4] build on uhura: bundle install\n") {
		t.Errorf("the lines to keep are not above the picture:\n%s", got)
	}
}

func TestATerminalThatIsGoneHarmsNothing(t *testing.T) {
	term, err := NewTerminal(full{}, TerminalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range night() {
		term.Observe(e)
	}
	if err := term.Close(); err == nil {
		t.Error("the error is lost")
	}
}

func TestAReportTellsAnAdminAtThreeInTheMorningWhatToDo(t *testing.T) {
	p := pipeline.Plan{ID: "r7", Kind: "upgrade", From: "v4.5.14", To: "v4.6.0"}
	cause := errors.New("Puma on spock answers with v4.6.0: not within 1m0s (61 probes): / answers 500")
	steps := []pipeline.StepResult{
		{Name: "build", Host: "uhura", State: pipeline.Back, Seconds: 80.2},
		{Name: "roll web kirk", Host: "kirk", State: pipeline.Back, Seconds: 46, UndoSeconds: 12.5, Switches: true},
		{Name: "roll web spock", Host: "spock", State: pipeline.Back, Seconds: 60, UndoSeconds: 9, Switches: true},
		{Name: "soak", State: pipeline.Pending},
	}
	hosts := []HostRow{
		{Name: "kirk", Roles: "web", Release: "v4.5.14", State: "running"},
		{Name: "majel", Roles: "", Release: "", State: "unreachable"},
	}
	failed := pipeline.Result{
		Status: pipeline.Undone, Step: "roll web spock", Host: "spock", Err: cause, Touched: true, Steps: steps, Seconds: 212.4,
		Proof: []pipeline.Proof{{From: "mastodon-web.service on spock", Lines: []string{"03:02:01 puma: NameError: uninitialized constant Foo", "03:02:02 puma: exit 1"}}},
	}
	stuck := failed
	stuck.Status, stuck.UndoStep, stuck.UndoHost, stuck.UndoErr = pipeline.Person, "roll web kirk", "kirk", errors.New("kirk does not answer")
	stuck.State = "kirk is drained and stopped; spock serves v4.5.14"
	stuck.Next = "mend kirk, then: refit resume"
	stopped := pipeline.Result{Status: pipeline.Stopped, Step: "soak", Err: pipeline.ErrStopped, State: "stopped on request; what is done stays", Steps: steps, Touched: true}
	oneWay := pipeline.Result{Status: pipeline.Person, Step: "search", Err: cause, OneWay: "post-migrate", State: "the point of no return has been passed: post-migrate has begun, so it and what came before it is not taken back"}
	for name, c := range map[string]struct {
		res   pipeline.Result
		extra Extra
	}{
		"done":      {pipeline.Result{Status: pipeline.Done, Steps: steps[3:], Seconds: 9}, Extra{Notes: []string{"search: refit search deploy"}, Hosts: hosts[:1]}},
		"undone":    {failed, Extra{Exit: 6, Hosts: hosts, Remains: []string{"migration 20260101000000 AddColumn"}}},
		"untouched": {pipeline.Result{Status: pipeline.Undone, Step: "place", Err: errors.New("no space left on kirk")}, Extra{Exit: 1}},
		"refused":   {pipeline.Result{Status: pipeline.Refused, Step: "preflight", Err: pipeline.Refuse("two things:\nkirk has 1 GiB free, needs 3\nqueue fasp is served by nobody")}, Extra{Exit: 3}},
		"stuck":     {stuck, Extra{Exit: 7, Hosts: hosts}},
		"stopped":   {stopped, Extra{Exit: 130}},
		"one-way":   {oneWay, Extra{Exit: 7}},
		"lock":      {pipeline.Result{Status: pipeline.LostLock, Step: "soak", Err: pipeline.ErrLockLost, State: "the lease was lost; nothing was done or undone after that"}, Extra{Exit: 7}},
		"journal":   {pipeline.Result{Status: pipeline.LostJournal, Step: "soak", Err: cause, JournalErr: cause}, Extra{Exit: 7}},
		"asked":     {pipeline.Result{Status: pipeline.Undone, Asked: true, Touched: true, Steps: steps}, Extra{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := Summarise(p, c.res, c.extra)
			var text, doc bytes.Buffer
			if err := errors.Join(r.Text(&text), r.JSON(&doc)); err != nil {
				t.Fatal(err)
			}
			golden(t, "report-"+name+".txt", text.String())
			golden(t, "report-"+name+".json", doc.String())
			if err := errors.Join(r.Text(full{}), r.JSON(full{})); err == nil {
				t.Error("a report that could not be written is no error")
			}
		})
	}
}
