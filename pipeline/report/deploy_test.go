package report

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
)

// deployed is a deployer that notes what it is told, once it lets a call through.
type deployed struct {
	mu    sync.Mutex
	calls []string
	words []string
	fail  error
	slow  time.Duration
}

func (d *deployed) Deploy(ctx context.Context, r Run, state DeployState, words string) error {
	select {
	case <-time.After(d.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.words = append(d.calls, r.ID+" "+string(state)), append(d.words, words)
	return d.fail
}

// heals makes it work again.
func (d *deployed) heals() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = nil
}

func (d *deployed) told(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.calls, want) {
		t.Errorf("%q, want %q", d.calls, want)
	}
}

func ended(s pipeline.Status) pipeline.Event {
	return pipeline.Event{Kind: pipeline.RunEnded, Text: string(s), Err: "token=hunter2secret\nand more"}
}

func TestARunIsToldAsADeploymentFromItsLeaseToItsEndEachStateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &deployed{}
		d := NewDeploy(DeployOptions{Deployer: one})
		d.Begin(Run{ID: "run-1"})
		synctest.Wait()
		one.told(t) // who is refused the lease deploys nothing
		for _, e := range []pipeline.Event{{Kind: pipeline.LockTaken}, {Kind: pipeline.RunStarted, Text: "upgrade"}, {Kind: pipeline.StepStarted}, {Kind: pipeline.StepDone}, ended(pipeline.Done)} {
			d.Observe(e)
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if said := d.Close(time.Second); said != nil {
			t.Error(said)
		}
		one.told(t, "run-1 queued", "run-1 in_progress", "run-1 success")
		if got := one.words[2]; strings.Contains(got, "hunter2") || strings.Contains(got, "\n") {
			t.Errorf("it says %q", got)
		}
	})
}

func TestEachEndHasItsState(t *testing.T) {
	for status, want := range map[pipeline.Status]DeployState{
		pipeline.Done: DeploySuccess, pipeline.Undone: DeployFailure, pipeline.Refused: DeployFailure, pipeline.Stopped: DeployPending, pipeline.Interrupted: DeployPending,
		pipeline.Person: DeployError, pipeline.LostLock: DeployError, pipeline.LostJournal: DeployError, "odd": DeployError,
	} {
		if got, words := deployEnd(status); got != want || words == "" {
			t.Errorf("%s: %s, %q", status, got, words)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		one := &deployed{}
		d := NewDeploy(DeployOptions{Deployer: one})
		d.Begin(Run{ID: "run-1"})
		d.Observe(ended(pipeline.Undone))
		d.End(Report{Status: pipeline.Undone, Asked: true})
		d.Close(time.Second)
		one.told(t, "run-1 inactive")
	})
}

func TestAGitHubThatFailsIsToldAgainAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &deployed{fail: errors.New("502")}
		d := NewDeploy(DeployOptions{Deployer: one})
		d.Begin(Run{ID: "run-1"})
		d.Observe(pipeline.Event{Kind: pipeline.RunStarted})
		time.Sleep(40 * time.Second)
		one.told(t, "run-1 in_progress", "run-1 in_progress")
		one.heals()
		time.Sleep(time.Hour)
		one.told(t, "run-1 in_progress", "run-1 in_progress", "run-1 in_progress")
		if said := d.Close(time.Second); said != nil {
			t.Error(said)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		one := &deployed{slow: time.Hour}
		d := NewDeploy(DeployOptions{Deployer: one})
		d.Begin(Run{ID: "run-1"})
		began := time.Now()
		for range 10000 {
			d.Observe(pipeline.Event{Kind: pipeline.RunStarted})
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("observing took %s", took)
		}
		said := d.Close(15 * time.Second)
		if took := time.Since(began); took > 15*time.Second || len(said) != 1 || !strings.Contains(said[0], "does not show how the run stands") {
			t.Errorf("after %s: %q", took, said)
		}
	})
}
