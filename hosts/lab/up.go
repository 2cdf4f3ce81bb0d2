package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// bootLimit is how long a host may take to start all its units while eleven others
// do the same on two cores.
const bootLimit = 3 * time.Minute

// ErrTaken tells that the machine has a lab already.
var ErrTaken = errors.New("this machine has a lab already; end it with: lab down")

// Up raises the fleet and returns when every unit of every host runs. A lab that
// does not come up is left as it is, to be looked at; Down clears it.
func Up(ctx context.Context, o Options) (*Lab, error) {
	began := time.Now()
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock()
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the mirrors hold it on
	if err := Down(ctx, l.say); err != nil {
		return nil, fmt.Errorf("cannot clear what an earlier lab left: %w", err)
	}
	if err := l.prepare(ctx, o); err != nil {
		return nil, err
	}
	if err := l.openAccount(); err != nil {
		return nil, err
	}
	if err := raiseWatches(); err != nil {
		return nil, err
	}
	l.say("lab: booting %d hosts", len(Machines()))
	started := time.Now()
	if err := networkUp(ctx, Machines()); err != nil {
		return nil, err
	}
	if err := l.save(); err != nil {
		return nil, err
	}
	if err := l.startMirrors(ctx, lock); err != nil {
		return nil, err
	}
	all, gctx := errgroup.WithContext(ctx)
	for i, m := range Machines() {
		all.Go(func() error {
			if err := l.seed(gctx, m, i); err != nil {
				return err
			}
			if err := boot(m); err != nil {
				return err
			}
			if err := l.ready(gctx, m.Name, bootLimit); err != nil {
				return err
			}
			l.say("lab: %-7s %-11s up after %.1f s", m.Name, m.Address, time.Since(started).Seconds())
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	if err := l.writeConfig(); err != nil {
		return nil, err
	}
	l.say("lab: up after %.1f s", time.Since(began).Seconds())
	return l, nil
}

// newLab fills in what the options leave open.
func newLab(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab needs root; run it with sudo")
	}
	dir, err := labDir(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{say: o.Say}
	if l.say == nil {
		l.say = func(string, ...any) {}
	}
	if o.Cache == "" {
		o.Cache = DefaultCache()
	}
	if o.Self == "" {
		if o.Self, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("cannot find the lab's own program: %w", err)
		}
	}
	if o.Git == "" {
		o.Git = filepath.Join(o.Cache, "git")
	}
	if o.Files == "" {
		if o.Files, err = FindFiles(); err != nil {
			return nil, err
		}
	}
	l.State = State{
		Schema: "refit.lab/v1", Dir: dir, App: o.App, Release: o.Release, Beat: o.Beat, More: o.More, Cloud: o.Cloud, Since: time.Now().UTC(), Gems: o.GemRegistry, NpmOverlay: o.NpmOverlay,
		Redis: RedisAddress, Database: DatabaseAddress, Primary: "majel",
	}
	if o.Seed != "" {
		if l.Seed, err = filepath.Abs(o.Seed); err != nil {
			return nil, fmt.Errorf("cannot make %s absolute: %w", o.Seed, err)
		}
	}
	for _, p := range []struct{ to, from *string }{{&l.Cache, &o.Cache}, {&l.Files, &o.Files}, {&l.Self, &o.Self}, {&l.Git, &o.Git}} {
		if *p.to, err = filepath.Abs(*p.from); err != nil {
			return nil, fmt.Errorf("cannot make %s absolute: %w", *p.from, err)
		}
	}
	return l, makeSecrets(&l.Secrets)
}

// FindFiles looks for testdata/lab in the working directory and above it.
func FindFiles() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find the lab's files: %w", err)
	}
	for {
		p := filepath.Join(dir, "testdata", "lab")
		if _, err := os.Stat(filepath.Join(p, "hosts", "common")); err == nil {
			return p, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find testdata/lab here or above; run the lab inside refit's repository or name the folder with --files")
		}
		dir = filepath.Dir(dir)
	}
}

// takeLock takes the machine's one place for a lab. The mirrors inherit the lock
// and hold it until they end.
func takeLock() (*os.File, error) {
	f, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot take the lab's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(ErrTaken, f.Close())
	}
	return f, nil
}

