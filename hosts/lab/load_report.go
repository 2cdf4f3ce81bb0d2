package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxFailures bounds the failures that a report shows; all are counted.
const maxFailures = 30

// LoadReport is what the users met.
type LoadReport struct {
	Schema   string         `json:"schema"`
	Seconds  float64        `json:"seconds"`
	Requests RequestsReport `json:"requests"`
	Events   EventsReport   `json:"events"`
	Sockets  SocketsReport  `json:"sockets"`
	// Versions counts the releases that pages named, Nodes who answered requests.
	Versions map[string]int `json:"versions"`
	Nodes    map[string]int `json:"nodes"`
	// Failures are the first thirty, with their times.
	Failures []Failure `json:"failures"`
}

// RequestsReport counts HTTP requests.
type RequestsReport struct {
	Sent      int                   `json:"sent"`
	Failed    int                   `json:"failed"`
	PerSecond float64               `json:"per_second"`
	Kinds     map[string]KindReport `json:"kinds"`
}

// KindReport counts one kind of request; times are of answered ones, in milliseconds.
type KindReport struct {
	Sent   int     `json:"sent"`
	Failed int     `json:"failed"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// EventsReport counts posts: lost means that a client that was connected from before
// the post until it was late (LoadOptions.Arrive) was not told of it. Delivered counts arrivals.
type EventsReport struct {
	Sent      int `json:"sent"`
	Lost      int `json:"lost"`
	Delivered int `json:"delivered"`
}

// SocketsReport tells how websockets fared.
type SocketsReport struct {
	// Open is how many were open when the report was made.
	Open int `json:"open"`
	// Refused counts connection attempts that failed.
	Refused int    `json:"refused"`
	Drops   []Drop `json:"drops"`
}

// Drop is one websocket that ended and came back.
type Drop struct {
	At time.Time `json:"at"`
	// From and To are the nodes' addresses with port.
	From    string  `json:"from"`
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
	// Why it ended, in the words of the client's side.
	Why string `json:"why"`
}

// Failure is one thing that a user would have seen fail.
type Failure struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Node string    `json:"node,omitempty"`
	Text string    `json:"text"`
}

// Report tells what the users have met so far.
func (ld *Load) Report() LoadReport {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	now := time.Now()
	for _, e := range ld.events {
		ld.judge(e, now)
	}
	ld.events = slices.DeleteFunc(ld.events, func(e *event) bool { return e.judged })
	r := ld.report
	r.Nodes, r.Versions = maps.Clone(r.Nodes), maps.Clone(r.Versions)
	r.Failures, r.Sockets.Drops = slices.Clone(r.Failures), slices.Clone(r.Sockets.Drops)
	r.Seconds = now.Sub(ld.began).Seconds()
	r.Requests.Kinds = map[string]KindReport{}
	for kind, t := range ld.tally {
		r.Requests.Sent += t.sent
		r.Requests.Failed += t.failed
		r.Requests.Kinds[kind] = t.report()
	}
	r.Requests.PerSecond = float64(r.Requests.Sent) / r.Seconds
	r.Sockets.Open = 0
	for _, s := range ld.socks {
		s.mu.Lock()
		if n := len(s.lives); n > 0 && s.lives[n-1].until.IsZero() {
			r.Sockets.Open++
		}
		s.mu.Unlock()
	}
	return r
}

func (t *tally) report() KindReport {
	k := KindReport{Sent: t.sent, Failed: t.failed}
	if len(t.took) == 0 {
		return k
	}
	took := slices.Sorted(slices.Values(t.took))
	ms := func(i int) float64 { return float64(took[i].Microseconds()) / 1000 }
	k.P50, k.P99, k.Max = ms(len(took)/2), ms(len(took)*99/100), ms(len(took)-1)
	return k
}

// String is the report for a person.
func (r LoadReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "requests: %d sent, %d failed, %.0f a second for %.0f s\n", r.Requests.Sent, r.Requests.Failed, r.Requests.PerSecond, r.Seconds)
	for _, kind := range slices.Sorted(maps.Keys(r.Requests.Kinds)) {
		k := r.Requests.Kinds[kind]
		fmt.Fprintf(&b, "  %-6s %6d sent %4d failed  p50 %4.0f ms  p99 %4.0f ms  max %4.0f ms\n", kind, k.Sent, k.Failed, k.P50, k.P99, k.Max)
	}
	fmt.Fprintf(&b, "events: %d sent, %d lost, %d deliveries\n", r.Events.Sent, r.Events.Lost, r.Events.Delivered)
	fmt.Fprintf(&b, "websockets: %d open, %d dropped, %d attempts refused\n", r.Sockets.Open, len(r.Sockets.Drops), r.Sockets.Refused)
	for _, d := range r.Sockets.Drops {
		fmt.Fprintf(&b, "  %s from %s back on %s after %.2f s (%s)\n", d.At.Format("15:04:05.000"), d.From, d.To, d.Seconds, d.Why)
	}
	fmt.Fprintf(&b, "releases seen: %v; answered by: %v\n", r.Versions, r.Nodes)
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  %s %s %s %s\n", f.At.Format("15:04:05.000"), f.Kind, f.Node, f.Text)
	}
	return b.String()
}
