package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

const (
	// tellLimit is how long what is left to tell may take at a run's end, and
	// abortLimit the same after a second Ctrl-C.
	tellLimit  = 15 * time.Second
	abortLimit = 3 * time.Second
	// askLimit is how long Slack may take to say whether it can be told.
	askLimit = 5 * time.Second
)

// teller is one who is told of runs beside the terminal.
type teller interface {
	pipeline.Observer
	Begin(report.Run)
	// Close tells what is left, at most so long, and says what could not be told.
	Close(limit time.Duration) []string
}

// ender is a teller who wants to know what a run's report says.
type ender interface{ End(report.Report) }

// telling is all who are told of one run. What is wrong with them fails no run.
type telling struct {
	list []teller
	said []string
}

// tellers are those whom refit.yml names, for the run of that ID.
func (x *session) tellers(run string) *telling {
	t := &telling{list: slices.Clone(x.lasting)}
	add := func(one teller, err error) {
		if err != nil {
			t.said = append(t.said, err.Error())
			return
		}
		t.list = append(t.list, one)
	}
	if x.config.Notify.Slack != nil {
		o, _, err := x.slackOptions(run)
		if err != nil {
			t.said = append(t.said, err.Error())
		} else {
			s, err := report.NewSlack(o)
			add(s, err)
		}
	}
	if x.config.Notify.Kuma != nil && x.lasting == nil {
		o, _, err := x.kumaOptions()
		if err != nil {
			t.said = append(t.said, err.Error())
		} else {
			k, err := report.NewKuma(o)
			add(k, err)
		}
	}
	if x.config.GitHub != nil {
		d, _, err := x.config.deployer()
		switch {
		case err != nil:
			t.said = append(t.said, err.Error())
		case d != nil:
			t.list = append(t.list, report.NewDeploy(report.DeployOptions{Deployer: d, Redact: redact(d.token)}))
		}
	}
	if f := x.config.Metrics.Textfile; f != "" {
		m, err := report.NewMetrics(report.MetricsOptions{Fleet: x.config.Fleet, Version: version, Textfile: f})
		add(m, err)
	}
	return t
}

// redact is what every text passes before it leaves this machine.
func redact(secrets ...string) func(string) string {
	last := report.Redactor(secrets...)
	return func(text string) string { return last(mastodon.Scrub(text)) }
}

// slackOptions are those of a subject: a run's ID, or another name for what is told.
func (x *session) slackOptions(subject string) (o report.SlackOptions, known string, err error) {
	c := x.config.Notify.Slack
	o = report.SlackOptions{Channel: c.Channel, Deadline: c.Deadline, Base: c.API, Pace: x.pace}
	if c.Token != nil {
		o.Token, known, err = x.config.secret(c.Token, "Slack's token")
	} else {
		o.Webhook, known, err = x.config.secret(c.Webhook, "Slack's webhook")
	}
	if err != nil {
		return o, "", err
	}
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		return o, "", fmt.Errorf("cannot tell where to remember what Slack was told: %w", err)
	}
	o.State, o.Redact = report.SlackState(filepath.Join(dir, "told"), subject), redact(o.Token, o.Webhook)
	return o, known, nil
}

func (x *session) kumaOptions() (o report.KumaOptions, known string, err error) {
	o.URL, known, err = x.config.secret(x.config.Notify.Kuma.URL, "Uptime Kuma's push URL")
	o.Redact = redact(o.URL)
	return o, known, err
}

// begin says which run is to be told of.
func (t *telling) begin(r report.Run) {
	for _, one := range t.list {
		one.Begin(r)
	}
}

// watched joins the tellers to who else watches.
func (t *telling) watched(others ...pipeline.Observer) pipeline.Observer {
	for _, one := range t.list {
		others = append(others, one)
	}
	return pipeline.Watch(others...)
}

// end tells the report; it is one of a run that has ended.
func (t *telling) end(r report.Report) {
	for _, one := range t.list {
		if e, ok := one.(ender); ok {
			e.End(r)
		}
	}
}

// close tells what is left, all at once, and says what could not be told. ctx is the
// run's: after an abort nobody waits long.
func (t *telling) close(ctx context.Context) []string {
	limit := tellLimit
	if ctx.Err() != nil {
		limit = abortLimit
	}
	said := make([]chan []string, len(t.list))
	for i, one := range t.list {
		said[i] = make(chan []string, 1)
		go func() { said[i] <- one.Close(limit) }()
	}
	out := t.said
	for _, one := range said {
		out = append(out, <-one...)
	}
	t.list, t.said = nil, nil
	return out
}

