package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"
)

// world is the fleet of the in-process walks: what stages change, and the durable
// place where the journal lies. It outlives the processes that crash.
type world struct {
	t     *testing.T
	names []string
	// applied tells which step's effect is there now; turns counts how often it
	// was put there and taken away.
	applied map[string]bool
	turns   map[string]int
	// oneWay is the one-way step's index, -1 for none; passed that its Run began.
	oneWay int
	passed bool
	// lease is the epoch that may change things now.
	lease int64
	disk  *disk
	// fails tells how a step's Run or Undo ends; faults where a process dies.
	fails map[string]error
	heals bool // a failing Undo succeeds the second time
	crash map[string]bool
	// seen counts how often each point inside a deed was come to.
	seen map[string]int
}

func newWorld(t *testing.T, steps int) *world {
	w := &world{t: t, applied: map[string]bool{}, turns: map[string]int{}, oneWay: -1, fails: map[string]error{}, crash: map[string]bool{}, seen: map[string]int{}}
	for i := range steps {
		w.names = append(w.names, fmt.Sprintf("step %c", 'a'+i))
	}
	w.disk = &disk{}
	return w
}

// died is the panic by which a simulated process ends.
type died struct{}

type facts struct{ Done []string }

// process is one refit process: it takes the lease, which fences all before it,
// and makes the plan anew.
type process struct {
	w     *world
	epoch int64
	facts *facts
}

func (w *world) process() *process {
	w.lease++
	return &process{w: w, epoch: w.lease, facts: &facts{}}
}

func (p *process) plan() Plan {
	plan := Plan{ID: "run-1", Kind: "upgrade", From: "v1", To: "v2", Facts: p.facts}
	for i, n := range p.w.names {
		plan.Steps = append(plan.Steps, Step{Stage: &deed{p: p, i: i, name: n}, Host: "kirk", OneWay: i == p.w.oneWay, Switches: i >= 1})
	}
	return plan
}

// deed is a stage that puts its effect into the world, looks before it acts, and
// checks at every act what must be true then.
type deed struct {
	p    *process
	i    int
	name string
}

func (d *deed) Name() string                     { return d.name }
func (d *deed) Check(context.Context, Say) error { return nil }

func (d *deed) Run(ctx context.Context, _ Say) error {
	w := d.p.w
	d.mayAct(ctx, "run", Doing)
	if d.i == w.oneWay {
		w.passed = true
	}
	w.dies("run " + d.name + " before")
	for j, n := range w.names {
		if j < d.i && !w.applied[n] {
			w.t.Errorf("%s runs although %s before it is not there", d.name, n)
		}
	}
	err := w.fails["run "+d.name]
	if !w.applied[d.name] {
		w.applied[d.name] = true
		w.turns[d.name]++
	}
	w.dies("run " + d.name + " after")
	if err == nil {
		d.p.facts.Done = append(d.p.facts.Done, d.name)
	}
	return err
}

func (d *deed) Undo(ctx context.Context, _ Say) error {
	w := d.p.w
	d.mayAct(ctx, "undo", Undoing)
	w.dies("undo " + d.name + " before")
	if w.passed && d.i <= w.oneWay {
		w.t.Errorf("%s is taken back although the one-way step began", d.name)
	}
	for j, n := range w.names {
		if j > d.i && w.applied[n] {
			w.t.Errorf("%s is taken back although %s after it is still there", d.name, n)
		}
	}
	if err := w.fails["undo "+d.name]; err != nil {
		if w.heals {
			delete(w.fails, "undo "+d.name)
		}
		return err
	}
	if w.applied[d.name] {
		w.applied[d.name] = false
		w.turns[d.name]++
	}
	w.dies("undo " + d.name + " after")
	return nil
}

// mayAct holds the rules of every act: under the live lease, and with the durable
// journal saying that it is being done.
func (d *deed) mayAct(ctx context.Context, what string, want State) {
	w := d.p.w
	if d.p.epoch != w.lease {
		w.t.Errorf("%s %s under epoch %d, the lease has %d", what, d.name, d.p.epoch, w.lease)
	}
	if lockLost(ctx) != nil {
		w.t.Errorf("%s %s without a lease", what, d.name)
	}
	j, err := ParseJournal(w.disk.stored)
	if err != nil {
		w.t.Errorf("%s %s while the journal cannot be read: %v", what, d.name, err)
		return
	}
	if got := j.Marks[d.name].State; got != want {
		w.t.Errorf("%s %s while the journal says %q", what, d.name, got)
	}
}

// dies ends the process the first time it comes to that point.
func (w *world) dies(point string) {
	w.seen[point]++
	if w.crash[point] {
		delete(w.crash, point)
		panic(died{})
	}
}

// fault is what goes wrong with one save.
type fault string

const (
	beforeWrite fault = "before the write"
	afterWrite  fault = "after the write"
	tornWrite   fault = "torn write"
	tornInPlace fault = "torn in place, the mirror has the one before"
	lostReply   fault = "lost reply"
	writeError  fault = "write error"
)

