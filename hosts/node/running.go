package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// deleted is what the kernel writes behind the name of a file that has none any more.
const deleted = " (deleted)"

// live is the live release as processes should have it.
type live struct {
	name string
	// programs are the release's own Ruby and Node.
	programs []os.FileInfo
}

// running looks at every process of Mastodon's: those of its units, and whatever else
// works in a release.
func (m Machine) running(ctx context.Context, in RunningIn, _ io.Reader, _ func(string)) (RunningOut, error) {
	l, err := liveOf(in.Home)
	if err != nil {
		return RunningOut{}, err
	}
	states, err := m.show(ctx, in.Home, in.Units)
	if err != nil {
		return RunningOut{}, err
	}
	mains := make(map[int]string, len(states))
	for _, s := range states {
		if s.Pid > 0 {
			mains[s.Pid] = s.Name
		}
	}
	all, err := m.processes()
	if err != nil {
		return RunningOut{}, err
	}
	out := RunningOut{Live: l.name}
	for _, p := range all {
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		fact, ours, err := m.runs(p.pid, in, mains[p.pid], l)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended meanwhile
		}
		if err != nil {
			return out, fmt.Errorf("cannot look at process %d: %w", p.pid, err)
		}
		if ours {
			out.Processes = append(out.Processes, fact)
		}
	}
	slices.SortFunc(out.Processes, func(a, b Process) int { return a.Pid - b.Pid })
	return out, nil
}

// liveOf finds what live points to.
func liveOf(homeDir string) (live, error) {
	name, err := liveRelease(homeDir)
	if err != nil {
		return live{}, err
	}
	if name == "" {
		return live{}, Failf(CodeNotFound, "%s points to no release", filepath.Join(home(homeDir), "live"))
	}
	l := live{name: name}
	at := filepath.Join(home(homeDir), "live")
	dir, err := os.Stat(at)
	if err != nil {
		return live{}, fmt.Errorf("cannot look at %s: %w", at, err)
	}
	if want, err := os.Stat(releaseDir(homeDir, name)); err != nil || !os.SameFile(want, dir) {
		return live{}, fmt.Errorf("%s does not lead to %s", at, releaseDir(homeDir, name))
	}
	for _, program := range []string{"ruby/bin/ruby", "node/bin/node"} {
		fi, err := os.Stat(filepath.Join(at, metaDir, program))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a release that was not placed by refit
		}
		if err != nil {
			return live{}, err
		}
		l.programs = append(l.programs, fi)
	}
	return l, nil
}

// runs looks at one process. It is Mastodon's if it is one of the units', or works in a
// release and is no job of refit's own.
func (m Machine) runs(pid int, in RunningIn, mainOf string, l live) (p Process, ours bool, err error) {
	at := m.proc(strconv.Itoa(pid))
	unit, err := unitOf(filepath.Join(at, "cgroup"))
	if err != nil {
		return p, false, err
	}
	unit = cmp.Or(mainOf, unit)
	inUnit := slices.Contains(in.Units, unit)
	cwd, err := os.Readlink(filepath.Join(at, "cwd"))
	if errors.Is(err, fs.ErrPermission) && !inUnit {
		return p, false, nil // what may not be looked at, and is none of the units'
	}
	if err != nil {
		return p, false, err
	}
	inRelease := strings.HasPrefix(cwd, releasesDir(in.Home)+"/")
	if !inUnit && (!inRelease || strings.HasPrefix(unit, "refit-")) {
		return p, false, nil
	}
	exe, err := os.Readlink(filepath.Join(at, "exe"))
	if err != nil {
		return p, false, err
	}
	comm, err := os.ReadFile(filepath.Join(at, "comm"))
	if err != nil {
		return p, false, err
	}
	p = Process{Pid: pid, Name: strings.TrimSpace(string(comm)), Unit: unit, Dir: cwd, Program: exe}
	if inRelease {
		p.Release = releaseOf(in.Home, cwd)
	}
	// What a unit's Ruby calls (ffmpeg, a shell) may work anywhere and be any program.
	if base := filepath.Base(exe); mainOf == "" && !inRelease && !strings.HasPrefix(base, "ruby") && !strings.HasPrefix(base, "node") {
		return p, true, nil
	}
	p.Faults, err = m.strays(at, p, in.Home, mainOf != "", l)
	return p, true, err
}

// strays tells in what a process is not of the live release.
func (m Machine) strays(at string, p Process, homeDir string, main bool, l live) ([]string, error) {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	here, err := os.Stat(filepath.Join(at, "cwd")) // the directory itself, whatever has its name now
	if err != nil {
		return nil, err
	}
	named, nameErr := os.Stat(p.Dir)
	switch {
	case strings.HasSuffix(p.Dir, deleted):
		add("works in %s, which was removed", strings.TrimSuffix(p.Dir, deleted))
	case nameErr != nil || !os.SameFile(here, named):
		// What the kernel calls it is of no use: a unit with mounts of its own does not see
		// where it went, and the name reads "/".
		add("works in a directory that was moved away, or another was put in its place")
	case p.Release == "" && main:
		add("works in %s and in no release", p.Dir)
	case p.Release != "" && p.Release != l.name:
		add("works in %s, and live is %s", p.Release, l.name)
	}
	base := filepath.Base(strings.TrimSuffix(p.Program, deleted))
	runtime := strings.HasPrefix(base, "ruby") || strings.HasPrefix(base, "node")
	if !main && !runtime {
		return out, nil
	}
	exe, err := os.Stat(filepath.Join(at, "exe"))
	switch {
	case strings.HasSuffix(p.Program, deleted):
		add("runs %s, which was removed or replaced since it started", strings.TrimSuffix(p.Program, deleted))
	case err != nil:
		return nil, err
	case len(l.programs) == 0:
		add("runs %s, and %s names no Ruby and no Node of its own", p.Program, l.name)
	case !slices.ContainsFunc(l.programs, func(fi os.FileInfo) bool { return os.SameFile(fi, exe) }):
		add("runs %s, which is neither the Ruby nor the Node of %s", p.Program, l.name)
	}
	libraries, err := strayLibraries(filepath.Join(at, "maps"), releasesDir(homeDir), releaseDir(homeDir, l.name))
	for _, lib := range libraries {
		add("has loaded %s", lib)
	}
	return out, err
}

// strayLibraries are the files of releases that a process has in its memory and that
// are not the live release's, or are gone from it (proc_pid_maps(5)).
func strayLibraries(maps, releases, liveDir string) ([]string, error) {
	b, err := os.ReadFile(maps)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		i := strings.Index(line, " "+releases+"/")
		if i < 0 {
			continue
		}
		file := strings.TrimRight(line[i+1:], "\n")
		name, isGone := strings.CutSuffix(file, deleted)
		if !isGone && strings.HasPrefix(name, liveDir+"/") {
			continue
		}
		if isGone {
			name += ", which was removed or replaced since"
		}
		if !slices.Contains(out, name) && len(out) < 5 {
			out = append(out, name)
		}
	}
	return out, nil
}

// unitOf is the unit that a process belongs to: the last part of its control group that
// names one (cgroups(7)); empty for none.
func unitOf(cgroup string) (string, error) {
	b, err := os.ReadFile(cgroup)
	if err != nil {
		return "", err
	}
	unit := ""
	for line := range strings.Lines(string(b)) {
		// 0::/system.slice/mastodon-web.service; below version 1 systemd's own has a name.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || (parts[1] != "" && parts[1] != "name=systemd") {
			continue
		}
		for part := range strings.SplitSeq(parts[2], "/") {
			if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
				unit = part
			}
		}
	}
	return unit, nil
}