// prepare makes or finds all that is made once: keys, image, gems, the application.
func (l *Lab) prepare(ctx context.Context, o Options) error {
	for _, d := range []string{l.Dir, l.Git, l.Cache} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("cannot make the lab's directories: %w", err)
		}
	}
	if err := l.makeKeys(ctx); err != nil {
		return err
	}
	var err error
	if l.Image, err = Image(ctx, l.Cache, l.More, l.say); err != nil {
		return err
	}
	if l.Workshop, err = Workshop(ctx, l.Cache, l.More, l.say); err != nil {
		return err
	}
	for name, image := range map[string]string{"base": l.Image, "workshop": l.Workshop} {
		at := filepath.Join(runDir, name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return fmt.Errorf("cannot mount the image: %w", err)
		}
		if _, err := run(ctx, "mount", "-t", "squashfs", "-o", "loop,ro", image, at); err != nil {
			return fmt.Errorf("cannot mount the image: %w", err)
		}
	}
	if err := l.tools(ctx); err != nil {
		return err
	}
	if l.Gems == "" {
		if l.Gems, err = l.gems(ctx, o.Gems); err != nil {
			return err
		}
	}
	if l.App == "" && o.Prepare != nil {
		if l.App, err = o.Prepare(ctx, l.Ruby, l.Gems); err != nil {
			return err
		}
	}
	if l.App != "" {
		if l.App, err = gitDir(ctx, l.App); err != nil {
			return err
		}
	}
	l.NpmFrom = npmRegistry(ctx)
	return l.serveTools(ctx)
}

// gitDir finds the repository of a folder, bare or not.
func gitDir(ctx context.Context, dir string) (string, error) {
	out, err := run(ctx, "git", "-C", dir, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return "", fmt.Errorf("cannot use %s as the application: %w", dir, err)
	}
	return strings.TrimSpace(out), nil
}

// seed makes a host's disk with all that it is, before its first boot.
func (l *Lab) seed(ctx context.Context, m Machine, index int) error {
	if err := mountHost(m); err != nil {
		return err
	}
	root := hostDir(m.Name, "root")
	if err := l.lay(m, root); err != nil {
		return err
	}
	if err := l.identity(m, root, index); err != nil {
		return err
	}
	if err := l.layApps(ctx, m, root); err != nil {
		return err
	}
	if m.Name == "uhura" {
		if err := l.seedRepositories(ctx, root); err != nil {
			return err
		}
		if err := l.seedToolchains(ctx, root); err != nil {
			return err
		}
	}
	return own(root)
}

// seedRepositories puts the repositories that uhura serves on its disk: the
// application's and an empty one for configs.
func (l *Lab) seedRepositories(ctx context.Context, root string) error {
	git := filepath.Join(root, "srv/git")
	if _, err := run(ctx, "git", "init", "-q", "--bare", "-b", "main", filepath.Join(git, "config.git")); err != nil {
		return fmt.Errorf("cannot make the config repository: %w", err)
	}
	if l.App != "" {
		if _, err := run(ctx, "git", "clone", "-q", "--bare", "--no-local", l.App, filepath.Join(git, "mastodon.git")); err != nil {
			return fmt.Errorf("cannot copy the application's repository: %w", err)
		}
	}
	if _, err := run(ctx, "chown", "-R", "1002:1002", git); err != nil {
		return fmt.Errorf("cannot give the repositories to user git: %w", err)
	}
	return nil
}

// startMirrors starts the lab's mirrors in the background, with the lock.
func (l *Lab) startMirrors(ctx context.Context, lock *os.File) error {
	groups, err := makeGroups("mirrors")
	if err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(runDir, "mirrors.log"))
	if err != nil {
		return fmt.Errorf("cannot start the mirrors: %w", err)
	}
	defer logFile.Close()
	c := exec.Command(l.Self, "--dir", l.Dir, "mirrors")
	c.Stdout, c.Stderr, c.Dir = logFile, logFile, "/"
	c.ExtraFiles = []*os.File{lock}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("cannot start the mirrors: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(g, "cgroup.procs"), fmt.Append(nil, c.Process.Pid), 0); err != nil {
			return fmt.Errorf("cannot place the mirrors in their cgroup: %w", err)
		}
	}
	err = await(ctx, 10*time.Second, func() (bool, error) {
		select {
		case err := <-ended:
			said, rerr := os.ReadFile(logFile.Name())
			return false, errors.Join(fmt.Errorf("they ended (%v): %s", err, strings.TrimSpace(string(said))), rerr)
		default:
		}
		for _, p := range []int{PortGems, PortNpm, PortGit, PortFiles, PortCloud} {
			conn, err := l.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", Gateway, p))
			if err != nil {
				return false, nil
			}
			if err := conn.Close(); err != nil {
				return false, fmt.Errorf("cannot close a connection: %w", err)
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("the mirrors do not start: %w", err)
	}
	return nil
}