// disk is a shelf that survives its users. at maps the number of a save, counted
// over the whole life of the run, to what happens to it.
type disk struct {
	mu     sync.Mutex
	stored []byte
	temp   []byte
	mirror []byte
	epoch  int64
	seq    int64
	saves  int
	at     map[int]fault
	onSave func(n int)
}

var errWire = errors.New("the wire broke")

func (d *disk) Load(_ context.Context, _ string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stored == nil {
		return nil, fs.ErrNotExist
	}
	if _, err := ParseJournal(d.stored); errors.Is(err, ErrDamaged) && d.mirror != nil {
		return d.mirror, nil // what an operator does by hand
	}
	return d.stored, nil
}

func (d *disk) Save(_ context.Context, _ string, epoch, seq int64, b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saves++
	f := d.at[d.saves]
	if d.onSave != nil {
		d.onSave(d.saves)
	}
	if f == beforeWrite {
		panic(died{})
	}
	if f == writeError {
		return errWire
	}
	if f == tornWrite { // the temporary file, which nobody reads
		d.temp = b[:len(b)/2]
		panic(died{})
	}
	if epoch < d.epoch || seq <= d.seq {
		return fmt.Errorf("stale: epoch %d seq %d, stored %d %d", epoch, seq, d.epoch, d.seq)
	}
	if f == tornInPlace {
		if d.mirror != nil { // the very first save has no copy: there nothing was begun
			d.stored = b[:len(b)/2]
		}
		panic(died{})
	}
	d.epoch, d.seq = epoch, seq
	d.stored, d.mirror = b, b
	switch f {
	case afterWrite:
		panic(died{})
	case lostReply:
		return errWire
	}
	return nil
}

// live runs one process until it ends or dies; unwind starts it as "rollback".
func (w *world) live(ctx context.Context, unwind bool) (res Result, dead bool) {
	defer w.honest()
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case died:
			dead = true
		default:
			panic(r)
		}
	}()
	p := w.process()
	j, err := LoadJournal(ctx, w.disk, "run-1")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j = NewJournal(p.plan(), w.disk, p.epoch, time.Unix(0, 0))
	case err != nil:
		w.t.Fatalf("cannot load: %v", err)
	default:
		if err := j.Adopt(w.disk, p.epoch); err != nil {
			w.t.Fatal(err)
		}
	}
	if unwind && !j.Asked {
		return Unwind(ctx, p.plan(), j, Options{}), false
	}
	return Execute(ctx, p.plan(), j, Options{}), false
}

// honest checks what must be true whenever a process has ended, however it did: no
// step is half way, there, or gone, without the durable journal saying so.
func (w *world) honest() {
	w.t.Helper()
	marks := map[string]Mark{}
	if b, err := w.disk.Load(w.t.Context(), "run-1"); err == nil {
		j, err := ParseJournal(b)
		if err != nil {
			w.t.Errorf("a process has ended and the journal cannot be read: %v", err)
			return
		}
		marks = j.Marks
	}
	for _, n := range w.names {
		state := marks[n].State
		switch {
		case w.applied[n] && (state == Pending || state == Back):
			w.t.Errorf("the effect of %s is there, and the journal says %q", n, state)
		case !w.applied[n] && state == Finish:
			w.t.Errorf("the effect of %s is not there, and the journal says %q", n, state)
		}
	}
}

// settle resumes until the run is over or waits for a person for good.
func (w *world) settle(unwind bool) Result {
	for range 30 {
		res, dead := w.live(w.t.Context(), unwind)
		if dead || res.Status == LostJournal {
			continue
		}
		if res.Status == Person && w.heals && res.UndoErr != nil {
			continue
		}
		return res
	}
	w.t.Fatal("the run does not come to an end")
	return Result{}
}

// agrees checks that what is there is what the result and the journal say.
func (w *world) agrees(res Result) {
	w.t.Helper()
	for i, n := range w.names {
		want := res.Status == Done || (w.passed && i <= w.oneWay)
		// Past a one-way step nothing is taken back: what follows it stays as far as it got.
		if stays := w.passed && res.Status == Person && i > w.oneWay; !stays && w.applied[n] != want {
			w.t.Errorf("the run is %s and the effect of %s is there: %v", res.Status, n, w.applied[n])
		}
		if most := 2; w.turns[n] > most {
			w.t.Errorf("the effect of %s changed %d times", n, w.turns[n])
		}
	}
	j, err := ParseJournal(w.disk.stored)
	if err != nil {
		w.t.Fatal(err)
	}
	if j.Outcome != res.Status && res.JournalErr == nil {
		w.t.Errorf("the journal says %q, the result %q", j.Outcome, res.Status)
	}
	for _, s := range j.Steps {
		there := j.Marks[s.Name].State == Finish || (j.Marks[s.Name].State == Failed && w.passed)
		if there != w.applied[s.Name] {
			w.t.Errorf("the journal says %q of %s, whose effect is there: %v", j.Marks[s.Name].State, s.Name, w.applied[s.Name])
		}
	}
}
