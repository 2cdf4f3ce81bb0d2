// Package report shows runs to people and programs: plain lines, a live view,
// JSON, and the words at the end. Its types observe the engine's events; nothing
// in it can fail or delay a run.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
)

// LinesOptions are the choices of NewLines.
type LinesOptions struct {
	// Zone of the times; nil for UTC.
	Zone *time.Location
}

// Lines writes one plain line for each event, with its time first.
type Lines struct {
	mu  sync.Mutex
	w   io.Writer
	o   LinesOptions
	err error
}

// NewLines makes Lines that write to w, each event at once.
func NewLines(w io.Writer, o LinesOptions) *Lines {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	return &Lines{w: w, o: o}
}

// Observe writes the event's line.
func (l *Lines) Observe(e pipeline.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	stamp := e.Time.In(l.o.Zone).Format(time.RFC3339)
	for i, line := range strings.Split(words(e), "\n") {
		if i > 0 {
			line = "  " + line
		}
		fmt.Fprintf(&b, "%s %s%s\n", stamp, place(e), printable(line))
	}
	if _, err := io.WriteString(l.w, b.String()); err != nil && l.err == nil {
		l.err = err
	}
}

// Err is the first error of the writer. Events after it are still tried.
func (l *Lines) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// place names the step by its number and name, and the host where the step's name
// does not.
func place(e pipeline.Event) string {
	if e.Step == "" {
		return ""
	}
	at := fmt.Sprintf("[%*d/%d] %s", len(fmt.Sprint(e.Total)), e.Index, e.Total, e.Step)
	if e.Host != "" && !strings.Contains(" "+e.Step+" ", " "+e.Host+" ") {
		at += " on " + e.Host
	}
	return at + ": "
}

// words says what happened, in one line or several.
func words(e pipeline.Event) string {
	switch e.Kind {
	case pipeline.StepStarted:
		return with("begun", e.Text) + usually(e)
	case pipeline.StepSaid:
		return e.Text
	case pipeline.StepWaiting:
		s := fmt.Sprintf("waiting for %s, %s of at most %s", e.Text, round(e.Elapsed), round(e.Expect))
		if name, holding := strings.CutSuffix(e.Text, " (holding)"); holding {
			s = fmt.Sprintf("holding to %s, %s of %s", name, round(e.Elapsed), round(e.Expect))
		}
		return with(s, e.Err)
	case pipeline.StepDone:
		return "done in " + round(e.Elapsed)
	case pipeline.StepFailed:
		return with("FAILED after "+round(e.Elapsed), e.Err)
	case pipeline.StepUndoing:
		return "taking it back"
	case pipeline.StepUndone:
		return "taken back in " + round(e.Elapsed)
	case pipeline.UndoFailed:
		return with("COULD NOT BE TAKEN BACK", e.Err)
	case pipeline.HostSeen:
		s := e.Host + " is " + e.State
		if e.Release != "" {
			s += " on " + e.Release
		}
		return s
	case pipeline.RunEnded:
		return with("the run ended: "+e.Text, e.Err)
	}
	return with(e.Text, e.Err)
}

func with(s, more string) string {
	switch {
	case more == "":
		return s
	case s == "":
		return more
	}
	return s + ": " + more
}

func usually(e pipeline.Event) string {
	if e.Expect <= 0 {
		return ""
	}
	return " (usually " + round(e.Expect) + ")"
}

// round writes a duration as people say it: tenths below ten seconds, seconds
// above.
func round(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
}

// EventSchema is the schema of the lines that JSONEvents writes.
const EventSchema = "refit.event/v1"

// JSONEvents writes each event as one line of JSON.
type JSONEvents struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

// NewJSONEvents makes JSONEvents that write to w, each event at once.
func NewJSONEvents(w io.Writer) *JSONEvents {
	return &JSONEvents{enc: json.NewEncoder(w)}
}

// Observe writes the event.
func (j *JSONEvents) Observe(e pipeline.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time = e.Time.UTC()
	err := j.enc.Encode(struct {
		Schema string `json:"schema"`
		pipeline.Event
	}{EventSchema, e})
	if err != nil && j.err == nil {
		j.err = err
	}
}

// Err is the first error of the writer.
func (j *JSONEvents) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}
