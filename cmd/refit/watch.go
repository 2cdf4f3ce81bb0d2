package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages/watcher"
)

func watchCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "look for releases again and again, tell of them, and begin, ask or leave alone as the policy says",
		Flags: []cli.Flag{configFlag(), &cli.BoolFlag{Name: "once", Usage: "look once, do what is due, and end: for a timer, or for Actions"}, jsonFlag(), listenFlag(), exposeFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			o := watchCall{path: c.String("config"), once: c.Bool("once"), json: c.Bool("json"), listen: c.String("listen"), expose: c.Bool("expose"), stop: stop}
			if o.json && !o.once {
				return exitWith(exitUsage, errors.New("watch prints data with --once alone"))
			}
			for {
				if again, err := s.watch(ctx, o); err != nil || !again {
					return err
				}
				s.progress()("%s has changed: it is read anew", o.path)
			}
		},
	}
}

// watchCall is what `refit watch` was called with.
type watchCall struct {
	path       string
	once, json bool
	// listen and expose take the place of what stands in refit.yml, where they are given.
	listen string
	expose bool
	stop   <-chan struct{}
}

// watch watches by refit.yml as it stands; again, that it has changed since.
func (s streams) watch(ctx context.Context, o watchCall) (again bool, err error) {
	conf, err := loadConfig(o.path)
	if err != nil {
		return false, err
	}
	t, err := s.watchTellers(conf)
	if err != nil {
		return false, err
	}
	defer func() { t.close(lastWords(o.stop)) }()
	at, err := o.address(conf)
	if err != nil {
		return false, err
	}
	if t.page, err = conf.page(at); err != nil {
		return false, err
	}
	fleet := &watchedFleet{path: o.path, config: &conf, s: s, lasting: t.lasting(), pace: t.pace, page: t.page}
	changed := func() bool { return conf.changed(o.path) }
	w, err := newWatcher(ctx, conf, fleet, t, changed, s.progress())
	if err != nil {
		return false, err
	}
	if o.once {
		return false, s.watchOnce(ctx, o, w, fleet)
	}
	end, err := t.serve(ctx, at)
	if err != nil {
		return false, err
	}
	defer end(s)
	s.progress()("refit watch: %s, every %s", conf.Fleet, conf.Watch.Every)
	if known := conf.fewQuestions(); known != "" {
		s.progress()("warning: %s", known)
	}
	if err := w.Run(ctx, o.stop); err != nil {
		return false, exitWith(exitPerson, err)
	}
	return !toldToStop(o.stop) && ctx.Err() == nil, nil
}

// changed tells that a refit.yml stands there by now that says something else and that a
// watcher can be made from. While it cannot, the one at work goes on and does nothing by it.
func (c config) changed(path string) bool {
	now, err := loadConfig(path)
	return err == nil && !reflect.DeepEqual(now, c) && now.watchable() == nil
}

// watchable reads all that a watcher is made from, and says what is wrong with it.
func (c config) watchable() error {
	x := &session{config: c}
	_, err := c.policy()
	if _, on := c.repo(); !on {
		err = errors.Join(err, errNotOnGitHub)
	}
	if _, _, bad := c.gitHub(); bad != nil {
		err = errors.Join(err, bad)
	}
	if c.Notify.Slack != nil {
		_, _, bad := x.slackOptions(releasesSubject)
		err = errors.Join(err, bad)
	}
	if c.Notify.Kuma != nil {
		_, _, bad := x.kumaOptions()
		err = errors.Join(err, bad)
	}
	return err
}

var errNotOnGitHub = errors.New("upstream.repository is not on GitHub, where releases are looked for: name the same repository there by upstream.github")

