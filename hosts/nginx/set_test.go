package nginx

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/node"
)

const (
	webUp       = "server 10.77.0.21:3000 max_fails=0;\nserver 10.77.0.22:3000 max_fails=0;\n"
	webDown     = "server 10.77.0.21:3000 max_fails=0 down;\nserver 10.77.0.22:3000 max_fails=0;\n"
	streamUp    = "server 10.77.0.21:4000 max_fails=0;\nserver 10.77.0.22:4000 max_fails=0;\n"
	streamDown  = "server 10.77.0.21:4000 max_fails=0 down;\nserver 10.77.0.22:4000 max_fails=0;\n"
	theNode     = "10.77.0.21"
	theNodePort = 3000
)

// fake is an nginx with real include files: what it has loaded is what stood in
// them when it was reloaded.
type fake struct {
	dir   string
	files []string

	mu      sync.Mutex
	loaded  string
	pids    []int // of the workers that serve
	reloads int
	// refuse is what "nginx -t" says.
	refuse string
	// stuck: a reload starts no new workers.
	stuck bool
	// deaf: a reload cannot be asked for.
	deaf bool
	// onReload runs before a reload.
	onReload func()
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{dir: t.TempDir(), pids: []int{101, 102}}
	for name, text := range map[string]string{"web.conf": webUp, "streaming.conf": streamUp} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	f.files = []string{filepath.Join(f.dir, "web.conf"), filepath.Join(f.dir, "streaming.conf")}
	f.loaded = f.texts(t)
	return f
}

func (f *fake) texts(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range f.files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// proxy is the code under test around this nginx.
func (f *fake) proxy(t *testing.T) *proxy {
	t.Helper()
	return &proxy{
		run: func(_ context.Context, argv ...string) (string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			switch strings.Join(argv, " ") {
			case "nginx -t":
				if f.refuse != "" {
					return f.refuse, errors.New(f.refuse)
				}
			case "systemctl reload nginx.service":
				if f.onReload != nil {
					f.onReload()
				}
				if f.deaf {
					return "", errors.New("Job for nginx.service failed.")
				}
				f.reloads++
				if !f.stuck {
					f.loaded = f.texts(t)
					f.pids = []int{f.pids[0] + 10, f.pids[1] + 10}
				}
			default:
				t.Errorf("unexpected command %v", argv)
			}
			return "", nil
		},
		workers: func(context.Context) ([]worker, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			ws := []worker{{pid: 55, leaving: true}}
			for _, pid := range f.pids {
				ws = append(ws, worker{pid: pid})
			}
			return ws, nil
		},
		stamp: filepath.Join(f.dir, "loaded"),
		every: time.Microsecond,
	}
}

func (f *fake) in(down bool) SetIn {
	return SetIn{Files: f.files, Address: theNode, Down: down, Within: 50 * time.Millisecond}
}

func quiet(string) {}

func TestANodeGoesDownInBothUpstreamsWithOneReload(t *testing.T) {
	f := newFake(t)
	out, err := f.proxy(t).set(context.Background(), f.in(true), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Changed || !out.Reloaded || out.Leaving != 1 || f.reloads != 1 {
		t.Errorf("%+v, %d reloads", out, f.reloads)
	}
	if diff := cmp.Diff(webDown+streamDown, f.loaded); diff != "" {
		t.Error(diff)
	}
	if down, known := (UpstreamOut{out.Files}).Down(theNode); !down || !known {
		t.Errorf("read back: down %v, known %v", down, known)
	}
	info, err := os.Stat(f.files[0])
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestWhatIsSoAlreadyIsNotReloadedAndSaysSo(t *testing.T) {
	f := newFake(t)
	p := f.proxy(t)
	if _, err := p.set(context.Background(), f.in(true), quiet); err != nil {
		t.Fatal(err)
	}
	var said string
	out, err := p.set(context.Background(), f.in(true), func(s string) { said = s })
	if err != nil || out.Changed || out.Reloaded || f.reloads != 1 {
		t.Errorf("%+v, %v, %d reloads", out, err, f.reloads)
	}
	if !strings.Contains(said, "nothing to reload") {
		t.Errorf("said %q", said)
	}
}

func TestFilesThatAreRightButWereNeverLoadedAreReloaded(t *testing.T) {
	f := newFake(t)
	p := f.proxy(t)
	f.onReload = func() { panic("killed before the reload") }
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("the reload was not asked for")
			}
		}()
		_, err := p.set(context.Background(), f.in(true), quiet)
		t.Fatal(err)
	}()
	f.onReload = nil
	if f.loaded != webUp+streamUp || f.texts(t) != webDown+streamDown {
		t.Fatal("the crash did not leave written files that were not loaded")
	}
	out, err := p.set(context.Background(), f.in(true), quiet)
	if err != nil || out.Changed || !out.Reloaded || f.loaded != webDown+streamDown {
		t.Errorf("%+v, %v, loaded %q", out, err, f.loaded)
	}
}

