package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/pipeline"
)

// crash is one run in which refit is killed with SIGKILL whenever its journal on
// the keeper says something that it never said before, and is then resumed by the
// next operator from his own folder, until the run is over.
type crash struct {
	f    *fleet
	by   []*operator
	load *lab.Load
	// from and to are the releases that nodes may run.
	from, to string
	// deeds: refit is also killed at each change that it makes on a host: a node out
	// of rotation, a unit stopped, a link switched, a migration started.
	deeds bool
	// since: no kill falls before this word of the journal; empty for the first.
	since string
	// until: the course ends with the kill that follows this word of the journal;
	// empty for the end of the run.
	until string

	holder *operator       // who was killed last, and so holds the lease
	run    string          // the run's ID, once its journal is there
	others map[string]bool // journals of other runs
	seen   map[string]bool
	last   []string // the facts of the last look
	life   int
	kills  int
	// together are words of the journal between which no look fell.
	together []string
	queues   []string
}

// crashing prepares a run that is killed at every mark.
func (f *fleet) crashing(t *testing.T, load *lab.Load, by []*operator, from, to string) *crash {
	t.Helper()
	others, err := f.journals()
	c := &crash{f: f, by: by, load: load, from: from, to: to, others: others, seen: map[string]bool{}}
	if err == nil {
		c.queues, err = f.queues()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// course kills and resumes until the run is over, and asks for how it ended.
func (c *crash) course(t *testing.T, want pipeline.Status, args ...string) {
	t.Helper()
	began, before, words := time.Now(), c.kills, strings.Join(args, " ")
	for first := c.life; ; args = []string{"resume", "--yes"} {
		o := c.by[c.life%len(c.by)]
		if c.life++; c.life-first > 250 {
			t.Fatal("the run does not come to an end")
		}
		// Only on one machine can a holder be seen to be dead.
		if c.holder != nil && (c.holder.elsewhere || o.elsewhere) {
			// One that was killed after the last word may have given the lease back.
			o.takeOver(t, args, c.life > first+1 && c.over(t))
		}
		born := time.Now()
		a, after := c.live(t, o, args)
		t.Logf("life %d: refit %s of %s, %.1f s, killed after %q", c.life, args[0], o.name, time.Since(born).Seconds(), after)
		if time.Since(born) > 8*time.Second {
			t.Logf("%s", a.err)
		}
		if after == nil {
			c.ended(t, o, a, want)
			break
		}
		c.kills, c.holder = c.kills+1, o
		c.f.longJob(t)
		if errs := c.broken(); len(errs) > 0 {
			t.Fatalf("life %d, %s of %s, killed after %q: %v\n%s", c.life, args[0], o.name, after, errors.Join(errs...), a.err)
		}
		if c.deeds && !c.over(t) {
			c.by[c.life%len(c.by)].isTold(t)
		}
		if c.until != "" && slices.Contains(after, c.until) {
			break
		}
	}
	t.Logf("%s, %s to %s: killed and resumed %d times in %.0f s", words, c.from, c.to, c.kills-before, time.Since(began).Seconds())
	for _, w := range c.together {
		t.Logf("no kill fell between: %s", w)
	}
	c.together = nil
}

// over tells that the run's journal says that nothing is left to do.
func (c *crash) over(t *testing.T) bool {
	t.Helper()
	j, err := c.f.journal(c.run)
	if err != nil {
		t.Fatal(err)
	}
	return j != nil && j.Finished()
}

// ended holds the last life to what the run must come to.
func (c *crash) ended(t *testing.T, o *operator, a answer, want pipeline.Status) {
	t.Helper()
	j, err := c.f.journal(c.run)
	if err != nil || j == nil {
		t.Fatalf("no journal of run %q: %v: %s", c.run, err, a)
	}
	// The kill that followed the last word left nothing to resume.
	if j.Outcome != want || a.code != 0 || !strings.Contains(a.out, "nothing to resume") {
		t.Fatalf("life %d, of %s: the run is %s (%s), not %s: %s", c.life, o.name, j.Outcome, j.State, want, a)
	}
	if errs := c.broken(); len(errs) > 0 {
		t.Fatalf("at the end: %v", errors.Join(errs...))
	}
	turns(t, "what killed runs began", orphans, false)
}

// orphans asks that no host runs anything that refit began there, long deed or verb.
func orphans() error {
	work, err1 := jobs()
	verbs, err2 := agents()
	if err := errors.Join(err1, err2); err != nil || len(work)+len(verbs) == 0 {
		return err
	}
	return fmt.Errorf("at work for nobody: %q %q", work, verbs)
}

// live runs refit until it ends, or kills it with the first new word of the
// journal, and tells which words these were.
func (c *crash) live(t *testing.T, o *operator, args []string) (answer, []string) {
	t.Helper()
	// What came after the last kill was done by what the killed one had begun.
	if fresh := c.fresh(t); len(fresh) > 0 {
		c.together = append(c.together, strings.Join(fresh, ", ")+" (after the kill)")
	}
	cmd := o.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var after []string
	for {
		select {
		case err := <-over:
			e, failed := errors.AsType[*exec.ExitError](err)
			switch {
			case failed && after != nil && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
				return answer{-1, out.String(), errs.String()}, after
			case failed && e.ExitCode() >= 0:
				return answer{e.ExitCode(), out.String(), errs.String()}, after
			case err != nil:
				t.Fatalf("refit %s of %s: %v\n%s", args[0], o.name, err, errs.String())
			}
			return answer{0, out.String(), errs.String()}, after
		case <-tick.C:
		}
		if after != nil {
			continue
		}
		if after = c.fresh(t); after == nil {
			continue
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
}

// fresh gives what the journal, and where asked the hosts, say now and never said
// before.
func (c *crash) fresh(t *testing.T) []string {
	t.Helper()
	if c.run == "" {
		now, err := c.f.journals()
		if err != nil {
			t.Fatal(err)
		}
		for id := range now {
			if !c.others[id] {
				c.run = id
			}
		}
	}
	j, err := c.f.journal(c.run)
	if err != nil {
		t.Fatal(err)
	}
	if j == nil {
		return nil
	}
	words := said(j)
	if c.deeds {
		words = append(words, c.done(t, j)...)
	}
	var out []string
	for _, w := range words {
		if !c.seen[w] {
			c.seen[w] = true
			out = append(out, w)
		}
	}
	if c.since != "" && !c.seen[c.since] {
		return nil
	}
	if len(out) > 1 {
		c.together = append(c.together, strings.Join(out, ", "))
	}
	return out
}

// said is all that a journal says.
func said(j *pipeline.Journal) []string {
	out := []string{"going " + string(j.Direction)}
	for _, s := range j.Steps {
		if m := j.Marks[s.Name]; m.State != pipeline.Pending {
			out = append(out, s.Name+": "+string(m.State))
		}
	}
	var facts struct {
		Applied []any `json:"applied"`
	}
	if json.Unmarshal(j.Facts, &facts) == nil && len(facts.Applied) > 0 {
		out = append(out, fmt.Sprintf("%d migrations applied", len(facts.Applied)))
	}
	if j.Outcome != "" {
		out = append(out, "ended: "+string(j.Outcome))
	}
	return out
}

// done is what has changed on a host since the last look, with the step at work.
func (c *crash) done(t *testing.T, j *pipeline.Journal) []string {
	t.Helper()
	now, err := c.f.facts()
	if err != nil {
		t.Fatal(err)
	}
	at := ""
	for _, s := range j.Steps {
		if m := j.Marks[s.Name].State; m == pipeline.Doing || m == pipeline.Undoing {
			at = s.Name + " " + string(m)
		}
	}
	var out []string
	for _, fact := range now {
		if c.last != nil && !slices.Contains(c.last, fact) && !strings.HasSuffix(fact, "in between") {
			out = append(out, at+": "+fact)
		}
	}
	c.last = now
	return out
}

// longJob enqueues a job that takes three seconds, so that workers have something in
// hand when they are stopped.
func (f *fleet) longJob(t *testing.T) {
	t.Helper()
	if err := f.post(t.Context(), "a post whose distribution takes its time", 3000); err != nil {
		t.Error(err)
	}
}
