package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"

	"vmst.io/refit/pipeline"
)

// TerminalOptions are the choices of NewTerminal.
type TerminalOptions struct {
	// Title is the first line: the fleet and what is done to it.
	Title string
	// Hosts as they stand before the run.
	Hosts []HostRow
	// Steps are the names of the plan's steps, in order.
	Steps []string
}

// Terminal is the live view: events worth keeping scroll by above it. It reads
// nothing from the terminal, asks it nothing and does not change its mode, so that
// Ctrl-C stays a signal for the command and a terminal that answers no questions
// costs no time. (Bubble Tea asks for the background's colour when the program
// starts, whatever it is to do, and waits five seconds for an answer.)
type Terminal struct {
	w    io.Writer
	size func() (width, height int)
	now  func() time.Time

	mu    sync.Mutex
	view  view
	drawn int // lines of the picture that stands now
	err   error
	over  bool

	quit  chan struct{}
	ended chan struct{}
}

// NewTerminal shows the view on w, a terminal, at once and until Close, which
// tells whether w took it.
func NewTerminal(w io.Writer, o TerminalOptions) (*Terminal, error) {
	if w == nil {
		return nil, errors.New("cannot show the live view: no terminal")
	}
	t := &Terminal{
		w: w, size: sizeOf(w), now: time.Now, quit: make(chan struct{}), ended: make(chan struct{}),
		view: newView(lipgloss.NewRenderer(w), o, time.Now()),
	}
	t.paint("")
	go t.beat() // paint is guarded by mu from here on
	return t, nil
}

// sizeOf tells a terminal's size each time that it is asked; 100 by 40 for what
// has none.
func sizeOf(w io.Writer) func() (int, int) {
	return func() (int, int) {
		if f, ok := w.(*os.File); ok {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
				return width, height
			}
		}
		return 100, 40
	}
}

// beat moves the clock of the view.
func (t *Terminal) beat() {
	defer close(t.ended)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-t.quit:
			return
		case <-tick.C:
			t.mu.Lock()
			t.view.now = t.now()
			t.paint("")
			t.mu.Unlock()
		}
	}
}

// Observe shows the event.
func (t *Terminal) Observe(e pipeline.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.view = t.view.observe(e)
	t.paint(kept(e))
}

// Close leaves the last picture on the terminal. It returns the first error that
// the terminal gave.
func (t *Terminal) Close() error {
	t.mu.Lock()
	again := t.over
	t.over = true
	t.mu.Unlock()
	if !again {
		close(t.quit)
	}
	<-t.ended
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return fmt.Errorf("cannot show the live view: %w", t.err)
	}
	return nil
}

// paint replaces the picture, in one write, after the lines to keep, if any. The
// caller holds mu.
func (t *Terminal) paint(keep string) {
	t.view.width, t.view.height = t.size()
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", t.drawn) // up to the picture's first line
	}
	b.WriteString("\r\x1b[J") // and clear from there
	if keep != "" {
		b.WriteString(keep + "\n")
	}
	picture := t.view.View()
	b.WriteString(picture)
	t.drawn = strings.Count(picture, "\n")
	if _, err := io.WriteString(t.w, b.String()); err != nil && t.err == nil {
		t.err = err
	}
}

// look is how the parts of the view are drawn.
type look struct{ title, dim, good, bad, work lipgloss.Style }

// view is what the picture is drawn from.
type view struct {
	title  string
	look   look
	hosts  []HostRow
	steps  []shown
	width  int
	height int
	began  time.Time
	now    time.Time
	at     int // index of the step at work, -1 for none
	wait   pipeline.Event
	alarm  string
	hint   string
}

// shown is one step in the view.
type shown struct {
	name   string
	state  string
	took   time.Duration
	began  time.Time
	expect time.Duration
}

const (
	hintFirst  = "Ctrl-C once: stop at the next safe point. Twice: break off at once."
	hintSecond = "Ctrl-C again: break off at once."
)

func newView(r *lipgloss.Renderer, o TerminalOptions, now time.Time) view {
	v := view{
		title: o.Title, hosts: append([]HostRow{}, o.Hosts...), began: now, now: now, at: -1, hint: hintFirst,
		width: 100, height: 40,
		look: look{
			title: r.NewStyle().Bold(true), dim: r.NewStyle().Faint(true),
			good: r.NewStyle().Foreground(lipgloss.Color("2")), bad: r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
			work: r.NewStyle().Foreground(lipgloss.Color("6")),
		},
	}
	for _, s := range o.Steps {
		v.steps = append(v.steps, shown{name: s})
	}
	return v
}

// kept is the line of an event that stays above the view, "" for most.
func kept(e pipeline.Event) string {
	switch e.Kind {
	case pipeline.StepSaid, pipeline.StepDone, pipeline.StepFailed, pipeline.StepUndone, pipeline.UndoFailed,
		pipeline.LockLate, pipeline.LockRenewed, pipeline.LockLost, pipeline.StopAsked:
		return e.Time.Format(time.TimeOnly) + " " + place(e) + printable(words(e))
	}
	return ""
}

