package report

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// slackPace is the pause between calls: Slack takes one message a second for a
	// channel (docs.slack.dev, rate limits).
	slackPace = 1200 * time.Millisecond
	// slackEdit is the least time between edits of a message, of which Slack takes 50
	// a minute; what happens in between is never shown.
	slackEdit = 3 * time.Second
	// slackPulse is how often the small print of a run that goes on is renewed.
	slackPulse = time.Minute
	// slackBatch is how long lines of detail wait for others.
	slackBatch = 5 * time.Second
	// slackSettle is how long a message whose answer was lost is given to appear
	// before it is looked for.
	slackSettle = 5 * time.Second
	// slackSkew is how far this machine's clock may be ahead of Slack's.
	slackSkew = 10 * time.Minute
	// slackBarred is the pause after a refusal that a person can mend in Slack, slackVoid
	// that after one of the token or of what it may do.
	slackBarred = time.Minute
	slackVoid   = time.Hour
	// slackHopeless is how many calls in a row may fail before a run that has ended
	// waits no longer.
	slackHopeless = 3
	// slackLines is how many lines of detail wait at most.
	slackLines = 2000
)

// slackWork belongs to one goroutine.
type slackWork struct {
	o     SlackOptions
	door  slackDoor
	disk  slackDisk
	state slackState
	run   *slackRun

	dirty   bool
	unread  error // why what an earlier process sent is not known
	unkept  error // why what was sent is not remembered
	ready   time.Time
	fails   int
	trouble *slackFault // the newest error
	unseen  *slackFault // why Slack cannot be asked for what was posted

	draining bool
	cutoff   time.Time
	// says is Slack's trouble in words, loses the disk's, for who asks from beside.
	says, loses atomic.Pointer[string]
}

func newSlackWork(o SlackOptions, door slackDoor, disk slackDisk) *slackWork {
	w := &slackWork{o: o, door: door, disk: disk, state: slackState{Format: slackFormat, Channel: o.Channel, Told: map[string]bool{}}}
	if disk == nil {
		return w
	}
	w.state, w.unread = readState(disk, o.Channel)
	w.dirty = w.state.forget(time.Now())
	for _, p := range w.state.Posts {
		// An earlier process may have called Slack just now.
		w.ready = latest(w.ready, p.Edited.Add(slackPace), p.Tried.Add(slackPace))
	}
	return w
}

func (w *slackWork) diskName() string {
	if w.o.State != "" {
		return w.o.State
	}
	return "the disk"
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// loop takes in what is to be told and makes one call to Slack after another.
func (w *slackWork) loop(ctx context.Context, in <-chan slackInput, closing <-chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-closing:
			w.draining, closing = true, nil
		default:
		}
		w.drain(in)
		now := time.Now()
		w.tidy(now)
		at, call := w.next(now)
		w.keep()
		if call != nil && !at.After(now) {
			call(ctx)
			continue
		}
		if w.draining && (call == nil || at.After(w.cutoff) || w.fails >= slackHopeless) {
			break
		}
		if call == nil {
			at = now.Add(time.Hour)
		}
		t := time.NewTimer(at.Sub(now))
		select {
		case one := <-in:
			w.take(one)
		case <-t.C:
		case <-closing:
			w.draining, closing = true, nil
		case <-ctx.Done():
		}
		t.Stop()
	}
	w.keep()
}

// drain takes in all that waits.
func (w *slackWork) drain(in <-chan slackInput) {
	for {
		select {
		case one := <-in:
			w.take(one)
		default:
			return
		}
	}
}

func (w *slackWork) take(in slackInput) {
	now := time.Now()
	if w.run != nil {
		w.run.changed = true
	}
	switch {
	case in.run != nil:
		w.gather(now) // what is left of a run before belongs to its own thread
		w.run = newSlackRun(*in.run)
	case in.event != nil && w.run != nil:
		w.observe(*in.event, now)
	case in.report != nil && w.run != nil:
		w.finish(*in.report, now)
	case in.release != nil:
		w.release(*in.release, now)
	case in.notice != nil:
		w.notice(*in.notice, now)
	}
}

// get is the message of that key, nil if there is none.
func (w *slackWork) get(key string) *post {
	for _, p := range w.state.Posts {
		if p.Key == key {
			return p
		}
	}
	return nil
}

// put queues a message, or changes what the message of that key says.
func (w *slackWork) put(p post, now time.Time) *post {
	if old := w.get(p.Key); old != nil {
		p.Body.Plain = old.Body.Plain
		if old.Body.digest(false) != p.Body.digest(false) || old.NotBefore != p.NotBefore {
			w.dirty = true
		}
		old.Body, old.NotBefore = p.Body, p.NotBefore
		if now.Sub(old.Queued) > slackKeep/2 {
			old.Queued, w.dirty = now, true // it is still told, so it is not forgotten
		}
		return old
	}
	if w.state.Told[p.Key] || !w.door.edits() && !p.Few {
		return nil
	}
	p.Queued = now
	w.state.Told[p.Key] = true
	w.state.Posts = append(w.state.Posts, &p)
	w.dirty = true
	return &p
}

