package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"vmst.io/refit/pipeline"
)

// SlackOptions are the choices of NewSlack.
type SlackOptions struct {
	// Token is a bot token (xoxb-…) with the scope chat:write, and channels:history
	// or groups:history to find again what was sent when an answer is lost. Empty for
	// a webhook.
	Token string
	// Webhook is the URL of an incoming webhook, the lesser way: it cannot edit, so
	// it sends few messages, and one whose answer is lost may stand there twice.
	Webhook string
	// Channel is the channel's ID (C…); a webhook has its own.
	Channel string
	// State is the file that remembers what was sent; its folder is made. Each run has
	// its own, so that no two processes write one. Empty to remember nothing.
	State string
	// Deadline is how long a message waits for Slack before it is given up; 0 for ten
	// minutes. The run's own message, which is kept up to date, waits for ever.
	Deadline time.Duration
	// Redact cuts secrets out of every text; nil for Redactor with the token and the
	// webhook.
	Redact func(string) string
	// Escalate is how long before a release's deadline the team is reminded; nil for
	// a day, six hours, and when it has passed.
	Escalate []time.Duration
	// Pace is shared with other tellers of the same channel in this process; nil for
	// one of its own.
	Pace *SlackPace
	// Client for HTTP; nil for one of its own.
	Client *http.Client
	// Base is the address of the Web API; empty for Slack's.
	Base string

	disk slackDisk // instead of the file
}

const (
	slackDeadline = 10 * time.Minute
	slackRoom     = 4096             // inputs that wait while a call to Slack is under way
	slackCall     = 10 * time.Second // for one call
	slackKeep     = 90 * 24 * time.Hour
)

// Run is what is known of a run before it begins.
type Run struct {
	ID string
	// Fleet, Kind ("upgrade"), From and To name it.
	Fleet, Kind, From, To string
	// Why is the command or the decision that began it, Who the person or machine.
	Why, Who string
	// Began is when the run began, which for a resumed one is in its journal.
	Began time.Time
	// Resumed: an earlier process, maybe on another machine, worked on it.
	Resumed bool
	// Over: the run has ended, in an earlier process; only what that one did not live
	// to tell is told.
	Over bool
	// Hosts as they stand; Steps of the plan, in order, as the journal has them.
	Hosts []HostRow
	Steps []pipeline.StepResult
}

// Slack tells a channel of runs, one after another, and of releases; a process that
// does both needs one alone. It observes the engine's events:
// each call returns at once, and what Slack does or does not answer never fails or
// delays a run. Close says what could not be told.
type Slack struct {
	work    *slackWork
	in      chan slackInput
	closing chan struct{}
	ended   chan struct{}
	cancel  context.CancelFunc

	mu     sync.Mutex
	over   bool
	missed int
}

// slackInput is one thing to be told.
type slackInput struct {
	event   *pipeline.Event
	run     *Run
	report  *Report
	release *Release
	notice  *notice
}

// NewSlack begins to tell, from a goroutine of its own, until Close. Messages that an
// earlier process queued and did not send are sent now; one whose answer it did not
// live to see is looked for first.
func NewSlack(o SlackOptions) (*Slack, error) {
	if o.Redact == nil {
		o.Redact = Redactor(o.Token, o.Webhook)
	}
	if o.Deadline <= 0 {
		o.Deadline = slackDeadline
	}
	if o.Escalate == nil {
		o.Escalate = []time.Duration{24 * time.Hour, 6 * time.Hour, 0}
	}
	if o.Pace == nil {
		o.Pace = NewSlackPace()
	}
	door, err := slackWay(o)
	if err != nil {
		return nil, err
	}
	disk := o.disk
	if disk == nil && o.State != "" {
		disk = slackFile(o.State)
		forgetOld(filepath.Dir(o.State))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Slack{
		in: make(chan slackInput, slackRoom), closing: make(chan struct{}), ended: make(chan struct{}),
		cancel: cancel, work: newSlackWork(o, door, disk),
	}
	go func() {
		defer close(s.ended)
		s.work.loop(ctx, s.in, s.closing)
	}()
	return s, nil
}

// slackWay is the bot's way or the webhook's.
func slackWay(o SlackOptions) (slackDoor, error) {
	client := o.Client
	if client == nil {
		client = &http.Client{Timeout: 2 * slackCall}
	}
	switch {
	case o.Token != "" && o.Channel == "":
		return nil, errors.New("no channel for Slack is named")
	case o.Token != "":
		options := []slack.Option{slack.OptionHTTPClient(client)}
		if o.Base != "" {
			options = append(options, slack.OptionAPIURL(o.Base))
		}
		return &bot{api: slack.New(o.Token, options...), channel: o.Channel}, nil
	case o.Webhook != "":
		return &webhook{url: o.Webhook, client: client}, nil
	}
	return nil, errors.New("neither a token nor a webhook for Slack is given")
}

// runFile is the name of a run's state file. Another's, as that of the releases, is
// kept: without it all of them would be announced again.
var runFile = regexp.MustCompile(`^slack-[0-9]{8}-[0-9]{6}-[a-z0-9]+\.json$`)

// forgetOld removes what was told of runs that ended months ago. What cannot be
// removed only takes room.
func forgetOld(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return // nothing was told yet
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !f.Type().IsRegular() || time.Since(info.ModTime()) <= slackKeep || !runFile.MatchString(f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return // the others would meet the same
		}
	}
}

