package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vmst.io/refit/hosts/lab"
)

// lull is how long users work before a roll and after it: what they alone send
// over a link is counted before, and what they meet late is met after.
const lull = 3 * time.Second

// measure lets a contender roll the fleet, with users at work, and fills in run.
func (b *bench) measure(ctx context.Context, root string, c Case, dir string, run *Run) (err error) {
	group, err := lab.NewGroup("bench")
	if err != nil {
		return err
	}
	// Whatever the contender leaves running would meet the next one.
	defer func() { err = errors.Join(err, group.End(context.WithoutCancel(ctx))) }()
	cmd, err := b.command(ctx, run.Contender, c, group, root)
	if err != nil {
		return err
	}
	said, err := listen(dir, cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, said.close()) }()

	load, err := b.Lab.StartLoad(ctx, lab.LoadOptions{})
	if err != nil {
		return err
	}
	defer func() { run.users(load.Stop()) }()
	idle, err := b.idleTraffic(ctx)
	if err != nil {
		return err
	}
	leaders, err := b.leaders()
	if err != nil {
		return err
	}
	turns, err := watchRotation(ctx, b.Lab, b.fleet)
	if err != nil {
		return err
	}
	before, err := b.Lab.Traffic(ctx)
	if err != nil {
		return errors.Join(err, turns.end())
	}

	began := time.Now()
	if err := b.Lab.Launch(cmd); err != nil {
		return errors.Join(err, turns.end())
	}
	mem := watchMemory(ctx, "/proc", group.Processes, leaders)
	werr := cmd.Wait()
	ended := time.Now()

	after, terr := b.Lab.Traffic(ctx)
	err = errors.Join(mem.end(), turns.end(), terr, group.End(context.WithoutCancel(ctx)), said.close())
	run.Began, run.Whole = began.UTC(), ended.Sub(began).Seconds()
	run.traffic(before, after, idle, run.Whole)
	run.memory(mem)
	if werr != nil {
		return errors.Join(fmt.Errorf("%s: %w: %s", run.Contender, werr, lastLines(dir, "stderr", "stdout")), err)
	}
	if err != nil {
		return err
	}
	if err := run.times(said, began, ended); err != nil {
		return err
	}
	if err := pause(ctx, lull); err != nil {
		return err
	}
	return b.afterwards(ctx, c, &turns.rotation, began, ended, run)
}

// afterwards asks the hosts what they noted of a roll, and whether they run the release.
func (b *bench) afterwards(ctx context.Context, c Case, turns *rotation, began, ended time.Time, run *Run) error {
	run.Nodes = map[string]NodeRun{}
	for _, m := range b.fleet.nodes() {
		live, err := os.Readlink(filepath.Join(b.Lab.Root(m.Name), "home/mastodon/live"))
		if err != nil {
			return fmt.Errorf("cannot see what is live on %s: %w", m.Name, err)
		}
		if filepath.Base(live) != c.To() {
			return fmt.Errorf("%s: live is %s, not %s", m.Name, live, c.To())
		}
		all, err := unitsOf(ctx, b.Lab, m)
		if err != nil {
			return err
		}
		stopping, stopped, starting, err := restarted(all, began)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		n := NodeRun{Stop: stopped.Sub(stopping).Seconds()}
		if has(m, "web") {
			out, drain, err := turns.of(m.Address)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			n.Out, n.Drain = out.Seconds(), drain.Seconds()
		} else {
			working, err := workingSince(ctx, b.Lab, m)
			if err != nil {
				return err
			}
			if working.Before(starting) {
				return fmt.Errorf("%s: not all of its workers take jobs", m.Name)
			}
			n.Out = working.Sub(stopping).Seconds()
		}
		run.Nodes[m.Name] = n
	}
	var err error
	run.Logins, err = b.logins(ctx, began, ended)
	return err
}

// listener is what a contender says: kept in files, its standard output also here.
type listener struct {
	phases
	report bytes.Buffer
	files  []*os.File
	copied chan error
}

