package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The model: two operators and a careless one who unlocks by what was shown some
// time ago, the real lease and shelf over a disk in memory, three hosts with a
// fence, a network that delivers whatever was sent at any later time, also after
// its sender died, was frozen or lost the lease, and loses answers. The keeper's
// clock goes on, or jumps an hour either way, and its disk is put back to an older
// state. A raising waits for the changes of lower epochs that go on, or ends them.
// One random choice after another decides who moves.
//
// What must hold: from the moment a holder's first change begins on any host, no
// change of an earlier holder begins or is still going on, on any host; and the
// shelf never takes a save of an earlier epoch after one of a later.

// memory is a disk for the model: fast, and always well.
type memory struct{ files map[string][]byte }

func (m *memory) MkdirAll(string, fs.FileMode) error { return nil }

func (m *memory) Create(path string, _ fs.FileMode) (File, error) {
	return &memoryFile{m: m, path: path}, nil
}

func (m *memory) ReadFile(path string) ([]byte, error) {
	b, ok := m.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (m *memory) ReadDir(string) ([]fs.DirEntry, error) { return nil, nil }
func (m *memory) SyncDir(string) error                  { return nil }

func (m *memory) Rename(from, to string) error {
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memory) Remove(path string) error {
	delete(m.files, path)
	return nil
}

type memoryFile struct {
	bytes.Buffer
	m    *memory
	path string
}

func (f *memoryFile) Sync() error { return nil }

func (f *memoryFile) Close() error {
	f.m.files[f.path] = bytes.Clone(f.Bytes())
	return nil
}

// flaws are mistakes put into the protocol, to see that the model finds them.
type flaws struct {
	noFence       bool // hosts do not compare epochs
	raiseLazily   bool // the fence is raised only on the host about to be changed
	skipCutHosts  bool // a host that cannot be reached is left out when raising
	raiseNotWait  bool // raising does not wait for the changes going on
	shelfBlind    bool // the shelf does not compare with the lease
	keepLeaseOpen bool // a lease that only just expired is taken, and nobody is fenced
	equalIsMine   bool // a host takes an epoch that another raised for the caller's own
	forgetFences  bool // a keeper put back to an older file does not ask what hosts have seen
}

// modelHost has a fence as hosts/node has it: an exclusive lock to raise it, a
// shared one to change the host.
type modelHost struct {
	fence  int64
	holder string // who raised it
	active map[*message]bool
}

// message is one call on its way to a host, or going on there.
type message struct {
	what  string // "raise", "change", "save"
	from  *operator
	token string // of the process that sent it
	epoch int64
	host  int
	seq   int64
}

type operator struct {
	name   string
	keeper Holder
	epoch  int64
	raised []bool
	busy   bool // waits for the answer to one message
	asked  bool // has asked every host for its fence
	above  int64
	frozen bool
	alive  int // counts processes, for their tokens
}

type model struct {
	r       *rand.Rand
	f       flaws
	store   *store
	clock   *clock
	hosts   []*modelHost
	ops     []*operator
	sent    []*message // not yet arrived
	running []*message // changes going on
	began   int64      // the highest epoch under which a change began
	saved   int64      // the epoch of the last save that was taken
	seen    Lease      // what was shown to the one who unlocks
	old     map[string][]byte
	oldSave int64
	met     map[string]int // how often the rare things came to pass
	seq     int64
	changes map[string]bool
	wrong   []string
}

func newModel(seed uint64, f flaws) *model {
	c := &clock{now: time.Unix(1e9, 0).UTC()}
	m := &model{r: rand.New(rand.NewPCG(seed, 1)), f: f, clock: c, changes: map[string]bool{}, met: map[string]int{}}
	m.store = &store{
		dir: "/k", fs: &memory{files: map[string][]byte{}}, now: c.Now,
		lock: func(context.Context, string) (func() error, error) { return func() error { return nil }, nil },
	}
	for range 3 {
		m.hosts = append(m.hosts, &modelHost{active: map[*message]bool{}})
	}
	for _, n := range []string{"ana", "bob"} {
		o := &operator{name: n}
		o.restart()
		m.ops = append(m.ops, o)
	}
	return m
}

// restart is a new process of the same person.
func (o *operator) restart() {
	o.alive++
	*o = operator{name: o.name, alive: o.alive, keeper: Holder{User: o.name, Token: fmt.Sprint(o.name, o.alive)}}
}

// step lets one thing happen.
func (m *model) step(t *testing.T) {
	switch n := m.r.IntN(100); {
	case n < 8:
		m.clock.forward(time.Duration(m.r.IntN(70)) * time.Second)
	case n < 11:
		m.unlock(t)
	case n < 12:
		m.disturb()
	case n < 40 && len(m.sent) > 0:
		m.arrive(t, m.r.IntN(len(m.sent)))
	case n < 55 && len(m.running) > 0:
		m.finish(m.r.IntN(len(m.running)))
	default:
		m.act(t, m.ops[m.r.IntN(len(m.ops))])
	}
}

// unlock is somebody who looks at the lease and, later, takes it from the holder
// that was shown, rightly or not, and fences the hosts.
func (m *model) unlock(t *testing.T) {
	if m.seen.Epoch == 0 || m.r.IntN(2) == 0 {
		l, err := m.store.lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m.seen = l
		return
	}
	eve := &operator{name: "eve", keeper: Holder{User: "eve", Token: fmt.Sprint("eve", m.seq)}, raised: make([]bool, len(m.hosts))}
	seen := m.seen
	m.seen = Lease{}
	if !seen.Held {
		return
	}
	l, err := m.store.take(t.Context(), takeIn{Holder: eve.keeper, Epoch: seen.Epoch, Above: m.above()})
	switch {
	case errors.Is(err, ErrStale):
		m.met["unlock refused: stale evidence"]++
		return
	case err != nil:
		t.Fatal(err)
	case l.Held || l.Freed == nil || l.Freed.By.Token != eve.keeper.Token:
		return // it was free already
	}
	m.met["unlocked"]++
	eve.epoch = l.Epoch
	for i := range m.hosts {
		m.send(eve, "raise", i)
	}
}

// above is the highest fence that any host has.
func (m *model) above() int64 {
	if m.f.forgetFences {
		return 0
	}
	var highest int64
	for _, h := range m.hosts {
		highest = max(highest, h.fence)
	}
	return highest
}

// disturb is what no operator does.
func (m *model) disturb() {
	disk := m.store.fs.(*memory)
	switch m.r.IntN(6) {
	case 0:
		m.met["clock forward"]++
		m.clock.forward(time.Hour)
	case 1:
		m.met["clock back"]++
		m.clock.forward(-time.Hour)
	case 2, 3:
		m.old, m.oldSave = maps.Clone(disk.files), m.saved
	default:
		if m.old != nil {
			m.met["keeper put back"]++
			disk.files, m.saved = maps.Clone(m.old), m.oldSave
		}
	}
}

// act lets an operator do what comes next for it.
func (m *model) act(t *testing.T, o *operator) {
	switch n := m.r.IntN(40); {
	case n == 0:
		o.restart() // died; what it sent is still on its way
		return
	case n == 1:
		o.frozen = true
	case n < 5:
		o.frozen = false
	}
	if o.frozen || o.busy {
		return
	}
	if o.epoch == 0 && !o.asked {
		o.asked, o.above = true, m.above() // before acquiring, and not in one with it
		return
	}
	if o.epoch == 0 {
		o.asked = false
		l, err := m.store.acquire(t.Context(), acquireIn{Holder: o.keeper, TTL: time.Minute, Above: o.above})
		if err == nil && m.r.IntN(10) == 0 {
			m.met["answer to acquire lost"]++
			return
		}
		var held *HeldError
		if errors.As(err, &held) {
			if m.f.keepLeaseOpen && held.Lease.Expired() {
				o.epoch, o.raised = held.Lease.Epoch, []bool{true, true, true}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		o.epoch, o.raised = l.Epoch, make([]bool, len(m.hosts))
		return
	}
	if m.r.IntN(3) == 0 {
		taken, err := m.store.renew(t.Context(), renewIn{Epoch: o.epoch, Token: o.keeper.Token})
		if err != nil {
			t.Fatal(err)
		}
		if taken {
			o.restart()
			return
		}
	}
	h := m.r.IntN(len(m.hosts))
	for i, up := range o.raised {
		if up || m.f.raiseLazily && i != h {
			continue
		}
		if m.f.skipCutHosts && m.r.IntN(4) == 0 {
			o.raised[i] = true
			return
		}
		m.send(o, "raise", i)
		return
	}
	if m.r.IntN(5) == 0 {
		m.send(o, "save", 0)
		return
	}
	m.send(o, "change", h)
}

func (m *model) send(o *operator, what string, host int) {
	m.seq++
	o.busy = true
	m.sent = append(m.sent, &message{what: what, from: o, token: o.keeper.Token, epoch: o.epoch, host: host, seq: m.seq})
}

// answered tells the sender, if it is still the same process; or the answer is
// lost, and the sender hears of a broken link.
func (m *model) answered(msg *message, ok bool) {
	o := msg.from
	if o.epoch != msg.epoch || o.keeper.Token != msg.token {
		return
	}
	o.busy = false
	if m.r.IntN(10) == 0 {
		m.met["answer lost"]++
		if msg.what == "save" {
			m.sent = append(m.sent, msg) // a save is tried again
			o.busy = true
		}
		return
	}
	switch {
	case !ok:
		o.restart() // refused: it stops
	case msg.what == "raise":
		o.raised[msg.host] = true
	}
}

func (m *model) arrive(t *testing.T, i int) {
	msg := m.sent[i]
	h := m.hosts[msg.host]
	take := func() { m.sent = append(m.sent[:i], m.sent[i+1:]...) }
	switch msg.what {
	case "save":
		take()
		in := saveIn{ID: "run", Epoch: msg.epoch, Token: msg.token, Seq: msg.seq, Bytes: []byte("x")}
		err := m.store.save(t.Context(), in)
		if m.f.shelfBlind {
			err = nil
		}
		if err != nil && !errors.Is(err, ErrStale) {
			t.Fatal(err)
		}
		if err == nil {
			if msg.epoch < m.saved {
				m.wrong = append(m.wrong, fmt.Sprintf("a save of epoch %d after one of %d", msg.epoch, m.saved))
			}
			m.saved = max(m.saved, msg.epoch)
		}
		m.answered(msg, err == nil)
	case "raise":
		if m.f.raiseNotWait {
			take()
		} else if len(h.active) > 0 {
			if m.r.IntN(4) > 0 || !m.end(h, msg.epoch) {
				return // waits for the exclusive lock
			}
			take()
		} else {
			take()
		}
		ok := msg.epoch > h.fence || msg.epoch == h.fence && (h.holder == msg.token || m.f.equalIsMine)
		if msg.epoch == h.fence && h.holder != msg.token {
			m.met["an epoch given twice"]++
		}
		if ok {
			h.fence, h.holder = msg.epoch, msg.token
		}
		m.answered(msg, ok)
	case "change":
		take()
		if msg.epoch < h.fence && !m.f.noFence {
			m.answered(msg, false)
			return
		}
		m.begin(msg, h)
	}
}

// end kills the changes of lower epochs that hang on a host; false if others go on.
func (m *model) end(h *modelHost, epoch int64) bool {
	for msg := range h.active {
		if msg.epoch >= epoch {
			return false
		}
	}
	for msg := range h.active {
		delete(h.active, msg)
		m.running = slices.DeleteFunc(m.running, func(other *message) bool { return other == msg })
		m.met["change ended by a raising"]++
	}
	return true
}

// begin is where the rule is checked.
func (m *model) begin(msg *message, h *modelHost) {
	if msg.epoch < m.began {
		m.wrong = append(m.wrong, fmt.Sprintf("a change of epoch %d begins after one of %d", msg.epoch, m.began))
	}
	for _, other := range m.running {
		if other.epoch < msg.epoch || other.token != msg.token && other.epoch == msg.epoch {
			m.wrong = append(m.wrong, fmt.Sprintf("a change of epoch %d by %s begins while one of %d by %s goes on", msg.epoch, msg.from.name, other.epoch, other.from.name))
		}
	}
	m.began = max(m.began, msg.epoch)
	h.active[msg] = true
	m.running = append(m.running, msg)
	m.changes[msg.from.name] = true
}

func (m *model) finish(i int) {
	msg := m.running[i]
	m.running = append(m.running[:i], m.running[i+1:]...)
	delete(m.hosts[msg.host].active, msg)
	m.answered(msg, true)
}

// course is how often things happened in all courses together.
type course map[string]int

// walk runs the model from the seeds in [from, to) and returns the first thing wrong.
func walk(t *testing.T, f flaws, from, to uint64) (wrong string, met course) {
	met = course{}
	for seed := from; seed < to; seed++ {
		m := newModel(seed, f)
		for range 600 {
			m.step(t)
			if len(m.wrong) > 0 {
				return fmt.Sprintf("seed %d: %s", seed, strings.Join(m.wrong, "; ")), met
			}
		}
		if len(m.changes) == len(m.ops) {
			met["both operators changed something"]++
		}
		for what, n := range m.met {
			met[what] += n
		}
	}
	return "", met
}

func TestNeverDoTwoHoldersChangeTheFleetInAnyInterleaving(t *testing.T) {
	seeds := uint64(1000)
	if raced {
		seeds /= 5
	}
	met := course{}
	var mu sync.Mutex
	t.Cleanup(func() { isNotTame(t, met) })
	for half := range uint64(2) { // two cores are what every machine has
		t.Run(fmt.Sprintf("half %d", half+1), func(t *testing.T) {
			t.Parallel()
			wrong, part := walk(t, flaws{}, half*seeds/2, (half+1)*seeds/2)
			mu.Lock()
			defer mu.Unlock()
			if wrong != "" {
				t.Error(wrong)
			}
			for what, n := range part {
				met[what] += n
			}
		})
	}
}

// isNotTame asks that everything that can happen did.
func isNotTame(t *testing.T, met course) {
	t.Helper()
	t.Log(met)
	for _, what := range []string{
		"both operators changed something", "unlocked", "unlock refused: stale evidence", "clock forward", "clock back", "keeper put back",
		"answer lost", "answer to acquire lost", "change ended by a raising", "an epoch given twice",
	} {
		if met[what] == 0 {
			t.Errorf("in no course: %s. The model is too tame", what)
		}
	}
}
