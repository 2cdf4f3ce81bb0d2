package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// The phases of a roll. What is before the first one is the tool's own start.
const (
	phasePrepare = "prepare"
	phasePlace   = "place"
	phaseBridge  = "bridge"
	phaseMigrate = "pre-migrate"
	phaseRoll    = "roll"
	phaseFinish  = "finish"
)

var phaseLine = regexp.MustCompile(`== bench: ([a-z-]+)`)

// phases notes when a contender's output begins a phase. It passes all on.
type phases struct {
	to  io.Writer
	now func() time.Time

	mu    sync.Mutex
	line  []byte
	begun []phaseBegun
}

type phaseBegun struct {
	name string
	at   time.Time
}

func (p *phases) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = append(p.line, b...)
	for {
		end := bytes.IndexByte(p.line, '\n')
		if end < 0 {
			break
		}
		if m := phaseLine.FindSubmatch(p.line[:end]); m != nil {
			p.begun = append(p.begun, phaseBegun{string(m[1]), p.now()})
		}
		p.line = p.line[end+1:]
	}
	return p.to.Write(b)
}

// seconds is how long each phase took in a run of that time. A phase that is begun
// again goes on: Ansible tells each batch of a play.
func (p *phases) seconds(began, ended time.Time) map[string]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]float64{}
	name, since := phasePrepare, began
	for _, b := range append(p.begun, phaseBegun{"", ended}) {
		out[name] += b.at.Sub(since).Seconds()
		name, since = b.name, b.at
	}
	return out
}

// refitPhases reads refit's own report: each of its steps belongs to a phase, and
// what the steps do not take is its start, its survey and its end.
func refitPhases(report []byte, whole float64) (map[string]float64, []Step, error) {
	var r struct{ Steps []Step }
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, nil, fmt.Errorf("cannot read refit's report: %w", err)
	}
	if len(r.Steps) == 0 {
		return nil, nil, fmt.Errorf("refit's report names no step: %.200s", report)
	}
	out := map[string]float64{phasePrepare: whole}
	for _, s := range r.Steps {
		out[phaseOf(s.Name)] += s.Seconds
		out[phasePrepare] -= s.Seconds
	}
	return out, r.Steps, nil
}

// Step is one of refit's, as its report has it.
type Step struct {
	Name    string  `json:"name"`
	Host    string  `json:"host,omitempty"`
	Seconds float64 `json:"seconds"`
}

func phaseOf(step string) string {
	switch {
	case strings.HasPrefix(step, "roll "):
		return phaseRoll
	case step == "preflight":
		return phasePrepare
	case step == "build", step == "place":
		return phasePlace
	case step == "bridge assets":
		return phaseBridge
	case step == "pre-migrate":
		return phaseMigrate
	}
	return phaseFinish
}
