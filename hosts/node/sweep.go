package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func (m Machine) sweepShow(ctx context.Context, in SweepIn, _ io.Reader, _ func(string)) (SweepOut, error) {
	in.Clear = false
	return m.sweepAll(ctx, in)
}

func (m Machine) sweep(ctx context.Context, in SweepIn, _ io.Reader, _ func(string)) (SweepOut, error) {
	return m.sweepAll(ctx, in)
}

// sweepAll finds what runs that crashed left, and clears it if told to. The lock
// of placing tells half-made releases and temporary files that are being worked on
// from those that nobody will finish.
func (m Machine) sweepAll(ctx context.Context, in SweepIn) (SweepOut, error) {
	out := SweepOut{Items: []Leftover{}}
	working := false
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, 10*lockPoll)
	switch {
	case errors.Is(err, errLocked):
		working = true
	case err != nil:
		return out, err
	default:
		defer lock.Close()
	}
	if in.Run == "" {
		if err := m.sweepFiles(in, working, &out); err != nil {
			return out, err
		}
		if err := m.sweepHolders(in, &out); err != nil {
			return out, err
		}
	}
	if err := m.sweepJobs(ctx, in, &out); err != nil || in.Run != "" {
		return out, err
	}
	return out, m.sweepAgents(in, &out)
}

// sweepFiles finds files and directories under refit's temporary names.
func (m Machine) sweepFiles(in SweepIn, working bool, out *SweepOut) error {
	for _, place := range []struct{ pattern, kind string }{
		{filepath.Join(releasesDir(in.Home), tempPrefix+"*"), "placing"},
		{filepath.Join(m.toolchainsDir(), tempPrefix+"*"), "placing"},
		// An unfinished build under its temporary name, see package builds.
		{filepath.Join(m.toolchainsDir(), ".refit-build-*"), "build"},
		{filepath.Join(releasesDir(in.Home), ".refit-build-*"), "build"},
		{filepath.Join(home(in.Home), tempPrefix+"*"), "file"},
		{m.state(tempPrefix + "*"), "file"},
		{m.state("bin", tempPrefix+"*"), "file"},
		{m.state("agents", tempPrefix+"*"), "file"},
		{m.state("permit.d", tempPrefix+"*"), "file"},
		{m.root(unitsDir, "*.d", tempPrefix+"*"), "file"},
		{filepath.Join(m.holdersDir(), tempPrefix+"*"), "file"},
		{m.state("jobs", "*", tempPrefix+"*"), "file"},
		// The keeper's, see package keeper. The lease's is written over by the next.
		{m.state("keeper", "journal", "*.tmp"), "file"},
	} {
		paths, err := filepath.Glob(place.pattern)
		if err != nil {
			return err
		}
		for _, p := range paths {
			fi, err := os.Lstat(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			item := Leftover{Kind: place.kind, Path: p, Since: fi.ModTime().UTC(), Active: working}
			if in.Clear && !working {
				if err := os.RemoveAll(p); err != nil {
					return err
				}
				item.Cleared = true
			}
			out.Items = append(out.Items, item)
		}
	}
	return nil
}

func (m Machine) sweepHolders(in SweepIn, out *SweepOut) error {
	_, dead, err := m.holderFiles()
	if err != nil {
		return err
	}
	for _, p := range dead {
		item := Leftover{Kind: "holder", Path: p}
		if fi, err := os.Stat(p); err == nil {
			item.Since = fi.ModTime().UTC()
		}
		if in.Clear {
			if err := removeIfThere(p); err != nil {
				return err
			}
			item.Cleared = true
		}
		out.Items = append(out.Items, item)
	}
	return nil
}

// agentAge is how long an agent of another version stays: an operator who still
// uses it uploads it again when it is gone.
const agentAge = 7 * 24 * time.Hour

// sweepAgents finds agents of other versions that nobody used for long.
func (m Machine) sweepAgents(in SweepIn, out *SweepOut) error {
	for _, item := range out.Items {
		if item.Kind == "job" && item.Active {
			return nil
		}
	}
	self, err := m.agent()
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(m.state("bin", "refit-*"))
	if err != nil {
		return err
	}
	kept, err := filepath.Glob(m.state("agents", "refit-*"))
	if err != nil {
		return err
	}
	for _, p := range append(paths, kept...) {
		fi, err := os.Lstat(p)
		if err != nil || filepath.Base(p) == filepath.Base(self) || time.Since(fi.ModTime()) < agentAge {
			continue
		}
		item := Leftover{Kind: "agent", Path: p, Since: fi.ModTime().UTC()}
		if in.Clear {
			if err := removeIfThere(p); err != nil {
				return err
			}
			item.Cleared = true
		}
		out.Items = append(out.Items, item)
	}
	return nil
}

func (m Machine) sweepJobs(ctx context.Context, in SweepIn, out *SweepOut) error {
	dirs, err := os.ReadDir(m.state("jobs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !d.IsDir() || !strings.HasSuffix(d.Name(), ".service") || checkUnits(d.Name()) != nil {
			continue
		}
		j, err := m.lookJob(ctx, d.Name())
		if err != nil {
			return err
		}
		if in.Run != "" && j.Run != in.Run {
			continue
		}
		item := Leftover{Kind: "job", Path: m.jobDir(d.Name()), Unit: d.Name(), Run: j.Run, State: string(j.State), Since: j.Asked, Active: j.State == JobRunning}
		if in.Clear && !item.Active {
			if err := m.clearJob(ctx, d.Name()); err != nil {
				return err
			}
			item.Cleared = true
		}
		out.Items = append(out.Items, item)
	}
	return nil
}
