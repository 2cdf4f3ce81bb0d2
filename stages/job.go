package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// tail is how much of a job's log is read for its result.
const tail = 64 << 10

// finish starts a short job, one that may be repeated, and waits for its end. It
// returns the end of its output.
func (d Deps) finish(ctx context.Context, n Node, in node.JobIn, say pipeline.Say) (string, node.Job, error) {
	job, err := n.Agent.JobStart(ctx, in)
	if err != nil {
		return "", job, fmt.Errorf("%s: cannot start %s: %w", n.Name, in.Unit, err)
	}
	err = pipeline.Await(ctx, pipeline.Gate{
		// It takes only what the host's own work leaves it, so a boot takes longer.
		Name: fmt.Sprintf("%s on %s ends", in.Unit, n.Name), Every: 200 * time.Millisecond, Within: 3 * d.Waits.Boot, Each: 30 * time.Second,
		Probe: func(ctx context.Context) error {
			var err error
			if job, err = n.Agent.JobAwait(ctx, in.Unit, 5*time.Second); err != nil {
				return err
			}
			if job.State == node.JobRunning {
				return errors.New("at work")
			}
			return nil
		},
	}, say)
	if err != nil {
		return "", job, err
	}
	out, err := d.logEnd(ctx, n, in.Unit)
	return out, job, err
}

func (d Deps) logEnd(ctx context.Context, n Node, unit string) (string, error) {
	log, err := n.Agent.JobLog(ctx, node.JobLogIn{Unit: unit, Offset: -tail, Max: tail})
	if err != nil {
		return "", fmt.Errorf("%s: cannot read the log of %s: %w", n.Name, unit, err)
	}
	return string(log.Data), nil
}

// jobError is the error of a job that failed, with the lines that matter.
func jobError(n Node, job node.Job, output string) error {
	err := fmt.Errorf("%s on %s failed: %s", job.Unit, n.Name, how(job))
	if lines := mastodon.FailureLines(output, 20); len(lines) > 0 {
		return &pipeline.Evidence{Err: err, From: job.Unit + " on " + n.Name, Lines: lines}
	}
	return err
}

// how tells how a job ended that did not end well.
func how(job node.Job) string {
	switch {
	case job.State == node.JobUnknown:
		return "its end was not seen: " + job.Text
	case job.State == node.JobNone:
		return "it left no record"
	case job.Signal != "":
		return "killed by " + job.Signal
	case job.Result != "success" && job.Result != "exit-code":
		return job.Result
	}
	return fmt.Sprintf("exit status %d", job.Code)
}

// smokeUnit boots a release once.
const smokeUnit = "refit-smoke.service"

// inTurn does something on every node that runs Mastodon. Nodes of one tier take
// turns: a boot costs a node a CPU for seconds, and one of the tier must be free of that.
func (d Deps) inTurn(ctx context.Context, do func(Node) error) error {
	var g errgroup.Group
	for _, tier := range []Fleet{d.webs(), d.sidekiqs()} {
		g.Go(func() error {
			for _, n := range tier {
				// A boot takes its time, and nothing is half-done before it.
				if err := pipeline.Safe(ctx); err != nil {
					return err
				}
				if err := do(n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// boots boots a placed release once with the node's own configuration: whole, or
// without its models while the database lacks their columns.
func (d Deps) boots(ctx context.Context, n Node, release string, whole bool, say pipeline.Say) error {
	in := mastodon.BootSmoke(d.Layout, release, smokeUnit)
	if !whole {
		in = mastodon.BootUnmigrated(d.Layout, release, smokeUnit)
	}
	// It boots beside what serves, which has a weight of 100 (systemd.resource-control(5));
	// where the kernel's groups share no processor time, the niceness says so.
	in.Properties = append(in.Properties, "CPUWeight=10", "Nice=10", "IOSchedulingClass=idle")
	out, job, err := d.finish(ctx, n, in, say)
	if err != nil {
		return err
	}
	if !job.Succeeded() {
		return jobError(n, job, out)
	}
	version, err := mastodon.ReadBooted(out)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	if "v"+version != release {
		return fmt.Errorf("%s: the release in %s says that it is %s", n.Name, d.Layout.Release(release), version)
	}
	return n.Agent.JobClear(ctx, in.Unit)
}
