package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
)

// A plan from upstream's source alone: what one release changes over another,
// and whether there is a way from one to the other. It needs no fleet and no
// refit.yml, touches nothing, and has no steps.

// ofSource are the flags of `refit plan` that ask for such a plan.
func ofSource() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "from", Usage: "plan without a fleet, from the `RELEASE`'s tag, such as v4.5.14"},
		&cli.StringFlag{Name: "upstream", Usage: "with --from: upstream's repository, a `DIR`ectory or a URL (default: Mastodon's own)"},
		&cli.StringFlag{Name: "notes", Usage: "with --from: `DIR`ectory of release notes, vX.Y.Z.md files"},
		&cli.StringFlag{Name: "commits", Usage: "with --from: `FILE` of \"version commit\" lines, where the repository lacks upstream's tags"},
	}
}

// asksSource tells whether the command line asks for a plan without a fleet.
func asksSource(c *cli.Context) bool {
	return c.IsSet("from") || c.IsSet("upstream") || c.IsSet("commits") || c.IsSet("notes")
}

func (s streams) planSource(c *cli.Context) error {
	from, to, err := ends(c)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	ctx, stop, done := trap(c.Context, s.notice)
	defer done()
	ctx, end := untouched(ctx, stop)
	defer end()
	source, closing, err := openSource(c.String("upstream"), c.String("commits"))
	if err != nil {
		return exitWith(exitUsage, err)
	}
	u, known, err := s.readSource(ctx, source, from, to)
	if err := errors.Join(err, closing()); err != nil {
		return sourceError(ctx, err)
	}
	w := way{understood: &u}
	if dir := c.String("notes"); dir != "" {
		if err := w.readFolder(dir, from, to, known); err != nil {
			return exitWith(exitUsage, err)
		}
	}
	p := newSourcePlan(w, builds.Path(from, to, builds.PathOptions{Known: known, Now: time.Now()}), c.StringSlice("ack"))
	if c.Bool("json") {
		err = printJSON(s.out, p)
	} else {
		err = p.print(s.out)
	}
	if err == nil && len(p.Blockers) > 0 {
		err = exitWith(exitRefused, refused(p.Blockers))
	}
	return err
}

// ends reads --from and --to.
func ends(c *cli.Context) (from, to builds.Version, err error) {
	if c.String("from") == "" {
		return from, to, errors.New("--upstream, --commits and --notes go with --from and a release's tag, such as v4.5.14: a plan for a fleet takes both from refit.yml")
	}
	if c.IsSet("config") {
		return from, to, errors.New("--from asks for a plan without a fleet, --config for one with it: leave one of the two out")
	}
	if from, err = builds.ParseVersion(c.String("from")); err != nil {
		return from, to, fmt.Errorf("--from %w", err)
	}
	if to, err = builds.ParseVersion(c.String("to")); err != nil {
		return from, to, fmt.Errorf("--to %w", err)
	}
	return from, to, nil
}

// openSource opens upstream's repository: a clone in a folder is read in place,
// anything else is a URL that is fetched from.
func openSource(where, commits string) (*upstream.Source, func() error, error) {
	closing := func() error { return nil }
	source, err := func() (*upstream.Source, error) {
		if info, err := os.Stat(where); err == nil && info.IsDir() {
			clone, err := upstream.OpenClone(where)
			if err != nil {
				return nil, err
			}
			closing = clone.Close
			return clone.Source, nil
		}
		if where == "" {
			where = defaults().Upstream.Repository
		}
		if !isURL(where, "https", "http", "ssh", "git", "file") && !scpForm.MatchString(where) {
			return nil, fmt.Errorf("--upstream %s is neither a folder that is there nor a URL", where)
		}
		return upstream.Open(git.Options{URL: where, KnownHosts: userKnownHosts()})
	}()
	if err != nil || commits == "" {
		return source, closing, err
	}
	f, err := os.Open(commits)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--commits: %w", err), closing())
	}
	named, err := upstream.ReadCommits(f, commits)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--commits: %w", err), closing())
	}
	return source.Named(named), closing, nil
}

// userKnownHosts is the user's own known_hosts file, empty if there is none.
func userKnownHosts() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	file := filepath.Join(home, ".ssh", "known_hosts")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// readSource reads both releases, and which others there are.
func (s streams) readSource(ctx context.Context, source *upstream.Source, from, to builds.Version) (builds.Understanding, []builds.Version, error) {
	known, err := source.Tags(ctx)
	if err != nil {
		return builds.Understanding{}, nil, err
	}
	u, err := upstream.Reader{Say: s.progress()}.Understand(ctx, source, from, to)
	return u, known, err
}

// sourceError gives what kept the source from being read its exit code.
func sourceError(ctx context.Context, err error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	if errors.Is(err, git.ErrAuth) || errors.Is(err, git.ErrHostKey) {
		return exitWith(exitAuth, err)
	}
	return exitWith(exitFailed, err)
}

func newSourcePlan(w way, v builds.Verdict, acks []string) planJSON {
	p := w.json(w.understood.From.Version, w.understood.To)
	if v.Refused != "" {
		p.Blockers = append(p.Blockers, v.Refused)
	}
	p.Blockers = append(p.Blockers, w.unacknowledged(acks)...)
	p.Via, p.Said = append(p.Via, v.Via...), append(p.Said, v.Said...)
	return p
}