func (v view) observe(e pipeline.Event) view {
	v.now = e.Time
	v.steps = append([]shown{}, v.steps...)
	v.hosts = append([]HostRow{}, v.hosts...)
	if e.Step != "" && e.Index > 0 {
		for len(v.steps) < e.Index {
			v.steps = append(v.steps, shown{})
		}
		v.at = e.Index - 1
		s := &v.steps[v.at]
		s.name = e.Step
		if e.Kind != pipeline.StepWaiting && e.Expect > 0 {
			s.expect = e.Expect
		}
	}
	switch e.Kind {
	case pipeline.StepStarted:
		v.set("doing", e)
	case pipeline.StepUndoing:
		v.set("undoing", e)
	case pipeline.StepWaiting:
		v.wait = e
	case pipeline.StepDone:
		v.set("done", e)
	case pipeline.StepFailed:
		v.set("failed", e)
	case pipeline.StepUndone:
		v.set("undone", e)
	case pipeline.UndoFailed:
		v.set("stuck", e)
	case pipeline.HostSeen:
		v.seen(e)
	case pipeline.StopAsked:
		v.hint = printable(e.Text) + ". " + hintSecond
	case pipeline.LockLate, pipeline.LockLost:
		v.alarm = with(e.Text, e.Err)
	case pipeline.LockRenewed:
		v.alarm = ""
	case pipeline.RunEnded:
		v.at, v.wait, v.hint, v.alarm = -1, pipeline.Event{}, "", ""
	}
	return v
}

// set puts the step at work into a state, which ends what it waited for.
func (v *view) set(state string, e pipeline.Event) {
	if v.at < 0 {
		return
	}
	s := &v.steps[v.at]
	s.state, s.took = state, e.Elapsed
	if state == "doing" || state == "undoing" {
		s.began = e.Time
	}
	v.wait = pipeline.Event{}
}

func (v *view) seen(e pipeline.Event) {
	for i := range v.hosts {
		if v.hosts[i].Name != e.Host {
			continue
		}
		v.hosts[i].State = e.State
		if e.Release != "" {
			v.hosts[i].Release = e.Release
		}
		return
	}
	v.hosts = append(v.hosts, HostRow{Name: e.Host, State: e.State, Release: e.Release})
}

// View draws the picture: never more lines than the terminal has, nor wider ones.
func (v view) View() string {
	head := v.look.title.Render(v.title) + v.look.dim.Render("   "+round(v.now.Sub(v.began)))
	lines := []string{head, ""}
	lines = append(lines, v.fleet()...)
	var foot []string
	if v.at >= 0 {
		foot = append(foot, "", v.work())
		if w := v.waiting(); w != "" {
			foot = append(foot, w)
		}
	}
	if v.alarm != "" {
		foot = append(foot, v.look.bad.Render(printable(v.alarm)))
	}
	if v.hint != "" {
		foot = append(foot, v.look.dim.Render(v.hint))
	}
	room := v.height - len(lines) - len(foot) - 2
	lines = append(lines, v.stepLines(room)...)
	lines = append(lines, foot...)
	for i, l := range lines {
		lines[i] = lipgloss.NewStyle().MaxWidth(max(v.width-1, 20)).Render(strings.ReplaceAll(l, "\n", " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (v view) fleet() []string {
	if len(v.hosts) == 0 {
		return nil
	}
	rows := append([]HostRow{{Name: "HOST", Roles: "ROLES", Release: "RELEASE", State: "STATE"}}, v.hosts...)
	var name, roles, release int
	for _, h := range rows {
		name, roles, release = max(name, len(h.Name)), max(roles, len(h.Roles)), max(release, len(h.Release))
	}
	var out []string
	for i, h := range rows {
		line := fmt.Sprintf("%-*s  %-*s  %-*s  %s", name, h.Name, roles, h.Roles, release, h.Release, printable(h.State))
		if i == 0 {
			line = v.look.dim.Render(line)
		}
		out = append(out, line)
	}
	return append(out, "")
}

// stepLines draws as many steps as there is room for, the one at work among them.
func (v view) stepLines(room int) []string {
	room = max(room, 3)
	first := 0
	if len(v.steps) > room {
		first = min(max(v.at-room/2, 0), len(v.steps)-room)
	}
	last := min(first+room, len(v.steps))
	var out []string
	for i := first; i < last; i++ {
		out = append(out, v.step(i))
	}
	return out
}

func (v view) step(i int) string {
	s := v.steps[i]
	took := ""
	if s.took > 0 {
		took = "  " + round(s.took)
	}
	switch s.state {
	case "done":
		return v.look.good.Render("✓") + " " + s.name + v.look.dim.Render(took)
	case "doing":
		return v.look.work.Render("▸ " + s.name)
	case "undoing":
		return v.look.work.Render("◂ " + s.name)
	case "undone":
		return v.look.dim.Render("↶ " + s.name + "  taken back")
	case "failed":
		return v.look.bad.Render("✗ " + s.name + took)
	case "stuck":
		return v.look.bad.Render("✗ " + s.name + "  could not be taken back")
	}
	return v.look.dim.Render("· " + s.name)
}

// work tells what is at work, for how long, and how long it usually takes.
func (v view) work() string {
	s := v.steps[v.at]
	if s.began.IsZero() || s.state != "doing" && s.state != "undoing" {
		return v.look.work.Render(s.name)
	}
	line := fmt.Sprintf("%s: %s", s.name, round(v.now.Sub(s.began)))
	if s.state == "undoing" {
		line = fmt.Sprintf("taking back %s: %s", s.name, round(v.now.Sub(s.began)))
	} else if s.expect > 0 {
		line += ", usually " + round(s.expect)
	}
	return v.look.work.Render(line)
}

func (v view) waiting() string {
	if v.wait.Kind == "" {
		return ""
	}
	w := v.wait
	w.Elapsed += max(v.now.Sub(w.Time), 0)
	return "  " + printable(words(w))
}