// listen keeps what a command will say in a folder. The command gets a pipe of its
// own, so that its end is its own end, and not that of some helper which it left
// running with the pipe in its hand.
func listen(dir string, cmd *exec.Cmd) (*listener, error) {
	l := &listener{copied: make(chan error, 1)}
	fail := func(err error) (*listener, error) {
		for _, f := range l.files {
			err = errors.Join(err, f.Close())
		}
		return nil, fmt.Errorf("cannot keep what is said: %w", err)
	}
	for _, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fail(err)
		}
		l.files = append(l.files, f)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	l.phases = phases{to: io.MultiWriter(l.files[0], &l.report), now: time.Now}
	cmd.Stdout, cmd.Stderr = w, l.files[1]
	l.files = append(l.files, w)
	go func() {
		_, err := io.Copy(&l.phases, r)
		l.copied <- errors.Join(err, r.Close())
	}()
	return l, nil
}

// close ends listening once all has been read; nothing may hold the pipe any more. It
// may be called again.
func (l *listener) close() error {
	if len(l.files) == 0 {
		return nil
	}
	err := errors.Join(l.files[2].Close(), <-l.copied, l.files[0].Close(), l.files[1].Close())
	l.files = nil
	return err
}

// idleTraffic is what goes over each link in a second while users work alone.
func (b *bench) idleTraffic(ctx context.Context) (map[string]float64, error) {
	before, err := b.Lab.Traffic(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, lull); err != nil {
		return nil, err
	}
	after, err := b.Lab.Traffic(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for host, t := range after {
		out[host] = float64(t.To-before[host].To) / time.Since(began).Seconds()
	}
	return out, nil
}

// pause waits so long: users are to be at work alone meanwhile.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// managed are the hosts that a roll may log in on.
func managed() []lab.Machine {
	var out []lab.Machine
	for _, m := range lab.Machines() {
		if m.Managed {
			out = append(out, m)
		}
	}
	return out
}

// leaders are the process IDs of the managed hosts' PID 1.
func (b *bench) leaders() (map[string]int, error) {
	out := map[string]int{}
	for _, m := range managed() {
		pid, err := b.Lab.Leader(m.Name)
		if err != nil {
			return nil, err
		}
		if pid == 0 {
			return nil, fmt.Errorf("%s is not up", m.Name)
		}
		out[m.Name] = pid
	}
	return out, nil
}

// logins counts on each host the connections that its sshd accepted in a time.
func (b *bench) logins(ctx context.Context, began, ended time.Time) (map[string]int, error) {
	out := map[string]int{}
	hosts := managed()
	counts := make([]int, len(hosts))
	g, ctx := errgroup.WithContext(ctx)
	for i, m := range hosts {
		g.Go(func() error {
			text, err := b.Lab.Inside(ctx, m.Name, "journalctl", "-q", "--no-pager", "-u", "ssh.service", "--since", "@"+strconv.FormatInt(began.Unix(), 10), "-o", "short-unix")
			if err != nil {
				return err
			}
			counts[i] = countLogins(text, began, ended)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sum := 0
	for i, m := range hosts {
		out[m.Name] = counts[i]
		sum += counts[i]
	}
	if sum == 0 {
		return nil, errors.New("the hosts' journals name no login during the roll: they are not read rightly")
	}
	return out, nil
}

// countLogins counts the logins in a journal's lines, which begin with their time.
func countLogins(journal string, began, ended time.Time) int {
	n := 0
	for line := range strings.Lines(journal) {
		stamp, rest, _ := strings.Cut(line, " ")
		at, err := strconv.ParseFloat(stamp, 64)
		if err != nil || !strings.Contains(rest, ": Accepted ") {
			continue
		}
		if t := time.UnixMicro(int64(at * 1e6)); !t.Before(began) && !t.After(ended) {
			n++
		}
	}
	return n
}

// lastLines is the end of what a contender said, for an error: of the first of its
// streams that is not empty.
func lastLines(dir string, names ...string) string {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err.Error()
		}
		if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); len(b) > 0 {
			return strings.Join(lines[max(0, len(lines)-6):], "; ")
		}
	}
	return "it said nothing"
}
