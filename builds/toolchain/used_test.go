package toolchain

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vmst.io/refit/builds"
)

// live makes a release that runs with a toolchain the one that is live.
func (w *world) live(link, prefix string) {
	w.t.Helper()
	release := filepath.Join(w.layout.Home, "releases/v4.5.14")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(release, ".refit"), 0o755),
		os.Symlink(prefix, filepath.Join(release, ".refit", link)),
		os.Symlink(release, filepath.Join(w.layout.Home, "live")),
	); err != nil {
		w.t.Fatal(err)
	}
}

// runs starts a program that lies in dir and lives as long as the test.
func (w *world) runs(dir string) {
	w.t.Helper()
	from, err := exec.LookPath("cat")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		w.t.Fatal(err)
	}
	program := filepath.Join(dir, "bin/works")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		w.t.Fatal(err)
	}
	c := exec.CommandContext(w.t.Context(), program)
	in, err := c.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := errors.Join(in.Close(), c.Wait()); err != nil && w.t.Context().Err() == nil {
			w.t.Error(err)
		}
	})
	// What it answers shows that it is at work.
	if _, err := io.WriteString(in, "x"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		w.t.Fatal(err)
	}
}

func TestAToolchainIsNotTakenFromUnderWhatRunsWithIt(t *testing.T) {
	signed := func(m Maker) Maker {
		b := *m.Builder
		b.Signer = pen("us")
		m.Builder = &b
		return m
	}
	for name, c := range map[string]struct {
		tool   string
		uses   func(w *world, a builds.Artifact)
		harm   func(m Maker, tools *builds.Toolchain) Maker
		by     string
		atOnce bool // what Check sees, without hashing
	}{
		"it is not signed": {
			"ruby", func(w *world, a builds.Artifact) { w.live("ruby", a.Prefix) },
			func(m Maker, _ *builds.Toolchain) Maker { return signed(m) }, "v4.5.14, which is live there, runs with it", true,
		},
		"it is of another recipe": {
			"node", func(w *world, a builds.Artifact) { w.live("node", a.Prefix) },
			func(m Maker, tools *builds.Toolchain) Maker {
				tools.Artifacts[2].Recipe = sum([]byte("another"))
				return m
			}, "v4.5.14, which is live there, runs with it", true,
		},
		"a process runs from it": {
			"ruby", func(w *world, a builds.Artifact) { w.runs(a.Prefix) },
			func(m Maker, _ *builds.Toolchain) Maker { return signed(m) }, "(works) runs from it", true,
		},
		"it is damaged": {
			"bundler", func(w *world, a builds.Artifact) {
				w.live("bundler", a.Prefix)
				if err := os.WriteFile(filepath.Join(a.Prefix, "more"), nil, 0o644); err != nil {
					w.t.Fatal(err)
				}
			},
			func(m Maker, _ *builds.Toolchain) Maker { return m }, "v4.5.14, which is live there, runs with it", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tools := w.tools()
			if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
				t.Fatal(err)
			}
			a, _ := tools.Artifact(c.tool)
			c.uses(w, a)
			m := c.harm(w.maker(), &tools)
			err := m.Check(t.Context(), tools, w.say)
			if c.atOnce {
				failsWith(t, err, "uhura: "+a.Prefix+" is to be made again", c.by, "give the role builder to a host that is no node")
			} else if err != nil {
				t.Error(err)
			}
			_, err = m.Make(t.Context(), tools, w.say)
			failsWith(t, err, a.Prefix+" is to be made again", c.by)
			if !exists(t, filepath.Join(a.Prefix, ".refit/manifest.json")) {
				t.Error("it was taken away all the same")
			}
		})
	}
}

func TestAToolchainThatNothingRunsWithIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	tools := w.tools()
	if _, err := w.maker().Make(t.Context(), tools, w.say); err != nil {
		t.Fatal(err)
	}
	w.live("ruby", w.layout.Prefix("ruby-3.4.70")) // another, whose name begins the same
	m := w.maker()
	m.Builder.Signer = pen("us")
	if err := m.Check(t.Context(), tools, w.say); err != nil {
		t.Error(err)
	}
	if made, err := m.Make(t.Context(), tools, w.say); err != nil || made[0].Cached {
		t.Errorf("%+v, %v", made, err)
	}
}
