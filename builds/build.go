package builds

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// unit is the name of a step's transient unit: one for each release and step,
// so that a step that outlived its refit is found again.
func unit(v Version, step string) string {
	return "refit-build-" + strings.ReplaceAll(v.Number(), ".", "-") + "-" + step + ".service"
}

// Check tells, reading only, what would stop Build: room, memory, the user, the
// sources that the builder must reach, another tag there than here.
func (b *Builder) Check(ctx context.Context, r Recipe, say func(string)) error {
	if err := r.Check(); err != nil {
		return err
	}
	state, err := b.look(ctx, r, false)
	if err != nil {
		return err
	}
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	if state.State == Whole && state.Recipe == digest {
		return nil // nothing will be built
	}
	if state.State == Foreign {
		return fmt.Errorf("%s: %s exists and was not built by refit; move it away", b.Name, r.Layout.Dir(r.Release.Version))
	}
	if state.Live {
		return fmt.Errorf("%s: %s is live there and cannot be built anew; build on another host", b.Name, r.Layout.Dir(r.Release.Version))
	}
	for _, d := range r.Departures() {
		say("departing from the release's own pins: " + d)
	}
	if err := b.checkRoom(ctx, r); err != nil {
		return err
	}
	var out ReachOut
	if err := b.Host.Call(ctx, "build.reach", ReachIn{
		URL: b.Upstream, InsteadOf: r.Mirrors.Git, KnownHosts: b.KnownHosts, KeyFile: b.KeyFile,
		Tag: r.Release.Version.String(), Gems: r.Mirrors.Gems, NPM: r.Mirrors.NPM, Yarn: r.Toolchain.Yarn,
	}, nil, &out, say); err != nil {
		return err
	}
	if want := or(r.Release.Tag.Object, r.Release.Tag.Commit); out.Tag != want {
		return fmt.Errorf("tag %s is %s as %s sees it and %s as this machine sees it: the two repositories disagree", r.Release.Version, out.Tag, b.Name, want)
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// checkRoom asks for disk, memory, the user, and git where the lock file needs it.
func (b *Builder) checkRoom(ctx context.Context, r Recipe) error {
	in := node.FactsIn{Home: r.Layout.Home, Paths: []string{r.Layout.Home, r.Layout.Cache}, Commands: []node.FactCommand{{Argv: []string{"id", "-u", r.Layout.User}}}}
	if len(r.Release.Contents.GitSources) > 0 {
		in.Commands = append(in.Commands, node.FactCommand{Argv: []string{"git", "--version"}})
	}
	var facts node.Facts
	if err := b.Host.Call(ctx, "facts", in, nil, &facts, nil); err != nil {
		return err
	}
	free, memory := b.MinFree, b.MinMemory
	if free == 0 {
		free = 4 << 30
	}
	if memory == 0 {
		memory = 3 << 30
	}
	for _, d := range facts.Disks {
		if d.Free < uint64(free) {
			return fmt.Errorf("%s has %s free below %s; a build needs %s there: make room%s", b.Name, size(int64(d.Free)), d.Path, size(free), builtBefore(facts.Releases, r))
		}
	}
	if have := facts.MemoryAvailable + facts.SwapFree; have < memory {
		return fmt.Errorf("%s has %s of memory available; a build needs %s: add memory or swap, or build on another host", b.Name, size(have), size(memory))
	}
	remedies := []string{"this host has no user " + r.Layout.User + "; make it, as the nodes have it", "Gemfile.lock takes gems from git repositories and there is no git; install it"}
	for i, c := range facts.Commands {
		if c.Error != "" {
			return fmt.Errorf("%s: %s (%s)", b.Name, remedies[i], c.Error)
		}
	}
	return nil
}

// builtBefore names the builds beside the one that is to be made. Those older than the
// release that the fleet is on are of no more use; an upgrade removes them at its end.
func builtBefore(have []node.ReleaseFact, r Recipe) string {
	var names []string
	for _, h := range have {
		if h.Name != r.Release.Version.String() {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; below %s lie %s, of which those that the fleet is past are of no more use", path.Dir(r.Layout.Dir(r.Release.Version)), strings.Join(names, ", "))
}

// size writes bytes for people.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func (b *Builder) look(ctx context.Context, r Recipe, verify bool) (LookOut, error) {
	var out LookOut
	err := b.Host.Call(ctx, "build.look", LookIn{Layout: r.Layout, Version: r.Release.Version, Verify: verify}, nil, &out, nil)
	return out, err
}

// Build builds the release, or finds it built by the same recipe. It may be
// repeated: a build that did not end is begun again from nothing, after what it
// left at work was stopped. A step that fails gives a *BuildError.
func (b *Builder) Build(ctx context.Context, r Recipe, say func(string)) (Built, error) {
	if err := r.Check(); err != nil {
		return Built{}, err
	}
	digest, err := r.Digest()
	if err != nil {
		return Built{}, err
	}
	built := Built{Recipe: digest, Departures: r.Departures()}
	for _, d := range built.Departures {
		say("departing from the release's own pins: " + d)
	}
	state, err := b.look(ctx, r, true)
	if err != nil {
		return Built{}, err
	}
	switch {
	case state.State == Whole && state.Recipe == digest:
		say(fmt.Sprintf("%s is built already, all %d files as its manifest has them", r.Release.Version, state.Manifest.Files))
		built.Manifest, built.Cached = *state.Manifest, true
		return built, nil
	case state.State == Unfinished:
		say("an unfinished build of " + r.Release.Version.String() + " is begun again from nothing")
	case state.State == Damaged:
		say(fmt.Sprintf("the build of %s is damaged (%s) and made again", r.Release.Version, strings.Join(state.Differences, "; ")))
	case state.State == Whole:
		say("the build of " + r.Release.Version.String() + " was made by another recipe and is made again")
	}
	if err := b.stopLeftovers(ctx, r, say); err != nil {
		return Built{}, err
	}
	if err := b.checkRoom(ctx, r); err != nil {
		return Built{}, err
	}
	if err := b.prepare(ctx, r, digest, &built, say); err != nil {
		return Built{}, err
	}
	for _, step := range r.Steps() {
		if err := b.timed(step.Name, &built, func() error { return b.run(ctx, r, step, say) }); err != nil {
			return Built{}, err
		}
	}
	return built, b.conclude(ctx, r, &built, say)
}

// timed runs one part and notes how long it took.
func (b *Builder) timed(name string, built *Built, do func() error) error {
	began := time.Now()
	err := do()
	built.Steps = append(built.Steps, StepTime{name, time.Since(began).Seconds()})
	return err
}

// prepare does what comes before the jobs.
func (b *Builder) prepare(ctx context.Context, r Recipe, digest string, built *Built, say func(string)) error {
	v := r.Release.Version
	if err := b.timed("checkout", built, func() error {
		var out CheckoutOut
		err := b.Host.Call(ctx, "git.checkout", CheckoutIn{
			Layout: r.Layout, Version: v, Recipe: digest, URL: b.Upstream, InsteadOf: r.Mirrors.Git,
			KnownHosts: b.KnownHosts, KeyFile: b.KeyFile, Tag: r.Release.Tag,
		}, nil, &out, say)
		if err == nil {
			say(fmt.Sprintf("%s: %d files, tree %s computed from the files", v, out.Files, out.Tree))
		}
		return err
	}); err != nil {
		return err
	}
	if err := b.Host.Call(ctx, "build.link", LinkIn{Layout: r.Layout, Version: v, Toolchain: r.Toolchain}, nil, nil, say); err != nil {
		return err
	}
	return b.timed("fetch-yarn", built, func() error {
		var out YarnOut
		err := b.Host.Call(ctx, "build.yarn", YarnIn{Layout: r.Layout, Version: v, Registry: r.Mirrors.NPM, Yarn: r.Toolchain.Yarn, Hash: r.Toolchain.YarnHash}, nil, &out, say)
		if err == nil && !out.Pinned {
			say("yarn " + r.Toolchain.Yarn + " was held to the registry's checksum: package.json names none")
		}
		return err
	})
}

// conclude does what comes after the jobs.
func (b *Builder) conclude(ctx context.Context, r Recipe, built *Built, say func(string)) error {
	v := r.Release.Version
	return b.timed("finish", built, func() error {
		if err := b.Host.Call(ctx, "build.clean", CleanIn{Layout: r.Layout, Version: v}, nil, nil, say); err != nil {
			return err
		}
		var proof VerifyOut
		if err := b.Host.Call(ctx, "build.verify", VerifyIn{Layout: r.Layout, Version: v}, nil, &proof, say); err != nil {
			return err
		}
		say(fmt.Sprintf("the tracked files are unmodified after the build, and all %d files that the asset manifests name are there", proof.Assets))
		var out FinishOut
		if err := b.Host.Call(ctx, "build.finish", FinishIn{Layout: r.Layout, Version: v, Recipe: built.Recipe, Toolchain: r.Toolchain, Departures: built.Departures}, nil, &out, say); err != nil {
			return err
		}
		built.Manifest = out.Manifest
		say(fmt.Sprintf("%s is built: %d files, %s", v, out.Manifest.Files, size(out.Manifest.Bytes)))
		return nil
	})
}

// stopLeftovers stops jobs of an earlier build of this release that nobody waits for.
func (b *Builder) stopLeftovers(ctx context.Context, r Recipe, say func(string)) error {
	for _, step := range r.Steps() {
		if err := b.StopJob(ctx, unit(r.Release.Version, step.Name), say); err != nil {
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
	return b.Host.Call(ctx, "units", node.UnitsIn{Op: node.StopUnits, Units: []string{name}}, nil, nil, say)
}

// run runs one step as a job and waits for its end, however long it takes.
func (b *Builder) run(ctx context.Context, r Recipe, step Step, say func(string)) error {
	name, dir := unit(r.Release.Version, step.Name), r.Layout.Dir(r.Release.Version)
	say(step.Name + ": " + step.Why)
	in := node.JobIn{Unit: name, Argv: step.Argv, Dir: dir, User: r.Layout.User, NoNetwork: step.Offline}
	for k, v := range step.Env {
		in.Env = append(in.Env, k+"="+v)
	}
	return b.Job(ctx, step.Name, in, say)
}

// Job runs a command there as a transient unit and waits for its end, however long it
// takes; its output goes to say, line by line. A command that fails gives a
// *BuildError of that step.
func (b *Builder) Job(ctx context.Context, step string, in node.JobIn, say func(string)) error {
	name := in.Unit
	var job node.Job
	if err := b.Host.Call(ctx, "job.start", in, nil, &job, say); err != nil {
		return err
	}
	poll := b.Poll
	if poll == 0 {
		poll = 500 * time.Millisecond
	}
	log := &tail{step: step, say: say}
	for lost := 0; ; {
		err := b.follow(ctx, name, &job, log)
		switch {
		case err == nil:
			lost = 0
		case lost < 20 && (errors.Is(err, hosts.ErrLost) || errors.Is(err, hosts.ErrUnreachable) || errors.Is(err, hosts.ErrSilent)):
			// The job goes on without us; a new connection finds it again.
			lost++
			say(fmt.Sprintf("%s does not answer (%v); asking again", b.Name, err))
		default:
			return err
		}
		if err == nil && job.State != node.JobRunning {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while %s was building (%s goes on there until it is stopped): %w", b.Name, name, context.Cause(ctx))
		case <-time.After(poll * time.Duration(1+lost)):
		}
	}
	log.flush()
	if job.Succeeded() {
		return nil
	}
	if job.State != node.JobDone {
		return fmt.Errorf("nobody saw the end of %s on %s (%s); build again", name, b.Name, job.Text)
	}
	return &BuildError{
		Host: b.Name, Step: step, Command: append([]string{path.Base(in.Argv[0])}, in.Argv[1:]...),
		Result: job.Result, Code: job.Code, Lines: ErrorLines(log.all.String(), 14), Log: b.Name + ":" + path.Join(node.StateDir, "jobs", name, "log"),
	}
}

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

// Remove stops and takes away a build that did not end. A finished one stays:
// it harms nobody and spares the next attempt the work.
func (b *Builder) Remove(ctx context.Context, r Recipe, say func(string)) error {
	if err := b.stopLeftovers(ctx, r, say); err != nil {
		return err
	}
	var out RemoveOut
	if err := b.Host.Call(ctx, "build.remove", RemoveIn{Layout: r.Layout, Version: r.Release.Version}, nil, &out, say); err != nil {
		return err
	}
	if out.Removed {
		say("the unfinished build was removed")
	}
	return nil
}
