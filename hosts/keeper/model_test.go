package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The model: two operators and a careless one who unlocks, the real lease and
// shelf over a disk in memory, three hosts with a fence, and a network that
// delivers whatever was sent at any later time, also after its sender died, was
// frozen or lost the lease. One random choice after another decides who moves.
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
}

// modelHost has a fence as hosts/node has it: an exclusive lock to raise it, a
// shared one to change the host.
type modelHost struct {
	fence  int64
	active map[*message]bool
}

// message is one call on its way to a host, or going on there.
type message struct {
	what  string // "raise", "change", "save"
	from  *operator
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
	seq     int64
	changes map[string]bool
	wrong   []string
}

func newModel(seed uint64, f flaws) *model {
	c := &clock{now: time.Unix(1e9, 0).UTC()}
	m := &model{r: rand.New(rand.NewPCG(seed, 1)), f: f, clock: c, changes: map[string]bool{}}
	m.store = &store{
		dir: "/k", fs: &memory{files: map[string][]byte{}}, now: c.Now,
		lock: func(string) (func() error, error) { return func() error { return nil }, nil },
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
	case n < 10: // somebody unlocks, rightly or not
		l, err := m.store.lease(t.Context())
		if err == nil && l.Held {
			_, err = m.store.take(t.Context(), takeIn{Holder: Holder{User: "eve", Token: fmt.Sprint(l.Epoch)}, Epoch: l.Epoch})
		}
		if err != nil {
			t.Fatal(err)
		}
	case n < 40 && len(m.sent) > 0:
		m.arrive(t, m.r.IntN(len(m.sent)))
	case n < 55 && len(m.running) > 0:
		m.finish(m.r.IntN(len(m.running)))
	default:
		m.act(t, m.ops[m.r.IntN(len(m.ops))])
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
	if o.epoch == 0 {
		l, err := m.store.acquire(t.Context(), acquireIn{Holder: o.keeper, TTL: time.Minute, Above: 0})
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
		taken, err := m.store.renew(t.Context(), renewIn{Epoch: o.epoch})
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
	m.sent = append(m.sent, &message{what: what, from: o, epoch: o.epoch, host: host, seq: m.seq})
}

// answered tells the sender, if it is still the same process.
func (msg *message) answered(ok bool) {
	o := msg.from
	if o.epoch != msg.epoch {
		return
	}
	o.busy = false
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
		in := saveIn{ID: "run", Epoch: msg.epoch, Seq: msg.seq, Bytes: []byte("x")}
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
		msg.answered(err == nil)
	case "raise":
		if len(h.active) > 0 && !m.f.raiseNotWait {
			return // waits for the exclusive lock
		}
		take()
		ok := msg.epoch >= h.fence
		if ok {
			h.fence = msg.epoch
		}
		msg.answered(ok)
	case "change":
		take()
		if msg.epoch < h.fence && !m.f.noFence {
			msg.answered(false)
			return
		}
		m.begin(msg, h)
	}
}

// begin is where the rule is checked.
func (m *model) begin(msg *message, h *modelHost) {
	if msg.epoch < m.began {
		m.wrong = append(m.wrong, fmt.Sprintf("a change of epoch %d begins after one of %d", msg.epoch, m.began))
	}
	for _, other := range m.running {
		if other.epoch < msg.epoch || other.from.name != msg.from.name && other.epoch == msg.epoch {
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
	msg.answered(true)
}

// walk runs the model from many seeds and returns the first thing wrong.
func walk(t *testing.T, f flaws, seeds uint64) (wrong string, holders map[string]bool) {
	holders = map[string]bool{}
	for seed := range seeds {
		m := newModel(seed, f)
		for range 600 {
			m.step(t)
			if len(m.wrong) > 0 {
				return fmt.Sprintf("seed %d: %s", seed, strings.Join(m.wrong, "; ")), holders
			}
		}
		if len(m.changes) == len(m.ops) {
			holders["both in one course"] = true
		}
	}
	return "", holders
}

func TestNeverDoTwoHoldersChangeTheFleetInAnyInterleaving(t *testing.T) {
	wrong, holders := walk(t, flaws{}, 400)
	if wrong != "" {
		t.Error(wrong)
	}
	if !holders["both in one course"] {
		t.Error("in no course did both operators come to change anything: the model is too tame")
	}
}

func TestTheModelFindsEachFlawPutIntoTheProtocol(t *testing.T) {
	for name, f := range map[string]flaws{
		"hosts do not compare epochs":             {noFence: true},
		"the fence is raised host by host":        {raiseLazily: true},
		"a host that is cut off is left out":      {skipCutHosts: true},
		"raising does not wait for changes":       {raiseNotWait: true},
		"the shelf does not compare epochs":       {shelfBlind: true},
		"an expired lease is shared by its epoch": {keepLeaseOpen: true},
	} {
		if wrong, _ := walk(t, f, 400); wrong == "" {
			t.Errorf("%s: nothing was found", name)
		} else {
			t.Logf("%s: %s", name, wrong)
		}
	}
}
