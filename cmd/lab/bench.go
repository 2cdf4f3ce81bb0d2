package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/lab/bench"
)

func benchWord() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "roll the fleet by refit, by hand, by Capistrano and by Ansible, and compare what each costs",
		Description: "Raises a fleet on a release as large as a real one. Each contender rolls it from there, in turns,\n" +
			"with users at work. A whole bench takes about an hour; --only, --kind, --link and --rounds make it\n" +
			"shorter. All that was said and measured is in bench/ of the lab's directory, the result in roll.json\n" +
			"there. --keep leaves the lab up, and --on-lab takes such a one.",
		Flags: []cli.Flag{
			refitFlag(),
			&cli.StringSliceFlag{Name: "only", Usage: "`CONTENDER`s: refit, hand, capistrano, ansible (default: all)"},
			&cli.StringSliceFlag{Name: "kind", Usage: "`KIND`s of roll: patch, minor (default: both)"},
			&cli.StringSliceFlag{Name: "link", Usage: "`RATE`s of the nodes' links: free, or as tc writes it (default: free and 100mbit)"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "how often each contender rolls"},
			&cli.IntFlag{Name: "beat", Usage: "`SECONDS` between two signs of life of a Sidekiq process, for which every roll waits (default: Sidekiq's own ten)"},
			&cli.BoolFlag{Name: "keep", Usage: "leave the lab up afterwards"},
			&cli.BoolFlag{Name: "on-lab", Usage: "use the lab that an earlier bench left up"},
		},
		Action: func(c *cli.Context) (err error) {
			choice, err := bench.Choice{
				Only: c.StringSlice("only"), Kinds: c.StringSlice("kind"), Links: c.StringSlice("link"), Rounds: c.Int("rounds"),
			}.Fill()
			if err != nil {
				return &usageError{err.Error()}
			}
			tell := say()
			self, program, err := programs(c.String("refit"))
			if err != nil {
				return err
			}
			l, files, err := benchLab(c, program, tell)
			if err != nil {
				return err
			}
			if !c.Bool("keep") {
				defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(c.Context), tell)) }()
			}
			return compare(c.Context, l, choice, self, program, files, tell)
		},
	}
}

// benchLab raises the fleet for a bench, or attaches to the one that is up, and gives
// the folder of the other tools' files.
func benchLab(c *cli.Context, program string, tell lab.Say) (*lab.Lab, string, error) {
	if c.Bool("on-lab") {
		l, err := running(c)
		if err != nil {
			return nil, "", err
		}
		if l.Release != bench.Base || len(l.More) == 0 {
			return nil, "", fmt.Errorf("the lab that is up was not left by a bench: it began with %s; `lab down` ends it", l.Release)
		}
		// The program may be another than the one that left the lab.
		if err := trust(c.Context, l, program); err != nil {
			return nil, "", err
		}
		return l, filepath.Join(l.Files, "bench"), nil
	}
	o, err := standinOptions(c, bench.Base, tell)
	if err != nil {
		return nil, "", err
	}
	if err := lab.Missing([]lab.Need{lab.MemoryAvailable(bench.Memory)}); err != nil {
		return nil, "", err
	}
	o.Beat, o.More = c.Int("beat"), bench.Packages
	l, err := lab.Up(c.Context, o)
	if err != nil {
		return nil, "", err
	}
	if err := deploy(c.Context, l, program, tell); err != nil {
		return nil, "", err
	}
	return l, filepath.Join(l.Files, "bench"), nil
}

// compare runs the bench and shows what came of it.
func compare(ctx context.Context, l *lab.Lab, choice bench.Choice, self, program, files string, tell lab.Say) error {
	dir := filepath.Join(l.Dir, "bench")
	r, err := bench.Compare(ctx, bench.Options{
		Choice: choice, Lab: l, Dir: dir, Files: files, Refit: program, Say: tell,
		Well: func(ctx context.Context) error {
			if err := awaitSite(ctx, l); err != nil {
				return err
			}
			return awaitDoctor(ctx, l, self, program)
		},
	})
	if r != nil {
		fmt.Printf("\n%s\nreport: %s\n", r, filepath.Join(dir, "roll.json"))
		err = errors.Join(err, r.Failed())
	}
	return err
}