// withdraw drops the messages whose keys begin so, but for one, that wait and are not true
// any more: after an outage nobody is told that a day is left when an hour is.
func (w *slackWork) withdraw(prefix, but string) {
	w.state.Posts = slices.DeleteFunc(w.state.Posts, func(p *post) bool {
		old := p.open() && p.Tried.IsZero() && p.Key != but && strings.HasPrefix(p.Key, prefix)
		if old {
			delete(w.state.Told, p.Key)
			w.dirty = true
		}
		return old
	})
}

// line queues a line for the run's thread. A line with a key is queued once.
func (w *slackWork) line(at time.Time, key, text string) {
	if !w.door.edits() || key != "" && w.state.Told[key] {
		return
	}
	if key != "" {
		w.state.Told[key] = true
	}
	w.state.Lines = append(w.state.Lines, detail{At: at, Text: w.o.Redact(text)})
	if over := len(w.state.Lines) - slackLines; over > 0 {
		w.state.Lines = slices.Delete(w.state.Lines, 0, over)
		w.state.Dropped += over
	}
	w.dirty = true
}

// tidy forgets what is old, gives up what has waited too long, renews the run's message
// and puts lines together.
func (w *slackWork) tidy(now time.Time) {
	w.dirty = w.state.forget(now) || w.dirty
	for _, p := range w.state.Posts {
		if p.open() && !p.Until.IsZero() && now.After(p.Until) {
			p.Given, w.dirty = "it waited too long", true
		}
	}
	fresh := slices.IndexFunc(w.state.Lines, func(d detail) bool { return now.Sub(d.At) <= w.o.Deadline })
	if fresh < 0 {
		fresh = len(w.state.Lines)
	}
	if fresh > 0 {
		w.state.Lines = slices.Delete(w.state.Lines, 0, fresh)
		w.state.Dropped += fresh
		w.dirty = true
	}
	if r := w.run; r != nil && r.started && (r.changed || now.Sub(r.drawn) >= slackPulse/2) {
		w.showRun(now)
		r.changed, r.drawn = false, now
	}
	w.compose(now)
}

// compose makes a message of the lines that wait, once the one before has been sent:
// the longer Slack is slow, the more lines a message holds.
func (w *slackWork) compose(now time.Time) {
	if len(w.state.Lines) == 0 || now.Before(w.batchDue()) {
		return
	}
	thread := w.run.key("")
	waiting := func(p *post) bool { return p.open() && p.Thread == thread && !p.Few }
	if root := w.get(thread); root == nil || root.TS == "" || slices.ContainsFunc(w.state.Posts, waiting) {
		return
	}
	w.gather(now)
}

// gather queues a message of the lines that wait, as many as it holds.
func (w *slackWork) gather(now time.Time) {
	if len(w.state.Lines) == 0 || w.run == nil || !w.run.started {
		return
	}
	thread := w.run.key("")
	var texts []string
	for _, d := range w.state.Lines {
		for i, l := range strings.Split(d.Text, "\n") {
			if i == 0 {
				l = d.At.UTC().Format(time.TimeOnly) + " " + l
			}
			texts = append(texts, l)
		}
	}
	blocks, rest := pages(texts, 2)
	w.state.Seq++
	w.put(post{
		Key: w.run.key(fmt.Sprintf("detail/%s/%d", w.run.attempt, w.state.Seq)), Thread: thread, Until: now.Add(w.o.Deadline),
		Body: body{Text: escape(texts[0], 300), Parts: blocks},
	}, now)
	at := w.state.Lines[len(w.state.Lines)-1].At
	w.state.Lines = nil
	for _, l := range rest {
		w.state.Lines = append(w.state.Lines, detail{At: at, Text: strings.TrimPrefix(l, at.UTC().Format(time.TimeOnly)+" ")})
	}
}

// batchDue is when the lines that wait are put together.
func (w *slackWork) batchDue() time.Time {
	if len(w.state.Lines) == 0 || w.run == nil || !w.run.started {
		return time.Now().Add(time.Hour)
	}
	if w.draining || len(w.state.Lines) > 30 {
		return time.Time{}
	}
	return w.state.Lines[0].At.Add(slackBatch)
}

// keep writes the state down if it changed. That it cannot is said at the end; the
// telling goes on.
func (w *slackWork) keep() {
	if !w.dirty || w.disk == nil {
		return
	}
	w.dirty = false
	b, err := json.Marshal(w.state)
	if err == nil {
		err = w.disk.save(b)
	}
	w.loses.Store(nil)
	if err != nil {
		w.unkept = fmt.Errorf("cannot remember what was told to Slack: %w", err)
		words := w.unkept.Error()
		w.loses.Store(&words)
	}
}
