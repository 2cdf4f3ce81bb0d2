package node_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// waitAsRuby lets this program stand in for a Ruby: under that name it waits.
func waitAsRuby() {
	if filepath.Base(os.Args[0]) != "ruby" {
		return
	}
	_, err := os.Stdout.WriteString("ready")
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// site is a node with two releases, each with a Ruby of its own, whose processes are
// real ones.
type site struct {
	t       *testing.T
	a       *node.Agent
	home    string
	systemd *hoststest.Systemd
}

// webUnit is one that no lab on this machine has: the processes here are real ones.
const webUnit = "mastodon-web-of-a-test.service"

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, home: t.TempDir(), systemd: &hoststest.Systemd{Units: map[string]*hoststest.Unit{webUnit: {Active: "active"}}}}
	s.a, _ = hoststest.NewNode(t, s.systemd)
	for _, v := range []string{"v1.0.0", "v1.0.1"} {
		s.ruby(filepath.Join(s.home, "rubies", v))
		tree(t, s.home, map[string]string{"releases/" + v + "/.refit/ruby": "-> " + filepath.Join(s.home, "rubies", v), "releases/" + v + "/lib/a.so": "a"})
	}
	tree(t, s.home, map[string]string{"live": "-> releases/v1.0.1"})
	return s
}

func (s *site) release(v string) string { return filepath.Join(s.home, "releases", v) }

// ruby puts a Ruby into a prefix, in the place of one that is there.
func (s *site) ruby(prefix string) {
	s.t.Helper()
	at := filepath.Join(prefix, "bin/ruby")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(at), 0o755)
	}
	if err == nil {
		err = os.WriteFile(at+".new", b, 0o755) //nolint:gosec // a program
	}
	if err == nil {
		err = os.Rename(at+".new", at)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// start starts a Ruby in a directory, as the unit's main process or as another one.
func (s *site) start(program, dir string, main bool) int {
	s.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), program)
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, len("ready")))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := in.Close(); err != nil {
			s.t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			s.t.Error(err)
		}
	})
	if main {
		unlock := s.systemd.Lock()
		s.systemd.Units[webUnit].Pid = cmd.Process.Pid
		unlock()
	}
	return cmd.Process.Pid
}

func (s *site) running() node.RunningOut {
	s.t.Helper()
	out, err := s.a.Running(s.t.Context(), node.RunningIn{Home: s.home, Units: []string{webUnit}})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func TestAProcessThatDoesNotRunWhatLivePointsToIsFound(t *testing.T) {
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		// program and dir are below the home; empty for those of live.
		program, dir string
		main         bool
		then         func(*testing.T, *site)
		want         string // in its one fault; empty for none
	}{
		"the unit's, of live":       {main: true},
		"another, of live":          {},
		"in a folder of live":       {dir: "releases/v1.0.1/lib"},
		"of the release before":     {program: "rubies/v1.0.0/bin/ruby", dir: "releases/v1.0.0", want: "works in v1.0.0, and live is v1.0.1"},
		"the unit's, of no release": {dir: "rubies", main: true, want: "rubies and in no release"},
		"with another Ruby":         {program: "rubies/v1.0.0/bin/ruby", main: true, want: "rubies/v1.0.0/bin/ruby, which is neither the Ruby nor the Node of v1.0.1"},
		"from a removed directory": {main: true, then: func(t *testing.T, s *site) {
			must(t, os.RemoveAll(s.release("v1.0.1")), os.CopyFS(s.release("v1.0.1"), os.DirFS(s.release("v1.0.0"))))
			s.again()
		}, want: "v1.0.1, which was removed"},
		"from a swapped release": {main: true, then: func(t *testing.T, s *site) {
			must(t, os.Rename(s.release("v1.0.1"), s.release("v9.9.9")), os.Mkdir(s.release("v1.0.1"), 0o755))
			s.again()
		}, want: "works in v9.9.9, and live is v1.0.1"},
		"from one that was moved out": {main: true, then: func(t *testing.T, s *site) {
			must(t, os.Rename(s.release("v1.0.1"), filepath.Join(s.home, "away")), os.Mkdir(s.release("v1.0.1"), 0o755))
			s.again()
		}, want: "away and in no release"},
		"whose Ruby was replaced": {main: true, then: func(_ *testing.T, s *site) { s.ruby(filepath.Join(s.home, "rubies/v1.0.1")) }, want: "rubies/v1.0.1/bin/ruby, which was removed or replaced since it started"},
		"after live moved on": {main: true, then: func(t *testing.T, s *site) {
			must(t, os.Remove(filepath.Join(s.home, "live")), os.Symlink("releases/v1.0.0", filepath.Join(s.home, "live")))
		}, want: "works in v1.0.1, and live is v1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			program, dir := filepath.Join(s.home, "live/.refit/ruby/bin/ruby"), filepath.Join(s.home, "live")
			if c.program != "" {
				program = filepath.Join(s.home, c.program)
			}
			if c.dir != "" {
				dir = filepath.Join(s.home, c.dir)
			}
			pid := s.start(program, dir, c.main)
			if c.then != nil {
				c.then(t, s)
			}
			out := s.running()
			if len(out.Processes) != 1 || out.Processes[0].Pid != pid || (out.Processes[0].Unit == webUnit) != c.main {
				t.Fatalf("found %+v, wanted process %d", out.Processes, pid)
			}
			faults := strings.Join(out.Processes[0].Faults, "; ")
			if (c.want == "") != (faults == "") || !strings.Contains(faults, c.want) {
				t.Errorf("of it: %q, wanted %q", faults, c.want)
			}
		})
	}
}

// again gives the release of live its runtime again.
func (s *site) again() {
	s.t.Helper()
	link := filepath.Join(s.release("v1.0.1"), ".refit/ruby")
	if err := os.RemoveAll(filepath.Dir(link)); err != nil {
		s.t.Fatal(err)
	}
	tree(s.t, s.release("v1.0.1"), map[string]string{".refit/ruby": "-> " + filepath.Join(s.home, "rubies/v1.0.1")})
}

func TestALiveThatPointsToNoReleaseOfTheHomeIsSaid(t *testing.T) {
	s := newSite(t)
	live := filepath.Join(s.home, "live")
	elsewhere := t.TempDir()
	tree(t, elsewhere, map[string]string{"releases/v1.0.1/x": "x"})
	for target, want := range map[string]string{
		"": "points to no release", filepath.Join(elsewhere, "releases/v1.0.1"): "does not lead to " + s.release("v1.0.1"), "releases/v3.0.0": "cannot look at",
	} {
		if err := os.Remove(live); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if target != "" {
			tree(t, s.home, map[string]string{"live": "-> " + target})
		}
		if _, err := s.a.Running(t.Context(), node.RunningIn{Home: s.home}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %q: %v, wanted %q", target, err, want)
		}
	}
}
