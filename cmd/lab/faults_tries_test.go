package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// meddling is the trial's fault. One that passes lasts until refit says that it
// waits for it, or for a dozen seconds; some seconds where refit need not notice it.
// One that stays and is in nobody's way stays as long as its step.
func (c *trial) meddling() *meddling {
	m := &meddling{step: c.step, host: c.host, fault: c.fault}
	switch {
	case !c.passes:
		m.whole = c.mayPass()
	case c.answers() || c.idle():
		m.lasts = 5 * time.Second
	case c.fault == isCut || c.fault == isFrozen:
		m.lasts, m.until = 14*time.Second, true
	case c.fault == isOff:
		m.lasts, m.until = 5*time.Second, true
	}
	return m
}

// fewUsers are the requests a second beside each of hundreds of faults; the tests of
// single ones have more.
const fewUsers = 15

// hasty is the lab's refit.yml with short deadlines on answers, and what else is to
// be changed.
func (f *fleet) hasty(t *testing.T, changes ...string) string {
	return f.config(t, append(changes, "silence: 10s", "silence: 5s", "connect: 5s", "connect: 3s")...)
}

// impatient has the patience too that a fault needs which stays.
func (f *fleet) impatient(t *testing.T) string {
	return f.hasty(t, "unreachable: 60s", "unreachable: 8s", "boot: 60s", "boot: 20s")
}

// tryStops tries the faults for which a run stops where it stands, all in one
// upgrade: each is mended and the run resumed, which meets the next of them. It
// tells whether it tried any.
func (f *fleet) tryStops(t *testing.T, all []*trial) bool {
	t.Helper()
	left := func() []*trial {
		var out []*trial
		for _, c := range all {
			if c.got == "" && c.stops() && !slices.ContainsFunc(out, func(o *trial) bool { return o.step == c.step }) {
				out = append(out, c)
			}
		}
		return out
	}
	if len(left()) == 0 {
		return false
	}
	f.forgetBuild(t)
	config, args := f.impatient(t), triedUpgrade()
	for tried := false; ; tried = true {
		cells := left()
		var faults []*meddling
		for _, c := range cells {
			m := c.meddling()
			m.only = !c.passes
			faults = append(faults, m)
		}
		began := time.Now()
		a := f.tries(t, config, args, faults...)
		// The run stopped for the fault that hit last; it went on past the others.
		last := -1
		for i, m := range faults {
			if m.began && (last < 0 || m.hit.After(faults[last].hit)) {
				last = i
			}
		}
		for i, m := range faults {
			c := cells[i]
			switch {
			case !m.began:
				continue
			case i == last && a.code != 0:
				c.got, c.ok = fmt.Sprintf("exit %d", a.code), a.code == 7 && strings.Contains(a.err, "Next\n")
			default:
				c.got, c.ok = "went on", c.mayGoOn()
			}
			c.took, c.said = time.Since(began), a.String()
			t.Logf("%s, %s: wanted %s, got %s after %s", c.stage, c.name, c.want, c.got, c.took.Round(time.Second))
		}
		hit := last >= 0
		f.mendAll(t, faults...)
		if a.code != 7 || !hit {
			f.wholeAgain(t, a, faults)
			return tried || hit
		}
		f.freed(t)
		args = []string{"resume", "--yes"}
	}
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
	config := f.hasty(t)
	began := time.Now()
	a := f.tries(t, config, triedUpgrade(), faults...)
	failed := failedStep(a)
	for i, c := range chain {
		m := faults[i]
		switch {
		case !m.began && c.step != failed:
			continue // not reached: another chain takes it
		case !m.began:
			c.got = "never begun"
		case len(m.errs) > 0:
			t.Logf("%s, %s could not be tried here: %v", c.stage, c.name, errors.Join(m.errs...))
			c.alone = true
			continue
		case c.step == failed && slices.ContainsFunc(chain, func(o *trial) bool { return o != c && o.step == failed }):
			c.alone = true
			continue
		case c.step == failed || (failed == "" && a.code != 0 && i == len(chain)-1):
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
	if a.code != 0 {
		t.Logf("it said: %s", a)
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
	config := f.impatient(t)
	if c.mayPass() {
		config = f.hasty(t)
	}
	began := time.Now()
	a := f.tries(t, config, triedUpgrade(), m)
	c.took = time.Since(began)
	c.got = fmt.Sprintf("exit %d", a.code)
	c.ok = m.began && len(m.errs) == 0 && slices.Contains(strings.Split(string(c.want), either), map[bool]string{true: string(goesOn), false: fmt.Sprint(a.code)}[a.code == 0])
	if m.began && len(m.errs) == 0 && a.code == 0 && strings.Contains(string(c.want), string(waits)) {
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
		f.freed(t)
		a = f.run(t, "", "resume", "--yes")
		t.Logf("refit resume: exit %d", a.code)
	}
	// A keeper that refused the last word of the journal leaves a run half way even
	// where nothing was changed.
	if a.code != 0 && a.code != 6 && strings.Contains(f.run(t, "", "status").out, "`refit resume`") {
		f.must(t, 0, "", []string{"rollback", "--yes"})
	}
	f.well(t)
	if a.code == 0 {
		f.runsEverywhere(t, "v4.5.2")
		f.must(t, 0, "", []string{"rollback", "--yes"})
	}
	f.runsEverywhere(t, "v4.5.1")
}

// freed takes the lease from a run that lost its keeper.
func (f *fleet) freed(t *testing.T) {
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

// triedUpgrade is the command that all of them meet.
func triedUpgrade() []string { return []string{"upgrade", "--to", "v4.5.2", "--yes"} }

// tries runs refit with the faults, not all of whose steps need be reached, while a
// few users work.
func (f *fleet) tries(t *testing.T, config string, args []string, faults ...*meddling) answer {
	t.Helper()
	var a answer
	f.underFaultsAt(t, fewUsers, func() { a = f.meddleFor(t, false, config, args, faults...) }, faults...)
	return a
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
