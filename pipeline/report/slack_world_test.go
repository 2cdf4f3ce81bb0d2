package report

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/slacktest"
)

// memory is a disk that outlives its processes.
type memory struct {
	mu    sync.Mutex
	b     []byte
	saves int
}

func (m *memory) load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return nil, fs.ErrNotExist
	}
	return m.b, nil
}

func (m *memory) save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b, m.saves = append([]byte{}, b...), m.saves+1
	return nil
}

// pass lets the bubble's clock go on.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// story is one run told to a Slack.
type story struct {
	t     *testing.T
	slack *slacktest.Server
	disk  *memory
	o     SlackOptions
	s     *Slack
	run   Run
}

func begin(t *testing.T, change func(*SlackOptions)) *story {
	t.Helper()
	return beginWith(t, slacktest.Options{}, change)
}

func beginWith(t *testing.T, so slacktest.Options, change func(*SlackOptions)) *story {
	t.Helper()
	x := &story{t: t, slack: slacktest.New(so), disk: &memory{}}
	x.o = SlackOptions{Token: x.slack.Token(), Channel: x.slack.Channel(), Client: x.slack.Client(), Base: x.slack.Base(), disk: x.disk}
	if change != nil {
		change(&x.o)
	}
	x.run = Run{
		ID: "20260101-000000-abcde", Fleet: "vmst.io", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15",
		Why: "upgrade --to v4.5.15", Who: "ops on bridge", Began: time.Now(),
		Hosts: []HostRow{{Name: "kirk", Roles: "web", Release: "v4.5.14", State: "serving"}, {Name: "spock", Roles: "web", Release: "v4.5.14", State: "serving"}},
		Steps: []pipeline.StepResult{{Name: "build", Host: "uhura"}, {Name: "roll web kirk", Host: "kirk"}, {Name: "roll web spock", Host: "spock"}},
	}
	x.open()
	return x
}

func (x *story) open() {
	x.t.Helper()
	s, err := NewSlack(x.o)
	if err != nil {
		x.t.Fatal(err)
	}
	x.s = s
}

func (x *story) tell(e pipeline.Event) {
	x.t.Helper()
	e.Time, e.Run, e.Total = time.Now(), x.run.ID, len(x.run.Steps)
	for i, s := range x.run.Steps {
		if s.Name == e.Step {
			e.Index = i + 1
			if e.Host == "" {
				e.Host = s.Host
			}
		}
	}
	before := time.Now()
	x.s.Observe(e)
	if took := time.Since(before); took != 0 {
		x.t.Errorf("telling %s took %s", e.Kind, took)
	}
}

// channel are the messages that stand in the channel itself.
func (x *story) channel() []slacktest.Message {
	var out []slacktest.Message
	for _, m := range x.slack.Messages() {
		if m.Thread == "" {
			out = append(out, m)
		}
	}
	return out
}

// root is the only message of the channel.
func (x *story) root() slacktest.Message {
	x.t.Helper()
	list := x.channel()
	if len(list) != 1 {
		x.t.Fatalf("%d messages in the channel: %+v", len(list), list)
	}
	return list[0]
}

// all is everything that is shown now.
func (x *story) all() string {
	var b strings.Builder
	for _, m := range x.slack.Messages() {
		fmt.Fprintf(&b, "--- %s loud=%t %s\n%s\n", m.Key, m.Broadcast, m.Thread, m.Said[len(m.Said)-1])
	}
	return b.String()
}

// lawful fails the test if Slack's rules were broken.
func (x *story) lawful() {
	x.t.Helper()
	for _, v := range x.slack.Violations() {
		x.t.Error("against Slack's rules: ", v)
	}
	for _, m := range x.slack.Messages() {
		if blocks := string(m.Blocks); strings.Count(blocks, `"type":"mrkdwn"`) != strings.Count(blocks, `"verbatim":true`) || m.Edits() > 0 && m.Parse != "none" {
			x.t.Errorf("Slack would make mentions of plain words (parse %q): %s", m.Parse, blocks)
		}
	}
}

func (x *story) close(limit time.Duration) []string {
	x.t.Helper()
	began := time.Now()
	said := x.s.Close(limit)
	if took := time.Since(began); took > limit+2*time.Second {
		x.t.Errorf("closing took %s, allowed are %s", took, limit)
	}
	return said
}

// has fails the test unless a text holds each of the parts.
func has(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%.3000s", what, p, text)
		}
	}
}

// deadly ends a process at its n-th deed: a save, or a call to Slack; before that has
// had its effect, or after, when the process does not learn of it.
type deadly struct {
	mu    sync.Mutex
	n     int
	after bool
	deeds int
	what  string
	dead  chan struct{}
	disk  *memory
	way   http.RoundTripper
}

var errDead = errors.New("the process is dead")

// deed counts one, and tells whether it happens and whether it is known to.
func (d *deadly) deed(what string) (happens, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.dead:
		return false, false
	default:
	}
	if d.deeds++; d.deeds == d.n {
		d.what = what
		close(d.dead)
		return d.after, false
	}
	return true, true
}

func (d *deadly) load() ([]byte, error) { return d.disk.load() }

func (d *deadly) save(b []byte) error {
	happens, known := d.deed("save")
	if happens {
		if err := d.disk.save(b); err != nil {
			return err
		}
	}
	if !known {
		return errDead
	}
	return nil
}

func (d *deadly) RoundTrip(r *http.Request) (*http.Response, error) {
	happens, known := d.deed(r.URL.Path)
	if !happens {
		return nil, errDead
	}
	resp, err := d.way.RoundTrip(r)
	if !known {
		return nil, errDead
	}
	return resp, err
}

// live spares it from now on.
func (d *deadly) live() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n = -1
}

// mortal makes the story's process one that dies.
func (x *story) mortal(n int, after bool) *deadly {
	d := &deadly{n: n, after: after, dead: make(chan struct{}), disk: x.disk, way: x.slack.Client().Transport}
	x.o.disk, x.o.Client = d, &http.Client{Transport: d}
	return d
}

// bury ends what is left of a dead process: nothing of it reaches anybody.
func (x *story) bury() {
	x.s.cancel()
	<-x.s.ended
}

func (d *deadly) isDead() bool {
	select {
	case <-d.dead:
		return true
	default:
		return false
	}
}
