package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/webpage"
)

// watchTellers are those whom refit.yml names, as the watcher tells them.
type watchTellers struct {
	s       streams
	slack   *report.Slack     // nil for none
	pace    *report.SlackPace // its runs' messages keep to it too
	kuma    *report.Kuma      // nil for none
	metrics *report.Metrics
	page    *webpage.Page     // nil where none is served
	failing map[string]string // sources that do not answer, with the reason
	trouble string            // Slack's last one
}

// watchTellers makes them. What is wrong with one is an error here: nobody would notice
// for months.
func (s streams) watchTellers(c config) (*watchTellers, error) {
	t := &watchTellers{s: s, pace: report.NewSlackPace(), failing: map[string]string{}}
	x := &session{config: c, pace: t.pace}
	say := func(known string) {
		if known != "" {
			s.progress()("warning: %s", known)
		}
	}
	if c.Notify.Slack != nil {
		o, known, err := x.slackOptions(releasesSubject)
		if err == nil {
			// What was told lies with what was seen: whoever keeps the one keeps the other.
			o.State, err = c.toldReleases()
		}
		if err == nil {
			t.slack, err = report.NewSlack(o)
		}
		if err != nil {
			return nil, exitWith(exitUsage, err)
		}
		say(known)
	}
	if c.Notify.Kuma != nil {
		o, known, err := x.kumaOptions()
		if err == nil {
			t.kuma, err = report.NewKuma(o)
		}
		if err != nil {
			t.close(watchLast)
			return nil, exitWith(exitUsage, err)
		}
		say(known)
	}
	var err error
	t.metrics, err = report.NewMetrics(report.MetricsOptions{Fleet: c.Fleet, Version: version, Textfile: watchTextfile(c.Metrics.Textfile), Watcher: true})
	if err != nil {
		t.close(watchLast)
		return nil, exitWith(exitUsage, err)
	}
	return t, nil
}

// releasesSubject names what Slack was told of releases and alarms.
const releasesSubject = "releases"

// toldReleases is the file of that.
func (c config) toldReleases() (string, error) {
	dir, err := c.store()
	if err != nil {
		return "", err
	}
	return report.SlackState(dir.Path, releasesSubject), nil
}

// watchTextfile is beside the runs' own, which holds other metrics.
func watchTextfile(runs string) string {
	if runs == "" {
		return ""
	}
	return strings.TrimSuffix(runs, ".prom") + "-watch.prom"
}

// lasting are those who are told of the watcher's runs too.
func (t *watchTellers) lasting() []teller {
	out := []teller{lasting{t.metrics}}
	if t.page != nil {
		out = append(out, lasting{t.page})
	}
	if t.kuma != nil {
		out = append(out, lastingKuma{lasting{t.kuma}, t.kuma})
	}
	return out
}

// lasting is told on after a run's end.
type lasting struct{ observer }

type observer interface {
	Observe(e pipeline.Event)
	Begin(r report.Run)
}

// Close leaves it open.
func (lasting) Close(time.Duration) []string { return nil }

// lastingKuma wants a run's report too.
type lastingKuma struct {
	lasting
	kuma *report.Kuma
}

// End implements ender.
func (k lastingKuma) End(r report.Report) { k.kuma.End(r) }

// Release implements watcher.Teller.
func (t *watchTellers) Release(r report.Release) {
	if t.page != nil {
		t.page.Release(r)
	}
	if t.slack != nil {
		t.slack.Release(r)
	}
}

// Notice implements watcher.Teller.
func (t *watchTellers) Notice(key, text string) {
	if t.slack != nil {
		t.slack.Notice(key, text)
	}
}

// Polled implements watcher.Teller.
func (t *watchTellers) Polled(source string, err error) {
	t.metrics.Polled(source, err)
	if t.page != nil {
		t.page.Polled(source, err)
	}
	delete(t.failing, source)
	if err != nil {
		t.failing[source] = err.Error()
	}
	if t.kuma != nil {
		t.kuma.Set(len(t.failing) == 0, t.words())
	}
	if t.slack == nil {
		return
	}
	if now := t.slack.Trouble(); now != t.trouble {
		t.trouble = now
		if now != "" {
			t.s.progress()("Slack: %s", now)
		}
	}
}

// words are the heartbeat's.
func (t *watchTellers) words() string {
	if len(t.failing) == 0 {
		return "watching"
	}
	return fmt.Sprintf("no answer from %s", strings.Join(slices.Sorted(maps.Keys(t.failing)), ", "))
}

// Behind implements watcher.Teller.
func (t *watchTellers) Behind(project string, since time.Time) {
	t.metrics.Behind(project, since)
	if t.page != nil {
		t.page.Behind(project, since)
	}
}

// close tells what is left, all at once, and says what could not be told.
func (t *watchTellers) close(limit time.Duration) {
	var closers []func(time.Duration) []string
	if t.slack != nil {
		closers = append(closers, t.slack.Close)
	}
	if t.kuma != nil {
		closers = append(closers, t.kuma.Close)
	}
	if t.metrics != nil {
		closers = append(closers, t.metrics.Close)
	}
	said := make(chan []string, len(closers))
	for _, c := range closers {
		go func() { said <- c(limit) }()
	}
	for range closers {
		for _, line := range <-said {
			t.s.progress()("%s", line)
		}
	}
}

// watchLast is how long what is left to tell may take when a watcher is told to stop.
const watchLast = 700 * time.Millisecond