func TestALoadedChangeThatCannotBeNotedIsDoneAndSaysSo(t *testing.T) {
	f := newFake(t)
	p := f.proxy(t)
	p.stamp = filepath.Join(f.dir, "notes", "loaded")
	if err := os.MkdirAll(p.stamp+".new", 0o755); err != nil { // the note cannot be written over it
		t.Fatal(err)
	}
	var said []string
	out, err := p.set(context.Background(), f.in(true), func(s string) { said = append(said, s) })
	if err != nil || !out.Changed || !out.Reloaded || f.loaded != webDown+streamDown {
		t.Errorf("%+v, %v", out, err)
	}
	if len(said) == 0 || !strings.Contains(said[0], "once more than it has to") {
		t.Errorf("said %q", said)
	}
}

func TestWhatNginxRefusesIsPutBackAndNotReloaded(t *testing.T) {
	f := newFake(t)
	f.refuse = "nginx: [emerg] host not found in upstream"
	_, err := f.proxy(t).set(context.Background(), f.in(true), quiet)
	if err == nil || !strings.Contains(err.Error(), f.refuse) {
		t.Errorf("got %v", err)
	}
	if f.texts(t) != webUp+streamUp || f.reloads != 0 {
		t.Errorf("%d reloads, files %q", f.reloads, f.texts(t))
	}
}

func TestWithoutNewWorkersTheOldContentComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		set func(*fake)
		say string
	}{
		"no new generation":                 {func(f *fake) { f.stuck = true }, "2 old ones still serve"},
		"a reload that cannot be asked for": {func(f *fake) { f.deaf = true }, "Job for nginx.service failed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c.set(f)
			_, err := f.proxy(t).set(context.Background(), f.in(true), quiet)
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v", err)
			}
			if f.texts(t) != webUp+streamUp || f.loaded != webUp+streamUp {
				t.Errorf("files %q, loaded %q", f.texts(t), f.loaded)
			}
		})
	}
}

func TestARefusalTouchesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		web  string
		in   func(*SetIn)
		is   error
		says string
	}{
		"the last server":          {webDown, func(in *SetIn) { in.Address = "10.77.0.22" }, node.ErrInUse, "bring another server up first"},
		"an unknown address":       {webUp, func(in *SetIn) { in.Address = "10.77.0.29" }, node.ErrNotFound, "10.77.0.29"},
		"no address":               {webUp, func(in *SetIn) { in.Address = "" }, nil, "without its address"},
		"a file of another hand":   {webUp + "keepalive 8;\n", func(*SetIn) {}, nil, "web.conf line 3"},
		"a file that is not there": {webUp, func(in *SetIn) { in.Files = append(in.Files, "/nonexistent/x.conf") }, os.ErrNotExist, "/nonexistent/x.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if err := os.WriteFile(f.files[0], []byte(c.web), 0o644); err != nil {
				t.Fatal(err)
			}
			before := f.texts(t)
			in := f.in(true)
			c.in(&in)
			_, err := f.proxy(t).set(context.Background(), in, quiet)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v", err)
			}
			if f.texts(t) != before || f.reloads != 0 {
				t.Error("something was changed")
			}
		})
	}
}

func TestANodeThatIsDownInOneFileOnlyIsTakenOutOfTheOther(t *testing.T) {
	f := newFake(t)
	if err := os.WriteFile(f.files[0], []byte(webDown), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := f.proxy(t).set(context.Background(), f.in(true), quiet)
	if err != nil || !out.Changed || f.loaded != webDown+streamDown {
		t.Errorf("%+v, %v, %q", out, err, f.loaded)
	}
}
