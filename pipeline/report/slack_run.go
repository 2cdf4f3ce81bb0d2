package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/pipeline"
)

// slackRun is what is known of the run at work.
type slackRun struct {
	run Run
	// started: its RunStarted was seen; before that nothing is sent.
	started bool
	// attempt tells this process's part of the run from those of others.
	attempt string
	status  string
	icon    string
	step    string
	index   int
	awaited string
	failed  string // step and host that failed
	cause   string
	ended   time.Time
	// changed: something is not in the run's message yet; drawn is when that was made.
	changed bool
	drawn   time.Time
	// recalled: the end was told by an earlier process.
	recalled bool
}

func newSlackRun(r Run) *slackRun {
	return &slackRun{run: r, status: "running", icon: "🔵"}
}

// key is that of the run's own message, or of another one of it.
func (r *slackRun) key(what string) string {
	if what == "" {
		return "run/" + r.run.ID
	}
	return "run/" + r.run.ID + "/" + what
}

// title names the run in one line.
func (r *slackRun) title() string {
	t := fmt.Sprintf("%s %s → %s", r.run.Kind, r.run.From, r.run.To)
	if r.run.From == "" {
		t = r.run.Kind + " " + r.run.To
	}
	if r.run.Fleet != "" {
		t = r.run.Fleet + ": " + t
	}
	return t
}

// observe takes in an event of the run.
func (w *slackWork) observe(e pipeline.Event, now time.Time) {
	r := w.run
	if e.Kind == pipeline.HostSeen {
		r.seen(e)
	}
	if e.Kind == pipeline.RunStarted {
		w.begin(e, now)
	}
	if !r.started {
		return
	}
	if e.Step != "" && e.Index > 0 {
		if e.Index != r.index {
			r.awaited = ""
		}
		r.step, r.index = at(e.Step, e.Host), e.Index
	}
	switch e.Kind {
	case pipeline.StepUndoing:
		r.status, r.icon = "going back", "↩️"
	case pipeline.StepWaiting:
		r.awaited = with(strings.TrimSuffix(e.Text, " (holding)"), e.Err)
	case pipeline.StepDone:
		r.awaited = ""
		w.line(e.Time, r.key("done/"+e.Step), place(e)+words(e))
	case pipeline.StepUndone:
		r.awaited = ""
		w.line(e.Time, r.key("undone/"+e.Step), place(e)+words(e))
	case pipeline.StepFailed:
		r.failed, r.cause, r.awaited = at(e.Step, e.Host), e.Err, ""
		w.failure(w.failureKey(e.Step, e.Err)+r.attempt, "failed: "+r.failed, e.Err, now)
	case pipeline.UndoFailed:
		r.failed, r.cause, r.awaited = at(e.Step, e.Host), e.Err, ""
		w.failure(w.failureKey(e.Step, e.Err)+r.attempt, "could not be taken back: "+r.failed, e.Err, now)
	case pipeline.LockLost:
		w.failure(r.key("lease/"+r.attempt), "the lease is lost, the run stops where it stands", e.Err, now)
	case pipeline.StepSaid, pipeline.StopAsked, pipeline.LockLate, pipeline.LockRenewed, pipeline.RequestsFailed:
		w.line(e.Time, "", place(e)+words(e))
	case pipeline.RunEnded:
		w.ended(e, now)
	}
}

func (r *slackRun) seen(e pipeline.Event) {
	i := slices.IndexFunc(r.run.Hosts, func(h HostRow) bool { return h.Name == e.Host })
	if i < 0 {
		i = len(r.run.Hosts)
		r.run.Hosts = append(r.run.Hosts, HostRow{Name: e.Host})
	}
	h := &r.run.Hosts[i]
	h.State = e.State
	if e.Release != "" {
		h.Release = e.Release
	}
}

// begin makes the run's own message, or finds it: of an earlier process in the state,
// of another machine's in Slack.
func (w *slackWork) begin(e pipeline.Event, now time.Time) {
	r := w.run
	r.started, r.attempt = true, strconv.FormatInt(e.Time.UnixNano(), 36)
	if r.run.Began.IsZero() {
		r.run.Began = e.Time
	}
	known := w.state.Told[r.key("")]
	w.showRun(now)
	root := w.get(r.key(""))
	if root != nil && !known && r.run.Resumed && w.door.edits() {
		root.Tried, root.Foreign = r.run.Began, true
	}
	if root != nil && !w.door.edits() && !known {
		root.Until = now.Add(w.o.Deadline)
	}
	if !r.run.Over {
		w.line(e.Time, "", words(e))
	}
	if !w.door.edits() && known && !r.run.Over {
		b := body{Text: w.say("🔵 "+r.title()+": "+e.Text, mostText)}
		w.put(post{Key: r.key("again/" + r.attempt), Few: true, Until: now.Add(w.o.Deadline), Body: b}, now)
	}
	if root == nil || !root.Foreign {
		w.tellPast(now)
	}
}

