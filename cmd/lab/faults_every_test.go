package main

import (
	"cmp"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// trial is one cell of the table with one way for the fault to go, and what became
// of it.
type trial struct {
	stage, step, name string
	at                where
	host              string
	fault             faultName
	passes            bool
	want              outcome

	got  string // empty until it was tried
	took time.Duration
	said string // what to read if it went wrong
	ok   bool
	// alone is set when a step failed with this fault and others: it is tried again
	// by itself, to see which of them is to blame.
	alone bool
}

// trials are the cells asked for. A host that stays away stays away, however it came
// to: of cut, frozen and powered off each row takes one in turn, unless -run names
// cells.
func trials(asked func(stage, name string) bool, named bool) []*trial {
	ways := []faultName{isCut, isFrozen, isOff}
	var all []*trial
	for i, s := range faultTable() {
		add := func(host string, at where, f faultName, passes bool, want outcome) {
			if want == cannot {
				return
			}
			name := fmt.Sprintf("%s %s %s", at, f, map[bool]string{true: "passes", false: "stays"}[passes])
			if asked(s.name, name) {
				all = append(all, &trial{stage: s.name, step: s.step, name: name, at: at, host: host, fault: f, passes: passes, want: want})
			}
		}
		for j, r := range s.rows {
			if r.none != "" {
				continue
			}
			for k, c := range r.cells {
				f := hostFaults()[k]
				add(r.host, r.where, f, true, c.passes)
				if named || !slices.Contains(ways, f) || f == ways[(i+j)%len(ways)] {
					add(r.host, r.where, f, false, c.stays)
				}
			}
		}
		add("", "the database", isPromoted, true, s.database.passes)
		add("", "the database", dbGone, false, s.database.stays)
		add("", "Redis", isMoved, true, s.redis.passes)
		add("", "Redis", redisGone, false, s.redis.stays)
	}
	return all
}

// chosen tells which stages and cells -run names, so that no other's are tried:
// -run 'TestLabEveryFault/roll_web' tries those of roll web,
// -run 'TestLabEveryFault/./its_host_frozen' the frozen hosts of every stage,
// -run 'TestLabEveryFault/./passes$' what passes. Where it names a way to stay away,
// each row takes it.
func chosen(t *testing.T) (asked func(stage, name string) bool, named bool) {
	t.Helper()
	var parts []*regexp.Regexp
	if f := flag.Lookup("test.run"); f != nil {
		for _, p := range strings.Split(f.Value.String(), "/")[1:] {
			r, err := regexp.Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, r)
		}
	}
	asName := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, " ", "_"), "/", "_")
	}
	if len(parts) > 1 {
		named = slices.ContainsFunc(hostFaults(), func(f faultName) bool { return strings.Contains(parts[1].String(), asName(string(f))) })
	}
	return func(stage, name string) bool {
		for i, as := range []string{stage, name} {
			if i < len(parts) && !parts[i].MatchString(asName(as)) {
				return false
			}
		}
		return true
	}, named
}

// TestLabEveryFault tries every cell of docs/faults.md. Faults that pass are chained,
// one or more in each step of an upgrade; so are those that stop a run which
// "refit resume" then ends. Those for which a run goes back have one of their own.
func TestLabEveryFault(t *testing.T) {
	full(t)
	all := trials(chosen(t))
	f := before(t)
	defer func() { t.Log("\n" + summary(all)) }()
	for tried := true; tried; {
		tried = f.tryStops(t, all)
	}
	for chain := next(all); len(chain) > 0; chain = next(all) {
		f.tryChain(t, chain)
	}
	for _, c := range all {
		if c.got == "" {
			f.tryOne(t, c)
		}
	}
	for _, s := range faultTable() {
		cells := slices.DeleteFunc(slices.Clone(all), func(c *trial) bool { return c.stage != s.name })
		if len(cells) == 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, c := range cells {
				t.Run(c.name, func(t *testing.T) {
					if !c.ok {
						t.Errorf("%s: wanted %s, got %s\n%s", c.name, c.want, c.got, c.said)
					}
				})
			}
		})
	}
}

// idle tells whether the fault must be in nobody's way.
func (c *trial) idle() bool { return c.want == goesOn }

// mayPass tells whether the run goes on to its end, so that the fault can be chained.
func (c *trial) mayPass() bool {
	for _, w := range strings.Split(string(c.want), either) {
		if w != string(goesOn) && w != string(waits) {
			return false
		}
	}
	return true
}

// mayGoOn tells whether a run that does not notice it is as good.
func (c *trial) mayGoOn() bool {
	return slices.Contains(strings.Split(string(c.want), either), string(goesOn))
}

// stops tells whether the run stops where it stands, if it notices at all: a resume
// goes on from there.
func (c *trial) stops() bool { return c.want == person || c.want == goesOn+either+person }

// answers tells whether the host goes on answering, if slowly or with a full disk.
func (c *trial) answers() bool { return c.fault == isSlow || c.fault == isFull }

// next picks the faults of one upgrade, in the plan's order: for each step one that
// makes refit wait, or some that are in nobody's way on hosts of their own; and with
// either those that leave a host answering.
func next(all []*trial) []*trial {
	var chain []*trial
	used := map[[2]string]bool{} // step and host
	lead := map[string]*trial{}
	take := func(fits func(*trial) bool) {
		for _, c := range all {
			key := [2]string{c.step, cmp.Or(c.host, string(c.at))}
			if c.got != "" || c.alone || !c.mayPass() || used[key] || !fits(c) {
				continue
			}
			used[key] = true
			chain = append(chain, c)
			if lead[c.step] == nil && !c.answers() {
				lead[c.step] = c
			}
		}
	}
	take(func(c *trial) bool { return !c.answers() && (lead[c.step] == nil || c.idle() && lead[c.step].idle()) })
	take(func(c *trial) bool { return c.answers() && (c.idle() || lead[c.step] == nil) })
	slices.SortStableFunc(chain, func(a, b *trial) int { return slices.Index(all, a) - slices.Index(all, b) })
	return chain
}

// summary is the table with what was seen.
func summary(all []*trial) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "stage\tfault\tmust\tdid\tseconds\t")
	good, tried := 0, 0
	for _, c := range all {
		verdict := "WRONG"
		if c.ok {
			verdict = "ok"
			good++
		}
		if c.got != "" {
			tried++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f\t%s\n", c.stage, c.name, c.want, c.got, c.took.Seconds(), verdict)
	}
	fmt.Fprintf(w, "%d cells\t%d tried\t%d as the table says\t\t\t\n", len(all), tried, good)
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}
