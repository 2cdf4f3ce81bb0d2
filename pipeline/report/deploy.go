package report

import (
	"context"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
)

// DeployState is how a run stands, as a deployment of the config repository shows it.
type DeployState string

// The states, as GitHub names them.
const (
	DeployQueued     DeployState = "queued"
	DeployInProgress DeployState = "in_progress"
	DeployPending    DeployState = "pending"
	DeploySuccess    DeployState = "success"
	DeployFailure    DeployState = "failure"
	DeployError      DeployState = "error"
	DeployInactive   DeployState = "inactive"
)

// Deployer brings the deployment of a run to a state: it finds it or makes it, and leaves
// it alone where it is in that state already, so that it may be called again after an
// answer that was lost, and by the next process.
type Deployer interface {
	Deploy(ctx context.Context, r Run, state DeployState, words string) error
}

// DeployOptions are the choices of NewDeploy.
type DeployOptions struct {
	Deployer Deployer
	// Pause between attempts while it fails; 0 for half a minute.
	Pause time.Duration
	// Call bounds one attempt; 0 for half a minute.
	Call time.Duration
	// Redact cuts secrets out of every text; nil for Redactor.
	Redact func(string) string
}

// Deploy tells how a run stands, as a deployment. It observes the engine's events. What is
// to be told is the newest state alone, so nothing piles up: a slow answer is followed by
// what is true then. It fails and delays no run.
type Deploy struct {
	o    DeployOptions
	wake chan struct{}
	over chan struct{}
	done chan struct{}
	stop context.CancelFunc
	once sync.Once

	mu     sync.Mutex
	run    Run
	want   DeployState
	words  string
	told   DeployState
	failed error
}

// NewDeploy begins to tell, from a goroutine of its own, until Close. Nothing is told before
// a run has the lease: one that was refused that is no deployment.
func NewDeploy(o DeployOptions) *Deploy {
	if o.Pause <= 0 {
		o.Pause = 30 * time.Second
	}
	if o.Call <= 0 {
		o.Call = 30 * time.Second
	}
	if o.Redact == nil {
		o.Redact = Redactor()
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &Deploy{o: o, wake: make(chan struct{}, 1), over: make(chan struct{}), done: make(chan struct{}), stop: stop}
	go d.loop(ctx)
	return d
}

// Begin names the run that the events to come are of.
func (d *Deploy) Begin(r Run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run, d.want, d.told = r, "", ""
}

// Observe takes an event.
func (d *Deploy) Observe(e pipeline.Event) {
	switch e.Kind {
	case pipeline.LockTaken:
		d.set(DeployQueued, "has the lease")
	case pipeline.RunStarted:
		d.set(DeployInProgress, e.Text)
	case pipeline.RunEnded:
		state, words := deployEnd(pipeline.Status(e.Text))
		d.set(state, with(words, FirstLine(e.Err)))
	default:
	}
}

// End adds what is known after a run's end: to be taken back as asked is no failure.
func (d *Deploy) End(r Report) {
	if r.Status == pipeline.Undone && r.Asked {
		d.set(DeployInactive, "taken back as asked")
	}
}

// deployEnd is the state of a run that ended so.
func deployEnd(s pipeline.Status) (DeployState, string) {
	switch s {
	case pipeline.Done:
		return DeploySuccess, "done"
	case pipeline.Undone:
		return DeployFailure, "failed, and every node is back"
	case pipeline.Refused:
		return DeployFailure, "refused, nothing was touched"
	case pipeline.Stopped, pipeline.Interrupted:
		return DeployPending, "stopped half way: refit resume goes on"
	case pipeline.Person, pipeline.LostLock, pipeline.LostJournal:
	}
	return DeployError, "a person is needed: see refit status"
}

func (d *Deploy) set(state DeployState, words string) {
	d.mu.Lock()
	d.want, d.words = state, printable(d.o.Redact(words))
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// loop tells what is news, and again after a pause what could not be told.
func (d *Deploy) loop(ctx context.Context) {
	defer close(d.done)
	t := time.NewTimer(d.o.Pause)
	defer t.Stop()
	for {
		var again <-chan time.Time
		if d.behind() {
			t.Reset(d.o.Pause)
			again = t.C
		}
		select {
		case <-d.wake:
		case <-again:
		case <-d.over:
			if d.behind() {
				d.tell(ctx)
			}
			return
		case <-ctx.Done():
			return
		}
		d.tell(ctx)
	}
}

// behind tells that something was not told yet.
func (d *Deploy) behind() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want != d.told
}

func (d *Deploy) tell(ctx context.Context) {
	d.mu.Lock()
	run, want, words := d.run, d.want, d.words
	d.mu.Unlock()
	if want == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.Call)
	defer cancel()
	err := d.o.Deployer.Deploy(ctx, run, want, words)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = err
	if err == nil && d.run.ID == run.ID {
		d.told = want
	}
}

// Close tells the last state if it was not yet, waits for that at most so long, and says
// why it could not be told.
func (d *Deploy) Close(limit time.Duration) []string {
	d.once.Do(func() { close(d.over) })
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-d.done:
	case <-t.C:
		d.stop()
		<-d.done
	}
	d.stop()
	if !d.behind() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	why := "it did not answer in time"
	if d.failed != nil {
		why = d.o.Redact(d.failed.Error())
	}
	return []string{"GitHub's deployment of the config repository does not show how the run stands: " + printable(why)}
}