// SlackState names the state file of a subject (a run's ID, "releases") in a folder.
func SlackState(dir, subject string) string {
	return filepath.Join(dir, "slack-"+subject+".json")
}

// slackNews is how long a run's end is news to people.
const slackNews = 24 * time.Hour

// SlackUnfinished tells whether a run's state file, of the last day, has something
// that was not told: messages that wait, or no word of the run's end.
func SlackUnfinished(path string) bool {
	info, err := os.Stat(path)
	if err != nil || time.Since(info.ModTime()) > slackNews {
		return false
	}
	b, err := slackFile(path).load()
	var s slackState
	if err != nil || json.Unmarshal(b, &s) != nil || s.Format != slackFormat || len(s.Posts) == 0 {
		return false // nothing was told, so nothing is left half told
	}
	ended := false
	for key := range s.Told {
		ended = ended || strings.Contains(key, "/end/")
	}
	return !ended || slices.ContainsFunc(s.Posts, func(p *post) bool { return p.open() || p.stale(false) })
}

// Begin says which run the events to come are of. Nothing is sent before its
// RunStarted.
func (s *Slack) Begin(r Run) {
	r.Hosts, r.Steps = slices.Clone(r.Hosts), slices.Clone(r.Steps)
	s.take(slackInput{run: &r})
}

// Observe takes an event.
func (s *Slack) Observe(e pipeline.Event) { s.take(slackInput{event: &e}) }

// End adds what is known after a run's end.
func (s *Slack) End(r Report) { s.take(slackInput{report: &r}) }

// Release tells of a release that was seen, or, when told again, edits that message
// and reminds the team as the deadline nears. It may be called at each look.
func (s *Slack) Release(r Release) { s.take(slackInput{release: &r}) }

// Notice tells something that is no release's and no run's: an alarm of the watcher's.
// What has the same key is told once, however often it is said, and by which process.
func (s *Slack) Notice(key, text string) { s.take(slackInput{notice: &notice{key, text}}) }

func (s *Slack) take(in slackInput) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	select {
	case s.in <- in:
	default:
		s.missed++
	}
}

// Trouble is what keeps Slack from being told at the moment, or what was told from being
// remembered; empty if nothing is known to. It is for processes that run for months: a
// run's end says it anyway.
func (s *Slack) Trouble() string {
	var all []string
	for _, words := range []*string{s.work.says.Load(), s.work.loses.Load()} {
		if words != nil {
			all = append(all, *words)
		}
	}
	return strings.Join(all, "; ")
}

// Close sends what is left, at most so long, and says what could not be told and
// why, in lines for the run's report; none if all was.
func (s *Slack) Close(limit time.Duration) []string {
	s.mu.Lock()
	missed := s.missed
	if !s.over {
		s.over = true
		s.work.cutoff = time.Now().Add(limit)
		close(s.closing)
	}
	s.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-t.C:
		s.cancel()
		// A disk that hangs is the only thing left that could hold this up.
		grace := time.NewTimer(2 * time.Second)
		defer grace.Stop()
		select {
		case <-s.ended:
		case <-grace.C:
			return []string{"Slack may not have been told all: " + s.work.diskName() + " does not answer"}
		}
	}
	s.cancel()
	var out []string
	if missed > 0 {
		out = append(out, fmt.Sprintf("Slack was not told of %d events: they came faster than they could be taken in", missed))
	}
	return append(out, s.work.untold()...)
}
