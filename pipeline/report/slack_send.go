package report

import (
	"context"
	"time"

	"vmst.io/refit/pipeline"
)

// next is the next call to Slack and when it is due; nil if there is none. Of what
// is due, what was lost comes first, then messages of the channel, then those that
// are loud, then the run's own message, then the rest.
func (w *slackWork) next(now time.Time) (time.Time, func(context.Context)) {
	var at time.Time
	var call func(context.Context)
	offer := func(when time.Time, do func(context.Context)) {
		when = latest(when, w.ready)
		if call == nil || when.Before(at) && at.After(now) {
			at, call = when, do
		}
	}
	for _, pick := range []func(*post, func(time.Time, func(context.Context))){w.lookUp, w.channelPost, w.loudPost, w.edit, w.quietPost} {
		for _, p := range w.state.Posts {
			pick(p, offer)
		}
	}
	if due := w.batchDue(); len(w.state.Lines) > 0 && due.After(now) {
		offer(due, func(context.Context) {}) // to put lines together
	}
	return at, call
}

func (w *slackWork) lookUp(p *post, offer func(time.Time, func(context.Context))) {
	if p.Foreign && (w.run == nil || !w.run.started) {
		return // left by a process that ended over it: what is to be told of the run is not known yet
	}
	if _, known := w.thread(p); known && p.open() && !p.Tried.IsZero() {
		offer(p.Tried.Add(slackSettle), func(ctx context.Context) { w.look(ctx, p) })
	}
}

// sendable tells whether the message can be sent at all now.
func (w *slackWork) sendable(p *post) bool {
	_, known := w.thread(p)
	return known && p.open() && p.Tried.IsZero()
}

// thread is the timestamp of the message that this one answers, empty for none; unknown
// while that one is not sent. Where it never will be, what is loud goes to the channel.
func (w *slackWork) thread(p *post) (ts string, known bool) {
	if p.Thread == "" || !w.door.edits() {
		return "", true
	}
	root := w.get(p.Thread)
	if root == nil || root.Given != "" {
		return "", p.Few
	}
	return root.TS, root.TS != ""
}

func (w *slackWork) offerPost(p *post, offer func(time.Time, func(context.Context))) {
	when := p.NotBefore
	if w.draining {
		when = time.Time{}
	}
	offer(when, func(ctx context.Context) { w.send(ctx, p) })
}

func (w *slackWork) channelPost(p *post, offer func(time.Time, func(context.Context))) {
	if w.sendable(p) && p.Thread == "" {
		w.offerPost(p, offer)
	}
}

func (w *slackWork) loudPost(p *post, offer func(time.Time, func(context.Context))) {
	if w.sendable(p) && p.Thread != "" && p.Few {
		w.offerPost(p, offer)
	}
}

func (w *slackWork) quietPost(p *post, offer func(time.Time, func(context.Context))) {
	if w.sendable(p) && p.Thread != "" && !p.Few {
		w.offerPost(p, offer)
	}
}

func (w *slackWork) edit(p *post, offer func(time.Time, func(context.Context))) {
	if !w.door.edits() {
		return
	}
	change := func(ctx context.Context) { w.change(ctx, p) }
	switch {
	case p.stale(false) && w.draining:
		offer(time.Time{}, change)
	case p.stale(false):
		offer(p.Edited.Add(slackEdit), change)
	case p.stale(true) && !w.draining:
		offer(p.Edited.Add(slackPulse), change)
	}
}

// send posts a message. That it is being tried is written down before.
func (w *slackWork) send(ctx context.Context, p *post) {
	if w.o.Pace.take(ctx) != nil {
		return // given up by Close: nothing was tried
	}
	p.Tried, w.dirty = time.Now(), true
	w.keep()
	thread, _ := w.thread(p)
	text := p.Body
	if p.Again {
		const again = "(again: whether this was told before is not known)"
		text.Text = again + " " + text.Text
		if len(text.Parts) > 0 {
			text.Parts = append([]string{again}, text.Parts...) // where there are blocks, nobody sees the text
		}
	}
	call, done := context.WithTimeout(ctx, slackCall)
	ts, err := w.door.post(call, p.Key, text, thread, p.Loud)
	done()
	w.called(err)
	if err == nil {
		w.well()
		p.stands(ts, time.Now())
		if !p.Few {
			p.Body = body{Text: p.Body.Text} // it is never edited
			p.stands(ts, time.Now())
		}
		return
	}
	if ctx.Err() != nil {
		return // given up by Close: nobody knows
	}
	f := w.note(err)
	p.Tried = time.Time{}
	switch f.kind {
	case lost:
		if w.door.edits() {
			p.Tried = time.Now()
		} else {
			p.Again = true
		}
	case orphan:
		// Somebody deleted the message that it answers. What is loud goes to the channel.
		if p.Few && p.Thread != "" {
			p.Thread = ""
		} else {
			p.Given = f.text
		}
	case wrong, frozen:
		if p.Body.Plain {
			p.Given = f.text
		}
		p.Body.Plain = true
	}
}

