package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/lab"
)

// Options say what to compare, and where.
type Options struct {
	Choice
	// Lab runs Base on all nodes, with Packages.
	Lab *lab.Lab
	// Dir takes everything that a bench writes: .lab/bench. It is seen as
	// lab.ControlDir by the other tools.
	Dir string
	// Files is the folder of the other tools' files: testdata/lab/bench.
	Files string
	// Refit is refit's program.
	Refit string
	// Well returns when the site answers and refit finds nothing that would stop an
	// upgrade.
	Well func(context.Context) error
	// Say takes progress.
	Say lab.Say
}

// bench is one whole comparison.
type bench struct {
	Options
	fleet fleet
}

// Compare does all that was chosen and returns the report, which is also kept as
// roll.json after every roll. A contender that fails is in the report with its error
// and does not end the bench; Failed tells.
func Compare(ctx context.Context, o Options) (*Report, error) {
	var err error
	if o.Choice, err = o.Fill(); err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("cannot make %s absolute: %w", o.Dir, err)
	}
	b := &bench{o, theFleet()}
	if err := b.lay(); err != nil {
		return nil, err
	}
	// Where an earlier bench left the lab, there is a state to go back to.
	again := b.kept()
	if again {
		if err := b.free(ctx); err != nil {
			return nil, err
		}
		if err := b.reset(ctx); err != nil {
			return nil, err
		}
	}
	r := newReport(o.Choice)
	if r.Program, err = measureProgram(ctx, b.Refit); err != nil {
		return nil, err
	}
	if r.Artifacts, err = b.artifacts(ctx); err != nil {
		return nil, err
	}
	if !again {
		if err := b.keep(ctx); err != nil {
			return nil, err
		}
	}
	if r.Boot, err = b.bareBoots(ctx); err != nil {
		return nil, err
	}
	err = lab.InControl(ctx, b.Dir, func(root string) error { return b.rounds(ctx, root, r) })
	return r, errors.Join(err, r.save(b.Dir))
}

// rounds does every roll of every case.
func (b *bench) rounds(ctx context.Context, root string, r *Report) error {
	began, n, all := time.Now(), 0, len(b.cases())*b.Rounds*len(b.Only)
	for _, c := range b.cases() {
		b.Say("bench: %s", c)
		for round := range b.Rounds {
			for _, contender := range b.order(round) {
				n++
				// A fleet that cannot be brought back would fail every roll to come.
				if err := b.reset(ctx); err != nil {
					return err
				}
				run := b.roll(ctx, root, c, contender, round+1, r.Boot)
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("the bench was ended: %w", context.Cause(ctx))
				}
				r.add(c, run)
				if err := r.save(b.Dir); err != nil {
					return err
				}
				left := time.Since(began) / time.Duration(n) * time.Duration(all-n)
				b.Say("bench: %d of %d, %s: %s (about %s left)", n, all, contender, run.brief(), left.Round(time.Minute))
			}
		}
	}
	return nil
}

// roll lets a contender roll the fleet, which is on Base. What goes wrong is in the
// run's Error.
func (b *bench) roll(ctx context.Context, root string, c Case, contender string, round int, boot map[string]Boot) Run {
	dir := filepath.Join(b.Dir, "log", strings.Join([]string{c.Kind, c.Link, fmt.Sprint(round), contender}, "-"))
	run := Run{Contender: contender, Round: round, Log: dir}
	err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
	if err == nil {
		err = b.limited(ctx, c.Link, func() error { return b.measure(ctx, root, c, dir, &run) })
	}
	if err == nil {
		err = run.judge(b.fleet, boot)
	}
	if err != nil {
		run.Error = err.Error()
	}
	if text, err := json.MarshalIndent(run, "", "  "); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "run.json"), append(text, '\n'), 0o644); err != nil {
			run.Error = strings.TrimSpace(run.Error + "; " + err.Error())
		}
	}
	return run
}

// free takes every limit off, as a bench that was killed may have left one.
func (b *bench) free(ctx context.Context) error {
	for _, m := range lab.Machines() {
		if err := b.Lab.Unlimit(ctx, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// limited does something while the links of the nodes and of the builder have a rate.
func (b *bench) limited(ctx context.Context, rate string, do func() error) (err error) {
	if rate == Free {
		return do()
	}
	for _, m := range lab.Machines() {
		if !slices.Contains(m.Trees, "node") && !slices.Contains(m.Trees, "builder") {
			continue
		}
		if err := b.Lab.Limit(ctx, m.Name, rate); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Lab.Unlimit(context.WithoutCancel(ctx), m.Name)) }()
	}
	return do()
}
