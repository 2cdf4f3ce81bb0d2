package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	host              string
	fault             faultName
	passes            bool
	want              outcome

	got  string // empty until it was tried
	took time.Duration
	said string // what to read if it went wrong
	ok   bool
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
				all = append(all, &trial{stage: s.name, step: s.step, name: name, host: host, fault: f, passes: passes, want: want})
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

// chosen tells which stages and cells -run names, so that no other's are chained:
// -run 'TestLabEveryFault/roll_web' tries those of roll web,
// -run 'TestLabEveryFault/./its_host_frozen' the frozen hosts of every stage.
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
	return func(stage, name string) bool {
		for i, as := range []string{stage, name} {
			if i < len(parts) && !parts[i].MatchString(strings.ReplaceAll(strings.ReplaceAll(as, " ", "_"), "/", "_")) {
				return false
			}
		}
		return true
	}, len(parts) > 1
}

// TestLabEveryFault tries every cell of docs/faults.md. Faults that pass are chained,
// one in each step of an upgrade; one that stays has an upgrade of its own.
func TestLabEveryFault(t *testing.T) {
	full(t)
	f := before(t)
	all := trials(chosen(t))
	defer func() { t.Log("\n" + summary(all)) }()
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

// mayPass tells whether a cell lets the run go on to its end, so that it can be
// chained: with what passes, and with a slow link, which is in nobody's way.
func mayPass(c *trial) bool {
	if !c.passes && c.fault != isSlow {
		return false
	}
	for _, w := range strings.Split(string(c.want), either) {
		if w != string(goesOn) && w != string(waits) {
			return false
		}
	}
	return true
}

// next picks one cell that passes for each step, in the plan's order.
func next(all []*trial) []*trial {
	var chain []*trial
	taken := map[string]bool{}
	for _, c := range all {
		if c.got == "" && mayPass(c) && !taken[c.step] {
			taken[c.step] = true
			chain = append(chain, c)
		}
	}
	return chain
}

// meddling is the trial's fault. One that passes lasts until refit says that it
// waits for it, or for a dozen seconds where refit need not notice it.
func (c *trial) meddling() *meddling {
	m := &meddling{step: c.step, host: c.host, fault: c.fault}
	if !c.passes {
		return m
	}
	switch c.fault {
	case isCut, isFrozen:
		m.lasts, m.until = 14*time.Second, true
	case isOff, isSlow, isFull:
		m.lasts, m.until = 5*time.Second, true
	}
	return m
}

// tryChain runs one upgrade with all the faults. Where it does not end well, the
// step at which it failed is to blame, and cells that it did not reach are tried
// another time.
func (f *fleet) tryChain(t *testing.T, chain []*trial) {
	t.Helper()
	if slices.ContainsFunc(chain, func(c *trial) bool { return c.stage == "build" }) {
		f.forgetBuild(t)
	}
	var faults []*meddling
	for _, c := range chain {
		faults = append(faults, c.meddling())
	}
	began := time.Now()
	var a answer
	f.underFaults(t, func() { a = f.meddleQuietly(t, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, faults...) }, faults...)
	failed := failedStep(a)
	for i, c := range chain {
		m := faults[i]
		switch {
		case !m.began && c.step != failed:
			continue // not reached: another chain takes it
		case !m.began:
			c.got = "never begun"
		case c.step == failed || len(m.errs) > 0 || (failed == "" && a.code != 0 && i == len(chain)-1):
			c.got, c.said = fmt.Sprintf("exit %d", a.code), a.String()
		default:
			c.got, c.ok = "went on", true
			if strings.Contains(stepLines(a.err, c.step), "waiting for ") && strings.Contains(stepLines(a.err, c.step), "run again") {
				c.got = "waited"
			}
		}
		c.took = stepTook(a.err, c.step)
	}
	t.Logf("a chain of %d faults: exit %d after %s", len(chain), a.code, time.Since(began).Round(time.Second))
	if a.code != 0 && failed == "" {
		t.Fatalf("the run did not reach a step: %s", a)
	}
	f.wholeAgain(t, a, faults)
	f.fewLogins(t, began, 4*len(chain)+8)
}

// tryOne runs one upgrade with one fault, and asks for the exit code.
func (f *fleet) tryOne(t *testing.T, c *trial) {
	t.Helper()
	if c.stage == "build" {
		f.forgetBuild(t)
	}
	if c.stage == "place" || c.fault == isFull {
		f.forgetPlaced(t, c.host)
	}
	m := c.meddling()
	config := f.config(t, "unreachable: 60s", "unreachable: 10s", "boot: 60s", "boot: 20s")
	began := time.Now()
	var a answer
	f.underFaults(t, func() { a = f.meddleQuietly(t, config, []string{"upgrade", "--to", "v4.5.2", "--yes"}, m) }, m)
	c.took = time.Since(began)
	c.got = fmt.Sprintf("exit %d", a.code)
	c.ok = m.began && slices.Contains(strings.Split(string(c.want), either), map[bool]string{true: string(goesOn), false: fmt.Sprint(a.code)}[a.code == 0])
	if a.code == 0 && strings.Contains(string(c.want), string(waits)) {
		c.ok = true
	}
	if a.code == 7 && !strings.Contains(a.err, "Next\n") {
		c.ok = false
	}
	c.said = a.String()
	t.Logf("%s, %s: wanted %s, got %s after %s", c.stage, c.name, c.want, c.got, c.took.Round(time.Second))
	f.wholeAgain(t, a, []*meddling{m})
}

// wholeAgain mends everything and brings the fleet back to v4.5.1 by the command
// that refit named.
func (f *fleet) wholeAgain(t *testing.T, a answer, faults []*meddling) {
	t.Helper()
	f.mendAll(t, faults...)
	for tries := 0; a.code == 7; tries++ {
		if tries == 3 {
			t.Fatalf("refit resume leads nowhere: %s", a)
		}
		f.leaseEnds(t)
		a = f.run(t, "", "resume", "--yes")
		t.Logf("refit resume: exit %d", a.code)
	}
	f.well(t)
	if a.code == 0 {
		f.runsEverywhere(t, "v4.5.2")
		f.must(t, 0, "", []string{"rollback", "--yes"})
	}
	f.runsEverywhere(t, "v4.5.1")
}

// leaseEnds waits until the lease of a run that lost its keeper has ended.
func (f *fleet) leaseEnds(t *testing.T) {
	t.Helper()
	if a := f.run(t, "", "unlock", "--yes"); a.code != 0 {
		t.Logf("refit unlock: %s", a)
	}
}

// forgetBuild makes the next upgrade build anew.
func (f *fleet) forgetBuild(t *testing.T) {
	t.Helper()
	f.forgetPlaced(t, "uhura")
}

// forgetPlaced takes the release that is to come from a host.
func (f *fleet) forgetPlaced(t *testing.T, host string) {
	t.Helper()
	if host == "" {
		return
	}
	if err := os.RemoveAll(filepath.Join(f.Root(host), "home/mastodon/releases/v4.5.2")); err != nil {
		t.Fatal(err)
	}
}

// meddleQuietly is meddle for runs that need not reach every fault's step.
func (f *fleet) meddleQuietly(t *testing.T, config string, args []string, faults ...*meddling) answer {
	t.Helper()
	return f.meddleFor(t, false, config, args, faults...)
}

// failedStep is the first step that failed for good, by refit's own lines.
func failedStep(a answer) string {
	for line := range strings.Lines(a.err) {
		if before, _, found := strings.Cut(line, ": FAILED after"); found {
			_, step, _ := strings.Cut(before, "] ")
			step, _, _ = strings.Cut(step, " on ")
			return step
		}
	}
	return ""
}

// stepLines are refit's lines of one step.
func stepLines(text, step string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "] "+step+":") || strings.Contains(line, "] "+step+" on ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// stepTook is how long a step took, by the times of its lines.
func stepTook(text, step string) time.Duration {
	var first, last time.Time
	for line := range strings.Lines(stepLines(text, step)) {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339, stamp)
		if err != nil {
			continue
		}
		if first.IsZero() {
			first = at
		}
		last = at
	}
	return last.Sub(first)
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