// tellPast tells what the journal knows of earlier processes' work and nobody was
// told: they may have been killed before they could.
func (w *slackWork) tellPast(now time.Time) {
	r := w.run
	for i, s := range r.run.Steps {
		where := fmt.Sprintf("[%*d/%d] %s: ", len(fmt.Sprint(len(r.run.Steps))), i+1, len(r.run.Steps), at(s.Name, s.Host))
		if s.State == pipeline.Finish || s.State == pipeline.Back {
			w.line(now, r.key("done/"+s.Name), where+"done before")
		}
		if s.State == pipeline.Back {
			w.line(now, r.key("undone/"+s.Name), where+"taken back before")
		}
		if s.Error == "" {
			continue
		}
		if r.failed == "" {
			r.failed, r.cause = at(s.Name, s.Host), s.Error
		}
		if key := w.failureKey(s.Name, s.Error); !w.toldBelow(key) {
			w.failure(key+"before", "failed before: "+at(s.Name, s.Host), s.Error, now)
		}
	}
}

// failureKey is how the key of a step's failure begins. What follows tells the
// processes apart: a step that fails again in the same way is told again, and one that
// failed before this process began is not.
func (w *slackWork) failureKey(step, why string) string {
	return w.run.key("failed/" + step + "/" + body{Text: w.o.Redact(why)}.digest(false) + "/")
}

func (w *slackWork) toldBelow(prefix string) bool {
	for key := range w.state.Told {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// say redacts, escapes and cuts a text.
func (w *slackWork) say(text string, most int) string { return escape(w.o.Redact(text), most) }

// raw redacts a text that is shown in a block of code.
func (w *slackWork) raw(text string, most int) string { return code(w.o.Redact(text), most) }

// failure is a loud message.
func (w *slackWork) failure(key, what, why string, now time.Time) {
	r := w.run
	b := body{Text: w.say("❌ "+r.title()+": "+what, 600)}
	b.Parts = []string{"*" + w.say("❌ "+what, 600) + "*"}
	if why != "" {
		b.Parts = append(b.Parts, w.raw(why, mostSection))
		b.Text += "\n" + w.say(why, 2000)
	}
	w.put(post{Key: key, Thread: r.key(""), Loud: true, Few: true, Until: now.Add(w.o.Deadline), Body: b}, now)
}

// showRun keeps the run's own message up to date.
func (w *slackWork) showRun(now time.Time) {
	r := w.run
	status := r.status
	if r.index > 0 && r.ended.IsZero() {
		status = fmt.Sprintf("%s, step %d of %d: %s", r.status, r.index, len(r.run.Steps), r.step)
	}
	b := body{
		Text: w.say(r.icon+" "+r.title()+": "+status, 600),
		Head: printable(w.o.Redact(r.icon + " " + r.title())),
	}
	field := func(name, value string) {
		if value != "" {
			b.Fields = append(b.Fields, "*"+name+"*\n"+w.say(value, mostField))
		}
	}
	field("Status", status)
	field("Waits for", r.awaited)
	field("Why", r.run.Why)
	field("Who", r.run.Who)
	if len(r.run.Hosts) > 0 {
		b.Parts = append(b.Parts, w.raw(grid(r.run.Hosts), mostSection))
	}
	if r.cause != "" {
		b.Parts = append(b.Parts, "*"+w.say("Failed: "+r.failed, 300)+"*\n"+w.raw(r.cause, 1500))
	}
	until := now
	if !r.ended.IsZero() {
		until = r.ended
	}
	b.Foot = fmt.Sprintf("run %s · begun %s · %s", w.say(r.run.ID, 100), slackTime(r.run.Began), minutes(until.Sub(r.run.Began)))
	w.put(post{Key: r.key(""), Few: true, Body: b}, now)
}

// gridMost is how many hosts the table shows.
const gridMost = 50

// grid is the table of hosts.
func grid(hosts []HostRow) string {
	more := ""
	if n := len(hosts) - gridMost; n > 0 {
		hosts, more = hosts[:gridMost], fmt.Sprintf("\n… and %d more", n)
	}
	var name, roles, release int
	for _, h := range hosts {
		name, roles, release = max(name, len(h.Name)), max(roles, len(h.Roles)), max(release, len(dash(h.Release)))
	}
	var lines []string
	for _, h := range hosts {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %-*s  %s", name, h.Name, roles, h.Roles, release, dash(h.Release), printable(h.State)), " "))
	}
	return strings.Join(lines, "\n") + more
}

// slackTime is a time that each reader sees in his own zone.
func slackTime(t time.Time) string {
	return fmt.Sprintf("<!date^%d^{date_short_pretty} {time}|%s>", t.Unix(), t.UTC().Format("2006-01-02 15:04 UTC"))
}

// minutes is a duration for people who look now and then.
func minutes(d time.Duration) string {
	m := int(max(d, 0).Minutes())
	if m < 60 {
		return fmt.Sprintf("%d min", m)
	}
	return fmt.Sprintf("%d h %02d min", m/60, m%60)
}