// toldToStop tells whether stop is closed.
func toldToStop(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// lastWords is how long what is left to tell may take: who was told to stop ends within a
// second, and the next process tells the rest; after one look there may be none for long.
func lastWords(stop <-chan struct{}) time.Duration {
	if toldToStop(stop) {
		return watchLast
	}
	return tellLimit
}

// watchOnce looks once. Its exit code is that of the run that began, if one did; else
// it tells whether every source answered.
func (s streams) watchOnce(ctx context.Context, o watchCall, w *watcher.Watcher, fleet *watchedFleet) error {
	sight, err := w.Once(ctx, o.stop)
	if err != nil {
		return exitWith(exitPerson, err)
	}
	if err := interrupted(ctx); err != nil {
		return err
	}
	if toldToStop(o.stop) && !fleet.ran { // the look was cut short: it says nothing
		return exitWith(exitInterrupted, fmt.Errorf("%w; nothing was touched", errStopped))
	}
	if err := s.printSight(sight, o.json); err != nil {
		return err
	}
	switch {
	case fleet.ran && fleet.ended != nil:
		return exitWith(exitCode(fleet.ended), silent{})
	case sight.Stuck != "":
		return exitWith(exitPerson, errors.New(sight.Stuck))
	case fleet.ran:
		return nil
	}
	return failedSources(sight)
}

// failedSources is the error of a look in which not every source answered.
func failedSources(sight watcher.Sight) error {
	for _, p := range sight.Sources {
		if p.Trouble != "" {
			return exitWith(exitFailed, fmt.Errorf("%s: %s", p.Source, p.Trouble))
		}
	}
	return nil
}

// store is where the watcher's memory lies.
func (c config) store() (*keeper.Dir, error) {
	if c.Watch.State != "" {
		dir, err := c.path(c.Watch.State)
		return &keeper.Dir{Path: dir}, err
	}
	dir, err := keeper.MirrorDir(c.Fleet)
	return &keeper.Dir{Path: filepath.Join(dir, "watch")}, err
}

// newWatcher puts a watcher together.
func newWatcher(ctx context.Context, c config, fleet watcher.Fleet, teller watcher.Teller, stale func() bool, say pipeline.Say) (*watcher.Watcher, error) {
	o, err := watchOptions(ctx, c, say)
	if err != nil {
		return nil, err
	}
	o.Fleet, o.Teller, o.Stale = fleet, teller, stale
	w, err := watcher.New(ctx, o)
	if err != nil {
		return nil, exitWith(exitPerson, err)
	}
	return w, nil
}

// watchOptions is all of a watcher but its fleet and its tellers.
func watchOptions(ctx context.Context, c config, say pipeline.Say) (watcher.Options, error) {
	repo, on := c.repo()
	if !on {
		return watcher.Options{}, exitWith(exitUsage, errNotOnGitHub)
	}
	client, known, err := c.gitHub()
	if err != nil {
		return watcher.Options{}, exitWith(exitUsage, err)
	}
	if known != "" {
		say("warning: %s", known)
	}
	store, err := c.store()
	if err != nil {
		return watcher.Options{}, err
	}
	p, err := c.policy()
	if err != nil {
		return watcher.Options{}, exitWith(exitUsage, err)
	}
	source, err := c.source()
	if err != nil {
		return watcher.Options{}, err
	}
	follow := func(r github.Repo, witness upstream.Witness) (*upstream.Follower, error) {
		m, err := watcher.LoadMemory(ctx, store, r.Owner, r.Name)
		if err != nil {
			return nil, exitWith(exitPerson, err)
		}
		return upstream.Follow(upstream.FollowOptions{Repo: r, GitHub: client, Witness: witness, Memory: m}), nil
	}
	o := watcher.Options{
		Source: &sourceOf{source: source, reader: upstream.Reader{Say: say}}, Store: store, Policy: p, Line: c.line(), Doubts: c.overridden(),
		Every: c.Watch.Every, Alarm: c.Watch.Alarm, Say: say,
	}
	if c.Watch.Feed != "none" {
		o.Feed = upstream.Feed{URL: c.Watch.Feed, Agent: "refit/" + version}
	}
	if o.Upstream, err = follow(repo, source); err != nil {
		return o, err
	}
	for _, f := range c.Flings {
		r, err := github.ParseRepo(f.Repository)
		if err != nil {
			return o, exitWith(exitUsage, err)
		}
		fling := watcher.Fling{Name: f.Name, Early: f.PreReleases}
		if fling.Upstream, err = follow(r, nil); err != nil {
			return o, err
		}
		o.Flings = append(o.Flings, fling)
	}
	return o, nil
}

// source is upstream's repository by git.
func (c config) source() (*upstream.Source, error) {
	known, err := c.path(c.SSH.KnownHosts)
	if err != nil {
		return nil, err
	}
	key, err := c.path(c.SSH.Key)
	if err != nil {
		return nil, err
	}
	return upstream.Open(git.Options{URL: c.Upstream.Repository, KnownHosts: known, KeyFile: key})
}

// overridden are the toolchain's overrides, for which no run begins by itself.
func (c config) overridden() []string {
	var out []string
	for name, o := range map[string]*overrideConfig{"Ruby": c.Toolchain.Ruby, "Node": c.Toolchain.Node} {
		if o != nil {
			out = append(out, fmt.Sprintf("%s is overridden: %s (%s)", name, o.Version, o.Why))
		}
	}
	slices.Sort(out)
	return out
}

// sourceOf reads a source with a cache beside it. It keeps what it read of the last pairs
// at hand: git lists all of upstream's references for each question, megabytes, and a
// watcher would ask at each look for as long as a release waits. That a tag stands where
// it stood is asked of GitHub at each look.
type sourceOf struct {
	source *upstream.Source
	reader upstream.Reader
	last   map[[2]string]builds.Understanding
}

// Understand implements watcher.Source.
func (o *sourceOf) Understand(ctx context.Context, from, to builds.Version) (builds.Understanding, error) {
	const most = 8 // candidates of one look are three at most
	pair := [2]string{from.String(), to.String()}
	if u, ok := o.last[pair]; ok {
		return u, nil
	}
	u, err := o.reader.Understand(ctx, o.source, from, to)
	if err == nil {
		if o.last == nil || len(o.last) >= most {
			o.last = map[[2]string]builds.Understanding{}
		}
		o.last[pair] = u
	}
	return u, err
}