// untold ends the telling of a run that has no report, and says what could not be told.
func (x *session) untold(ctx context.Context, t *telling) {
	for _, line := range t.close(ctx) {
		x.say("%s", line)
	}
}

// runOf is what the tellers know of a run before it begins.
func (x *session) runOf(e execution, hosts []report.HostRow) report.Run {
	r := report.Run{
		ID: e.plan.ID, Fleet: x.config.Fleet, Kind: e.plan.Kind, From: e.plan.From, To: e.plan.To,
		Why: e.why, Who: x.keeper.Me.User + " on " + x.keeper.Me.Host, Began: time.Now(), Hosts: hosts,
	}
	if e.back {
		r.Kind = "rollback of " + r.Kind
	}
	if j := e.journal; j != nil && j.Seq > 0 {
		r.Resumed, r.Began, r.Steps = true, j.Created, j.Progress()
		return r
	}
	for _, s := range e.plan.Steps {
		r.Steps = append(r.Steps, pipeline.StepResult{Name: s.Name(), Host: s.Host})
	}
	return r
}

// lookBack tells the end of a run whose process did not live to tell it.
func (x *session) lookBack(ctx context.Context, j *pipeline.Journal, say func(string, ...any)) {
	if j == nil || j.Outcome == "" || x.config.Notify.Slack == nil {
		return
	}
	o, _, err := x.slackOptions(j.ID)
	if err != nil || !report.SlackUnfinished(o.State) {
		return // the run that is to come says what is wrong with Slack
	}
	s, err := report.NewSlack(o)
	if err != nil {
		say("run %s: %v", j.ID, err)
		return
	}
	plan := pipeline.Plan{ID: j.ID, Kind: j.Kind, From: j.From, To: j.To}
	r := x.runOf(execution{plan: plan, journal: j}, nil)
	r.Over, r.Resumed = true, true
	s.Begin(r)
	s.Observe(pipeline.Event{Kind: pipeline.RunStarted, Time: time.Now(), Run: j.ID})
	res := pipeline.Result{
		Status: j.Outcome, Steps: j.Progress(), Step: j.CauseStep, Proof: j.CauseProof, Touched: j.Touched(),
		OneWay: j.OneWay(), State: j.State, Next: j.Next, Asked: j.Asked,
	}
	if j.Cause != "" {
		res.Err = errors.New(j.Cause)
	}
	s.End(report.Summarise(plan, res, report.Extra{}))
	for _, line := range (&telling{list: []teller{s}}).close(ctx) {
		say("%s", line)
	}
}

// cannotTell says what would keep people from being told: a warning before a run, and
// nothing that stands against it.
func (x *session) cannotTell(ctx context.Context) []string {
	var out []string
	say := func(known string, err error) bool {
		if known != "" {
			out = append(out, known)
		}
		if err != nil {
			out = append(out, err.Error())
		}
		return err == nil
	}
	if x.config.Notify.Slack != nil {
		if o, known, err := x.slackOptions("check"); say(known, err) {
			ctx, cancel := context.WithTimeout(ctx, askLimit)
			if err := report.CheckSlack(ctx, o); err != nil {
				out = append(out, "Slack cannot be told: "+err.Error())
			}
			cancel()
		}
	}
	if x.config.Notify.Kuma != nil {
		if o, known, err := x.kumaOptions(); say(known, err) {
			if k, err := report.NewKuma(o); say("", err) {
				k.Close(askLimit) // nothing is known yet, so nothing is pushed
			}
		}
	}
	if x.config.GitHub != nil {
		_, known, err := x.config.deployer()
		say(known, err)
	}
	if f := x.config.Metrics.Textfile; f != "" {
		if info, err := os.Stat(filepath.Dir(f)); err != nil || !info.IsDir() {
			out = append(out, fmt.Sprintf("the metrics cannot be written: %s is no folder", filepath.Dir(f)))
		}
	}
	return out
}

// warn says before a run who could not be told of it.
func (x *session) warn(ctx context.Context, s streams) {
	for _, line := range x.cannotTell(ctx) {
		if ctx.Err() != nil {
			return // what was asked meanwhile failed because of that
		}
		s.progress()("warning: %s", line)
	}
}