// called ends a call that began with a turn. When Slack says how long it will take nothing
// more, the other tellers need not ask too.
func (w *slackWork) called(err error) {
	pause := slackPace
	if err != nil {
		pause += faultOf(err).after
	}
	w.o.Pace.give(pause)
	w.ready, w.dirty = time.Now().Add(slackPace), true
}

// change edits a message. To repeat an edit does no harm.
func (w *slackWork) change(ctx context.Context, p *post) {
	if w.o.Pace.take(ctx) != nil {
		return
	}
	call, done := context.WithTimeout(ctx, slackCall)
	err := w.door.edit(call, p.TS, p.Body)
	done()
	w.called(err)
	if err == nil {
		w.well()
		p.stands(p.TS, time.Now())
		return
	}
	if ctx.Err() != nil {
		return
	}
	switch f := w.note(err); f.kind {
	case frozen:
		p.Frozen = f.text
	case wrong:
		if p.Body.Plain {
			p.Frozen = f.text
		}
		p.Body.Plain = true
	}
	p.Edited = time.Now()
}

// look finds a message whose answer was lost, or learns that it was never taken. Of a run
// that another machine told of, what stands in its thread is read before anything is
// noted: half of that would be told again.
func (w *slackWork) look(ctx context.Context, p *post) {
	since := p.Tried.Add(-slackSkew)
	thread, _ := w.thread(p)
	if w.o.Pace.take(ctx) != nil {
		return
	}
	keys, err := w.door.find(ctx, since, thread)
	ts, found := keys[p.Key]
	if err == nil && found && p.Foreign {
		keys, err = w.door.find(ctx, since, ts)
	}
	w.called(err)
	if err != nil {
		if ctx.Err() == nil {
			w.blinded(p, faultOf(err))
		}
		return
	}
	w.well()
	p.Tried = time.Time{}
	if found {
		// What it says is not known: it may have been changed since. An edit mends that.
		p.TS, p.Edited = ts, time.Now()
		if !p.Few {
			p.stands(ts, time.Now())
		}
	}
	if p.Foreign {
		p.Foreign = false
		if found {
			w.adopt(keys)
		}
		w.tellPast(time.Now())
	}
}

// blinded is what follows when Slack could not be asked for a message.
func (w *slackWork) blinded(p *post, f *slackFault) {
	switch f.kind {
	case busy, away, lost, barred, dead:
		w.note(f) // nothing can be posted meanwhile either
	default:
		// It will never say: once too often is better than never.
		w.unseen = f
		p.Tried, p.Again = time.Time{}, !p.Foreign
		if p.Foreign {
			p.Foreign = false
			w.tellPast(time.Now())
		}
	}
}

// adopt takes over a run that another machine told of: what stands in its thread is
// not told again.
func (w *slackWork) adopt(thread map[string]string) {
	for key := range thread {
		w.state.Told[key] = true
	}
	for _, s := range w.run.run.Steps {
		// Lines of detail carry no key of their own: that the other machine told them is
		// taken for granted.
		switch s.State {
		case pipeline.Finish:
			w.state.Told[w.run.key("done/"+s.Name)] = true
		case pipeline.Back:
			w.state.Told[w.run.key("done/"+s.Name)], w.state.Told[w.run.key("undone/"+s.Name)] = true, true
		}
	}
}

// well notes that Slack answered as it should.
func (w *slackWork) well() {
	w.fails = 0
	w.says.Store(nil)
}

// note takes in an error: when Slack is called again.
func (w *slackWork) note(err error) *slackFault {
	f := faultOf(err)
	w.trouble = f
	words := w.o.Redact(f.text)
	w.says.Store(&words)
	now := time.Now()
	switch f.kind {
	case busy:
		w.ready = now.Add(f.after + slackPace)
	case away, lost:
		w.fails++
		w.ready = now.Add(min(time.Second<<min(w.fails, 5), 30*time.Second))
	case barred:
		w.ready = now.Add(slackBarred)
	case dead, blind:
		w.ready = now.Add(slackVoid)
	}
	return f
}
