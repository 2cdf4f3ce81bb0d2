package builds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// stopLeftovers stops jobs of an earlier build of this release that nobody waits for.
func (b *Builder) stopLeftovers(ctx context.Context, r Recipe, say func(string)) error {
	for _, step := range r.Steps() {
		if err := b.StopJob(ctx, unit(r.Release.Version, step), say); err != nil {
			return err
		}
	}
	return nil
}

// StopJob stops a job that nobody waits for, if it is at work.
func (b *Builder) StopJob(ctx context.Context, name string, say func(string)) error {
	var job node.Job
	if err := b.Host.Call(ctx, "job.status", node.UnitIn{Unit: name}, nil, &job, nil); err != nil {
		return err
	}
	if job.State != node.JobRunning {
		return nil
	}
	say("stopping " + name + ", left by an earlier build")
	return b.stop(ctx, name, say)
}

func (b *Builder) stop(ctx context.Context, name string, say func(string)) error {
	return b.Host.Call(ctx, "units", node.UnitsIn{Op: node.StopUnits, Units: []string{name}}, nil, nil, say)
}

// run runs one step of a release.
func (b *Builder) run(ctx context.Context, r Recipe, step Step, say func(string)) error {
	v := r.Release.Version
	return b.Job(ctx, Work{Layout: r.Layout, Of: v.String(), Step: step, Unit: unit(v, step), Dir: r.Layout.Dir(v)}, say)
}

// Work is a step that the builder runs as a job.
type Work struct {
	Layout Layout
	// Of is what it is a step of, a release or a toolchain: "v4.6.3", "ruby-3.4.7".
	Of   string
	Step Step
	// Unit is the job's name, Dir the folder that it works in.
	Unit string
	Dir  string
}

// Job runs a step there as a transient unit and waits for its end, however long it
// takes; its output goes to say, line by line. A step that fetches and says nothing for
// long waits for a server that hangs, and is stopped. One that fails gives a *BuildError.
func (b *Builder) Job(ctx context.Context, w Work, say func(string)) error {
	say(w.Step.Name + ": " + w.Step.Why)
	in := node.JobIn{Unit: w.Unit, Argv: w.Step.Argv, Dir: w.Dir, User: w.Layout.User, NoNetwork: w.Step.Offline}
	for _, k := range slices.Sorted(maps.Keys(w.Step.Env)) {
		in.Env = append(in.Env, k+"="+w.Step.Env[k])
	}
	var job node.Job
	if err := b.Host.Call(ctx, "job.start", in, nil, &job, say); err != nil {
		return err
	}
	if job.Adopted && w.Step.Shared {
		return fmt.Errorf("another build is at work on %s (%s); build again when it has ended", b.Name, w.Unit)
	}
	log := &tail{step: w.Step.Name, say: say}
	silent, err := b.await(ctx, w, &job, log)
	if err != nil {
		return err
	}
	from := path.Join(node.StateDir, "jobs", w.Unit, "log")
	var whole LogOut
	if err := b.Host.Call(ctx, "build.log", LogIn{Layout: w.Layout, Of: w.Of, Step: w.Step.Name, From: from}, nil, &whole, say); err != nil {
		say(err.Error())
	}
	if job.Succeeded() && !silent {
		return nil
	}
	if job.State != node.JobDone {
		return fmt.Errorf("nobody saw the end of %s on %s (%s); build again", w.Unit, b.Name, job.Text)
	}
	failed := &BuildError{
		Host: b.Name, Step: w.Step.Name, Command: append([]string{path.Base(in.Argv[0])}, in.Argv[1:]...),
		Result: job.Result, Code: job.Code, Lines: ErrorLines(log.all.String(), 14), Log: b.Name + ":" + cmp.Or(whole.Path, from),
	}
	if silent {
		failed.Silent = b.silence()
	}
	return failed
}

// await follows a job to its end. silent: it fetched, said nothing for too long, and was
// stopped for that.
func (b *Builder) await(ctx context.Context, w Work, job *node.Job, log *tail) (silent bool, err error) {
	defer log.flush()
	poll := cmp.Or(b.Poll, 500*time.Millisecond)
	heard := time.Now()
	for lost := 0; ; {
		before := log.offset
		err := b.follow(ctx, w.Unit, job, log)
		if err != nil || log.offset > before {
			heard = time.Now()
		}
		switch {
		case err == nil:
			lost = 0
		case lost < 20 && (errors.Is(err, hosts.ErrLost) || errors.Is(err, hosts.ErrUnreachable) || errors.Is(err, hosts.ErrSilent)):
			// The job goes on without us; a new connection finds it again.
			lost++
			log.say(fmt.Sprintf("%s does not answer (%v); asking again", b.Name, err))
		default:
			return silent, err
		}
		if err == nil && job.State != node.JobRunning {
			return silent, nil
		}
		if quiet := time.Since(heard); !w.Step.Offline && !silent && quiet > b.silence() {
			silent = true
			log.say(fmt.Sprintf("%s has said nothing for %s and is stopped", w.Step.Name, quiet.Round(time.Second)))
			if err := b.stop(ctx, w.Unit, log.say); err != nil {
				return silent, err
			}
		}
		select {
		case <-ctx.Done():
			return silent, fmt.Errorf("stopped while %s was building (%s goes on there until it is stopped): %w", b.Name, w.Unit, context.Cause(ctx))
		case <-time.After(poll * time.Duration(1+lost)):
		}
	}
}

// silence is how long a step that fetches may say nothing.
func (b *Builder) silence() time.Duration { return cmp.Or(b.Silence, 5*time.Minute) }

// follow asks where a job stands and then reads its log to the end, so that the
// log is whole when the job has ended.
func (b *Builder) follow(ctx context.Context, name string, job *node.Job, log *tail) error {
	if err := b.Host.Call(ctx, "job.status", node.UnitIn{Unit: name}, nil, job, nil); err != nil {
		return err
	}
	for {
		var out node.JobLogOut
		if err := b.Host.Call(ctx, "job.log", node.JobLogIn{Unit: name, Offset: log.offset}, nil, &out, nil); err != nil {
			return err
		}
		log.offset = out.Next
		log.write(out.Data)
		if len(out.Data) == 0 || out.Next >= out.Size {
			return nil
		}
	}
}
