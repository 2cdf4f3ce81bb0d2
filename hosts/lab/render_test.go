package lab

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// testLab is a lab that was never up, with made-up secrets.
func testLab(t *testing.T) *Lab {
	t.Helper()
	l := &Lab{State: State{
		Dir: t.TempDir(), Files: "../../testdata/lab", Redis: RedisAddress, Database: DatabaseAddress, Primary: "majel",
		Ruby: "3.3.14", RubyBuild: strings.Repeat("0123456789", 4),
	}}
	if err := makeSecrets(&l.Secrets); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheFilesOfEveryHostCanBeFilledIn(t *testing.T) {
	l := testLab(t)
	for _, m := range Machines() {
		root := t.TempDir()
		if err := l.lay(m, root); err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.Contains(string(b), "<no value>") || strings.Contains(string(b), "{{") {
				t.Errorf("%s: %s is not filled in:\n%s", m.Name, path, b)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestTheUpstreamFilesNameBothWebNodesAndNeverCountFailures(t *testing.T) {
	l, root := testLab(t), t.TempDir()
	m, err := machine("sulu")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.lay(m, root); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"web.conf":       "server 10.77.0.21:3000 max_fails=0;\nserver 10.77.0.22:3000 max_fails=0;\n",
		"streaming.conf": "server 10.77.0.21:4000 max_fails=0;\nserver 10.77.0.22:4000 max_fails=0;\n",
	} {
		b, err := os.ReadFile(filepath.Join(root, "etc/nginx/refit", file))
		if err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v; want %q", file, b, err, want)
		}
	}
}

func TestTheConfigNamesEveryManagedHostAndNoOther(t *testing.T) {
	l := testLab(t)
	if err := l.writeConfig(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(l.Config())
	if err != nil {
		t.Fatal(err)
	}
	var conf struct {
		Domain string
		Hosts  []struct{ Name, Address string }
	}
	if err := yaml.Unmarshal(b, &conf); err != nil {
		t.Fatalf("%v in:\n%s", err, b)
	}
	var want, got []string
	for _, m := range Machines() {
		if m.Managed {
			want = append(want, m.Name+" "+m.Address)
		}
	}
	for _, h := range conf.Hosts {
		got = append(got, h.Name+" "+h.Address)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") || conf.Domain != Domain {
		t.Errorf("got %s for %s\nwant %s for %s", got, conf.Domain, want, Domain)
	}
}

func TestAUnitsDropInReachesRuntimesThroughTheReleaseAlone(t *testing.T) {
	for _, m := range Machines() {
		for _, a := range m.Apps {
			d := dropIn(a)
			if a.Exec == "" {
				if strings.Contains(d, "ExecStart") {
					t.Errorf("%s on %s keeps its own command, but the drop-in sets one", a.Name, m.Name)
				}
				continue
			}
			for _, want := range []string{"ExecStart=\nExecStart=/home/mastodon/live/.refit/bin/", "TimeoutStopSec=90\n", "ReadWritePaths=/home/mastodon/releases"} {
				if !strings.Contains(d, want) {
					t.Errorf("%s on %s: no %q in\n%s", a.Name, m.Name, want, d)
				}
			}
		}
	}
}

func TestAFileThatAsksForAnUnknownHostIsRefused(t *testing.T) {
	p, err := testLab(t).page(Machine{})
	must(t, err)
	if _, err := render("x", `{{addr "enterprise"}}`, p); err == nil {
		t.Error("it was filled in")
	}
}

func TestNewSecretsDifferAndKeptOnesStay(t *testing.T) {
	var a, b Secrets
	if err := makeSecrets(&a); err != nil {
		t.Fatal(err)
	}
	if err := makeSecrets(&b); err != nil {
		t.Fatal(err)
	}
	if a.Database == b.Database || a.Probe == a.Load || len(a.KeyBase) != 128 || len(a.OTP) != 128 {
		t.Errorf("got %+v and %+v", a, b)
	}
	kept := a
	if err := makeSecrets(&a); err != nil || a != kept {
		t.Errorf("got %+v, %v; want %+v", a, err, kept)
	}
}
