package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// slackFormat is the number of the state file's format.
const slackFormat = 1

// slackState is what is remembered of the messages of one run, or of the releases
// that were seen: what was said, and as what Slack knows it.
type slackState struct {
	Format  int    `json:"format"`
	Channel string `json:"channel,omitempty"`
	// Seq numbers the messages that hold details.
	Seq int `json:"seq,omitempty"`
	// Told are the keys of lines and messages that were queued once; they are not
	// queued again by a process that takes the run over.
	Told map[string]bool `json:"told,omitempty"`
	// Lines wait to be put together into a message.
	Lines []detail `json:"lines,omitempty"`
	Posts []*post  `json:"posts,omitempty"`
	// Dropped counts lines that there was no room or no time for.
	Dropped int `json:"dropped,omitempty"`

	// blank: nothing was remembered, so what is queued may stand in Slack already.
	blank bool
}

// detail is a line for the thread.
type detail struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// post is one message, queued, sent or given up.
type post struct {
	// Key is the message's own; it stands in Slack's metadata too.
	Key string `json:"key"`
	// Thread is the key of the message that this one answers; empty for one of the
	// channel.
	Thread string `json:"thread,omitempty"`
	// Loud shows a reply in the channel too.
	Loud bool `json:"loud,omitempty"`
	// Few: one of the few messages that a webhook sends.
	Few bool `json:"few,omitempty"`
	// Body is what the message is to say; Shown the digest of what Slack is known to
	// show, and ShownFoot the same with the foot.
	Body      body      `json:"body"`
	Shown     string    `json:"shown,omitempty"`
	ShownFoot string    `json:"shown_foot,omitempty"`
	Queued    time.Time `json:"queued"`
	// NotBefore holds a message back for what may still be added to it.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Until is when the message is of no use any more; zero for never.
	Until time.Time `json:"until,omitzero"`
	// Tried is when it was sent and no answer had come yet: such a message is looked
	// for before it is sent again. Zero while it surely was not taken.
	Tried time.Time `json:"tried,omitzero"`
	// Foreign: another machine may have posted it, which its thread then tells.
	Foreign bool `json:"foreign,omitempty"`
	// Again: it may stand there twice, as Slack does not say what was posted.
	Again bool `json:"again,omitempty"`
	// TS is Slack's name of the message; empty until that is known.
	TS string `json:"ts,omitempty"`
	// Edited is when it was last sent or edited.
	Edited time.Time `json:"edited,omitzero"`
	// Frozen: it cannot be edited any more.
	Frozen string `json:"frozen,omitempty"`
	// Given is why it was given up.
	Given string `json:"given,omitempty"`
}

// open tells whether the message is still to be sent.
func (p *post) open() bool { return p.TS == "" && p.Given == "" }

// stale tells whether Slack shows something else than it should.
func (p *post) stale(foot bool) bool {
	if p.TS == "" || p.Frozen != "" {
		return false
	}
	if foot {
		return p.ShownFoot != p.Body.digest(true)
	}
	return p.Shown != p.Body.digest(false)
}

// stands notes that Slack shows the message as it is now.
func (p *post) stands(ts string, now time.Time) {
	p.TS, p.Edited, p.Tried = ts, now, time.Time{}
	p.Shown, p.ShownFoot = p.Body.digest(false), p.Body.digest(true)
}

// slackDisk keeps the state. A test's dies at every call.
type slackDisk interface {
	// load returns fs.ErrNotExist when nothing was kept.
	load() ([]byte, error)
	// save keeps the bytes as a whole: after it returned nil, a crash of the machine
	// leaves these or later ones.
	save([]byte) error
}

// slackFile is a state file on this machine, with mode 0600.
type slackFile string

func (f slackFile) load() ([]byte, error) { return os.ReadFile(string(f)) }

func (f slackFile) save(b []byte) error {
	path := string(f)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := path + ".tmp"
	if err := fillFile(temp, b); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fillFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// forget drops what was told months ago, so that a watcher's state does not grow for
// ever. Keys of releases stay: a release is announced once in a lifetime. It tells
// whether anything was dropped.
func (s *slackState) forget(now time.Time) bool {
	before := len(s.Posts)
	s.Posts = slices.DeleteFunc(s.Posts, func(p *post) bool {
		old := !p.open() && now.Sub(p.Queued) > slackKeep
		if old && p.Thread == "" && strings.HasPrefix(p.Key, "run/") {
			maps.DeleteFunc(s.Told, func(key string, _ bool) bool { return strings.HasPrefix(key, p.Key+"/") })
		}
		return old
	})
	return len(s.Posts) < before
}

// readState loads the state, and tells what was wrong with it: a file that cannot be
// used is replaced by the next save, and what was sent is then found in Slack.
func readState(d slackDisk, channel string) (slackState, error) {
	fresh := slackState{Format: slackFormat, Channel: channel, Told: map[string]bool{}, blank: true}
	b, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("cannot read what was told to Slack: %w", err)
	}
	var s slackState
	switch err := json.Unmarshal(b, &s); {
	case err != nil:
		return fresh, fmt.Errorf("cannot read what was told to Slack: %w", err)
	case s.Format != slackFormat:
		return fresh, fmt.Errorf("what was told to Slack was written by another refit: format %d, this one knows %d", s.Format, slackFormat)
	case s.Channel != channel:
		fresh.blank = false // another channel has heard nothing yet
		return fresh, nil
	}
	if s.Told == nil {
		s.Told = map[string]bool{}
	}
	return s, nil
}
