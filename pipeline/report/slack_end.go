package report

import (
	"fmt"
	"strings"
	"time"

	"vmst.io/refit/pipeline"
)

// slackHold is how long a run's last message waits for the report that follows the
// last event.
const slackHold = 30 * time.Second

// endings are the words and signs of the ways for a run to end. Those that are loud
// ask somebody to look.
var endings = map[pipeline.Status]struct {
	icon, words string
	loud        bool
}{
	pipeline.Done:        {"✅", "done", false},
	pipeline.Undone:      {"↩️", "failed and taken back", true},
	pipeline.Refused:     {"⛔", "refused, nothing was touched", true},
	pipeline.Stopped:     {"⏸️", "stopped as asked, at a safe point", true},
	pipeline.Interrupted: {"⚠️", "broken off", true},
	pipeline.Person:      {"🙋", "a person is needed", true},
	pipeline.LostLock:    {"⚠️", "the lease is lost", true},
	pipeline.LostJournal: {"⚠️", "the journal is lost", true},
}

// ended queues the run's last message with what the event tells; finish adds to it.
func (w *slackWork) ended(e pipeline.Event, now time.Time) {
	r := w.run
	r.ended, r.awaited = e.Time, ""
	how, known := endings[pipeline.Status(e.Text)]
	if !known {
		how.icon, how.words, how.loud = "⚠️", e.Text, true
	}
	r.status, r.icon = how.words, how.icon
	b := body{Text: w.say(how.icon+" "+r.title()+": "+how.words, 600)}
	b.Parts = []string{"*" + w.say(how.icon+" "+how.words, 600) + "*"}
	if e.Err != "" {
		b.Parts = append(b.Parts, w.raw(e.Err, mostSection))
	}
	if r.run.Over && w.toldBelow(r.key("end/")) {
		r.recalled = true
		return
	}
	w.put(post{
		Key: r.key("end/" + r.attempt), Thread: r.key(""), Loud: how.loud, Few: true,
		NotBefore: now.Add(slackHold), Until: now.Add(w.o.Deadline + slackHold), Body: b,
	}, now)
}

// finish tells all that is known after the end: the report's words, in short; the
// lines that show the cause go to the thread.
func (w *slackWork) finish(rep Report, now time.Time) {
	r := w.run
	if !r.started {
		return
	}
	if len(rep.Hosts) > 0 {
		r.run.Hosts = rep.Hosts
	}
	if r.ended.IsZero() {
		w.ended(pipeline.Event{Kind: pipeline.RunEnded, Time: now, Text: string(rep.Status), Err: rep.Cause}, now)
	}
	if rep.Status == pipeline.Undone && rep.Asked {
		r.status = "taken back, as asked"
	}
	if r.recalled {
		return
	}
	how := endings[rep.Status]
	b := body{
		Text: w.say(how.icon+" "+rep.headline(), 1500),
		Head: printable(w.o.Redact(how.icon + " " + r.title())),
	}
	b.Parts = []string{"*" + w.say(rep.headline(), 1500) + "*"}
	part := func(title, text string) {
		if text != "" {
			b.Parts = append(b.Parts, "*"+title+"*\n"+w.raw(text, 1500))
		}
	}
	part("What failed", with(at(rep.Step, rep.Host), rep.Cause))
	part("What could not be taken back", with(at(rep.UndoStep, rep.UndoHost), rep.UndoCause))
	part("How it stands", rep.State)
	part("What remains", strings.Join(rep.Remains, "\n"))
	part("To know", strings.Join(rep.Notes, "\n"))
	part("Next", rep.Next)
	if rep.Next != "" {
		b.Text += "\n" + w.say("Next: "+rep.Next, 1000)
	}
	w.put(post{
		Key: r.key("end/" + r.attempt), Thread: r.key(""), Loud: how.loud && !rep.Asked, Few: true,
		Until: now.Add(w.o.Deadline), Body: b,
	}, now)
	for i, p := range rep.Proof {
		w.proof(i, p, now)
	}
}

// proof puts lines of a log into the thread.
func (w *slackWork) proof(i int, p pipeline.Proof, now time.Time) {
	lines := make([]string, len(p.Lines))
	for i, l := range p.Lines {
		lines[i] = w.o.Redact(l)
	}
	rest := lines
	for n := 1; len(rest) > 0 && n <= 6; n++ {
		var blocks []string
		blocks, rest = pages(rest, 2)
		title := w.say("the lines that matter, of "+p.From, 300)
		w.put(post{
			Key: w.run.key(fmt.Sprintf("proof/%s/%d/%d", w.run.attempt, i+1, n)), Thread: w.run.key(""), Until: now.Add(w.o.Deadline),
			Body: body{Text: title, Parts: append([]string{"*" + title + "*"}, blocks...)},
		}, now)
	}
}
