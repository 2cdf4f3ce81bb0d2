package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func planCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "show what an upgrade would do, and what stands against it; changes nothing",
		Flags: append([]cli.Flag{configFlag(), toFlag(), ackFlag(), jsonFlag()}, ofSource()...),
		Action: func(c *cli.Context) error {
			if asksSource(c) {
				return s.planSource(c)
			}
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			ctx, end := untouched(ctx, stop)
			defer end()
			say := s.progress()
			x, err := open(c.String("config"), newRun(), "plan --to "+c.String("to"), say)
			if err != nil {
				return err
			}
			defer closing(x, s)
			p, err := x.plan(ctx, c.String("to"), c.StringSlice("ack"), say)
			if errors.Is(err, stages.ErrNothingToDo) {
				return s.nothingToDo(c.String("to"), c.Bool("json"))
			}
			if err != nil {
				return err
			}
			s.job.plan(p.json())
			if err := p.print(s.out, c.Bool("json")); err != nil {
				return err
			}
			return p.refusal()
		},
	}
}

// progress is where a command says what it is doing, a line each.
func (s streams) progress() pipeline.Say {
	return func(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) }
}

// closing ends a session's connections; a host that hangs up badly is worth a line, no more.
func closing(x *session, s streams) {
	if err := x.Close(); err != nil {
		fmt.Fprintf(s.err, "closing connections: %v\n", err)
	}
}

func (s streams) nothingToDo(to string, asJSON bool) error {
	s.job.nothing("nothing to do: every node runs " + to)
	if asJSON {
		return printJSON(s.out, map[string]any{"schema": "refit.plan/v1", "to": to, "nothing_to_do": true})
	}
	_, err := fmt.Fprintf(s.out, "nothing to do: every node runs %s\n", to)
	return err
}

// planned is a plan with what stands against it.
type planned struct {
	pipeline.Plan
	facts   *stages.Facts
	refused []string
	// way is what upstream's source and notes say of it, via the way to go, release by release.
	way way
	via []string
	// hash is what an approval names.
	hash string
	// deadline is by when the policy wants it to run; zero for none.
	deadline time.Time
	// earlier is how many runs say how long the steps take.
	earlier int
	// measured is what a rehearsal found out; nil for none.
	measured *stages.Measured
	// canRehearse: refit.yml says what is to be copied.
	canRehearse bool
}

// plan surveys the fleet, reads what upstream says, and expands the table. acks are the
// names that the caller acknowledges.
func (x *session) plan(ctx context.Context, to string, acks []string, say pipeline.Say) (*planned, error) {
	version, err := builds.ParseVersion(to)
	if err != nil {
		return nil, exitWith(exitUsage, fmt.Errorf("--to %w", err))
	}
	f, seen, refused, err := x.deps.Survey(ctx, x.request(version, false), say)
	if err != nil {
		return nil, surveyError(ctx, err)
	}
	p := &planned{facts: f, refused: refused}
	if f.From.Version.IsZero() {
		return p, interrupted(ctx)
	}
	p.Plan = stages.Upgrade(x.keeper.Run, x.deps, f)
	p.via = builds.Path(f.From.Version, f.To.Version, builds.PathOptions{Known: seen.Known}).Via
	p.measured, p.canRehearse = x.measured(ctx, p.From, p.To), x.deps.Rehearsals != nil && x.deps.Births != nil
	p.way = x.readWay(ctx, f.From.Version, f.To.Version, say)
	p.way.fleet(f)
	if since := p.way.since; !since.IsZero() && x.config.Policy.Deadline > 0 {
		p.deadline = since.Add(x.config.Policy.Deadline)
	}
	lacking, said := x.deps.Requires(seen, f, p.way.minimums(), p.way.changes())
	p.way.drops(f.To.Version, x.deps.Dropped(seen, p.way.changes().Env))
	p.way.templates(ctx, x.source, x.deps.Configs, f)
	p.refused, f.Said = append(p.refused, lacking...), append(f.Said, said...)
	p.refused = append(p.refused, p.way.unacknowledged(acks)...)
	if p.hash, err = x.hashOf(p); err != nil {
		return nil, err
	}
	if dir, err := keeper.MirrorDir(x.config.Fleet); err == nil {
		p.earlier = expect(ctx, &keeper.Dir{Path: dir}, &p.Plan)
	}
	p.timed(x.deps.Holds.Migrated)
	if len(refused)+len(lacking) > 0 {
		return p, interrupted(ctx)
	}
	// Each asks hosts and changes nothing: they ask at once, and answer in their order.
	errs := make([]error, len(p.Steps))
	var g sync.WaitGroup
	for i, step := range p.Steps {
		g.Go(func() { errs[i] = step.Check(ctx, say) })
	}
	g.Wait()
	for i, err := range errs {
		if err != nil {
			p.refused = append(p.refused, fmt.Sprintf("%s: %v", p.Steps[i].Name(), err))
		}
	}
	// A host that was asked while the command was interrupted seems to refuse.
	return p, interrupted(ctx)
}

// surveyError gives what kept the survey from ending its exit code. ctx is the
// survey's.
func surveyError(ctx context.Context, err error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	switch {
	case errors.Is(err, stages.ErrNothingToDo):
		return err
	case errors.Is(err, hosts.ErrAuth), errors.Is(err, hosts.ErrHostKey), errors.Is(err, git.ErrAuth), errors.Is(err, git.ErrHostKey):
		return exitWith(exitAuth, fmt.Errorf("%w\nnothing was touched", err))
	}
	return exitWith(exitRefused, fmt.Errorf("%w\nnothing was touched", err))
}

// refusal is nil when nothing stands against the plan.
func (p *planned) refusal() error {
	if len(p.refused) == 0 {
		return nil
	}
	return exitWith(exitRefused, refused(p.refused))
}

type stepJSON struct {
	Name   string `json:"name"`
	Host   string `json:"host,omitempty"`
	Why    string `json:"why"`
	OneWay bool   `json:"one_way,omitempty"`
	// Expect is how long it usually takes, in seconds.
	Expect float64 `json:"expect_seconds,omitempty"`
}

func (p *planned) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, p.json())
	}
	return p.json().print(w)
}

// first is the tier that is rolled first.
func first(sidekiq bool) string {
	if sidekiq {
		return "sidekiq"
	}
	return "web"
}

func migrationNames(list []builds.Migration) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, m.Version+" "+m.Name)
	}
	return out
}
