package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/stages/watcher"
)

func releasesCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "releases",
		Usage: "look upstream once: which releases the fleet could run next, and what the policy makes of them; changes nothing",
		Flags: []cli.Flag{
			configFlag(), jsonFlag(),
			&cli.StringFlag{Name: "running", Usage: "do not ask the fleet, which runs this `RELEASE`"},
			&cli.StringFlag{Name: "unpin", Usage: "forget what the `TAG` stood for at first sight, once you know why it moved"},
		},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			ctx, end := untouched(ctx, stop)
			defer end()
			conf, err := configOrDefaults(c)
			if err != nil {
				return err
			}
			if tag := c.String("unpin"); tag != "" {
				return s.unpin(ctx, conf, tag)
			}
			fleet, err := s.asked(c, conf)
			if err != nil {
				return err
			}
			w, err := looker(ctx, conf, fleet, s)
			if err != nil {
				return err
			}
			sight := w.See(ctx)
			if err := interrupted(ctx); err != nil {
				return err
			}
			if err := s.printSight(sight, c.Bool("json")); err != nil {
				return err
			}
			return failedSources(sight)
		},
	}
}

// asked is who says what runs.
func (s streams) asked(c *cli.Context, conf config) (watcher.Fleet, error) {
	if text := c.String("running"); text != "" {
		v, err := builds.ParseVersion(text)
		if err != nil {
			return nil, exitWith(exitUsage, fmt.Errorf("--running %w", err))
		}
		return running{Version: v}, nil
	}
	if conf.Fleet == "" {
		return nil, exitWith(exitUsage, errors.New("there is no refit.yml here: name it with --config, or say with --running what runs"))
	}
	return &watchedFleet{path: c.String("config"), s: s}, nil
}

// looker is a watcher that only looks.
func looker(ctx context.Context, c config, fleet watcher.Fleet, s streams) (*watcher.Watcher, error) {
	if c.Fleet == "" {
		c.Fleet = "none" // nothing is kept, so that its name stands nowhere
	}
	return newWatcher(ctx, c, fleet, nil, nil, s.progress())
}

// running is a fleet of which only its release is known.
type running struct {
	watcher.Fleet
	Version builds.Version
}

// Running implements watcher.Fleet.
func (r running) Running(context.Context) (builds.Version, error) { return r.Version, nil }

func (s streams) unpin(ctx context.Context, c config, tag string) error {
	repo, on := c.repo()
	if !on || c.Fleet == "" {
		return exitWith(exitUsage, errors.New("--unpin needs a refit.yml whose upstream is on GitHub"))
	}
	store, err := c.store()
	if err != nil {
		return err
	}
	if err := watcher.Unpin(ctx, store, repo.Owner, repo.Name, tag); err != nil {
		return exitWith(exitRefused, err)
	}
	_, err = fmt.Fprintf(s.out, "%s is pinned anew at the next look; a watcher at work ends with an error and is to be started again.\nThe copy of the repository here remembers the tag as well: see what `refit plan --to %s` says\n", tag, tag)
	return err
}

// sightJSON is a look for programs.
type sightJSON struct {
	Schema string `json:"schema"` // "refit.releases/v1"
	watcher.Sight
}

func (s streams) printSight(sight watcher.Sight, asJSON bool) error {
	s.job.sight(sightText(sight))
	if asJSON {
		return printJSON(s.out, sightJSON{"refit.releases/v1", sight})
	}
	_, err := fmt.Fprint(s.out, sightText(sight))
	return err
}

// sightText is a look for people.
func sightText(sight watcher.Sight) string {
	var b strings.Builder
	switch {
	case sight.Running.IsZero():
		b.WriteString("it could not be found out what runs\n")
	case sight.Assumed:
		fmt.Fprintf(&b, "%s ran when the fleet last answered\n", sight.Running)
	case len(sight.Candidates) == 0:
		fmt.Fprintf(&b, "%s runs, and nothing that is followed is newer\n", sight.Running)
	default:
		fmt.Fprintf(&b, "%s runs\n", sight.Running)
	}
	for _, c := range sight.Candidates {
		fmt.Fprintf(&b, "\n%s  %s, published %s", c.Version, c.Kind, humanize.RelTime(c.Published, sight.At, "ago", "from now"))
		if d := c.Decision.Deadline; !d.IsZero() {
			fmt.Fprintf(&b, ", to run by %s (%s)", d.UTC().Format("15:04 MST, 2 January"), humanize.RelTime(d, sight.At, "ago", "from now"))
		}
		b.WriteByte('\n')
		line := func(text string) {
			if text = oneLine(text); text != "" {
				fmt.Fprintf(&b, "  %s\n", text)
			}
		}
		reason := c.Decision.Reason
		if c.Decision.Do == policy.Question {
			reason = cut(reason, 200) // the doubts stand below
		}
		line(decisionWords(c.Decision) + ": " + reason)
		line(strings.Join(c.Advisory, ", "))
		for _, text := range c.Brings {
			line("- " + text)
		}
		for _, text := range short(c.Doubts) {
			line("? " + text)
		}
		if c.URL != "" {
			line("see " + c.URL)
		}
	}
	if len(sight.Warnings) > 0 {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(sight.Warnings, "\n"))
	}
	if len(sight.Gone) > 0 {
		fmt.Fprintf(&b, "\n%s\n", oneLine("gone from upstream's list: "+strings.Join(sight.Gone, ", ")))
	}
	return b.String()
}

// oneLine makes one line of a text of upstream's, without what a terminal obeys; and no
// line of ours may begin with such a text, since a workflow's log obeys lines.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

func decisionWords(d policy.Decision) string {
	switch d.Do {
	case policy.Wait:
		return "begins at " + d.At.UTC().Format("15:04 MST, 2 January")
	case policy.Begin:
		return "begins with the next look of `refit watch`"
	case policy.Question:
		return "asked for"
	case policy.Refuse:
		return "not begun"
	case policy.Tell:
		return "told of"
	case policy.Nothing:
	}
	return "left alone"
}
