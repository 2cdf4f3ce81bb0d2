package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
)

const labFiles = "../../../testdata/lab"

func TestTheFleetIsTheLabs(t *testing.T) {
	f := theFleet()
	if addresses(f.proxies) != "10.77.0.11 10.77.0.12" || addresses(f.webs) != "10.77.0.21 10.77.0.22" || addresses(f.sidekiqs) != "10.77.0.31 10.77.0.32" {
		t.Errorf("proxies %s, webs %s, sidekiqs %s", addresses(f.proxies), addresses(f.webs), addresses(f.sidekiqs))
	}
	m := f.migrator()
	for _, a := range m.Apps {
		if slices.Contains(a.Queues, "scheduler") {
			t.Errorf("%s runs migrations and schedules", m.Name)
		}
	}
	if len(f.nodes()) != 4 || !isWeb("kirk") || isWeb("decker") || isWeb("sulu") {
		t.Errorf("nodes %v", f.nodes())
	}
}

func TestAHostKnowsItsUnitsAndQueues(t *testing.T) {
	f := theFleet()
	for _, m := range f.nodes() {
		file := filepath.Join(t.TempDir(), "host.env")
		if err := os.WriteFile(file, []byte(f.hostEnv(m, "10.77.0.40")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "bash", "-euc", `. "$0"; echo "$UNITS"; printf '%s\n' "${WORKERS[@]}" "$DB_HOST $PROXIES"`, file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if lines[len(lines)-1] != "10.77.0.40 10.77.0.11 10.77.0.12" {
			t.Errorf("%s: %q", m.Name, lines)
		}
		want := "mastodon-web.service mastodon-streaming@4000.service"
		if m.Name == "decker" {
			want = "mastodon-sidekiq-push-pull.service mastodon-sidekiq-default.service mastodon-sidekiq-scheduler.service"
			if len(lines) != 5 || lines[1] != "mastodon-sidekiq-push-pull.service push pull" || lines[3] != "mastodon-sidekiq-scheduler.service scheduler" {
				t.Errorf("%s: %q", m.Name, lines)
			}
		}
		if m.Name != "scotty" && lines[0] != want {
			t.Errorf("%s: units %q, want %q", m.Name, lines[0], want)
		}
	}
}

func TestEachToolIsToldTheSame(t *testing.T) {
	f := theFleet()
	inventory := f.inventory(Case{"minor", Free})
	for _, want := range []string{"[web]\n10.77.0.21\n10.77.0.22\n", "[migrator]\n10.77.0.31\n", "from=v4.5.20\nto=v4.6.20\nlib=/usr/local/lib/bench\n"} {
		if !strings.Contains(inventory, want) {
			t.Errorf("the inventory lacks %q:\n%s", want, inventory)
		}
	}
	env := f.toolEnv(Case{"minor", Free})
	for _, want := range []string{"FROM=v4.5.20", "TO=v4.6.20", "WEBS=10.77.0.21 10.77.0.22", "MIGRATOR=10.77.0.31", "PROXIES=10.77.0.11 10.77.0.12"} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment lacks %q: %q", want, env)
		}
	}
}

func TestHoldsAreZeroInTheLabsOwnConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(labFiles, "refit.yml.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := zeroHolds(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := "holds:\n  sidekiq: 0s\n  web: 0s\n  migrated: 0s\n  soak: 0s\n\nlimits:\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	if !strings.Contains(got, "waits:\n  drain: 20s\n") {
		t.Errorf("something else was changed:\n%s", got)
	}
	if _, err := zeroHolds("fleet: lab\n"); err == nil {
		t.Error("a configuration without holds passes")
	}
}

// What the tools call is there, and is theirs to run.
func TestEveryScriptThatIsCalledIsThere(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(labFiles, "bench/hosts/*"))
	if err != nil || len(scripts) < 8 {
		t.Fatalf("%v, %v", scripts, err)
	}
	there := map[string]bool{}
	for _, s := range scripts {
		there[filepath.Base(s)] = false
		info, err := os.Stat(s)
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", s, err)
		}
		if out, err := exec.CommandContext(t.Context(), "bash", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", s, out)
		}
	}
	for _, tool := range []struct{ file, prefix string }{
		{"hand/roll", "$lib/"}, {"capistrano/config/deploy.rb", "#{LIB}/"}, {"ansible/roll.yml", "{{ lib }}/"},
	} {
		text, err := os.ReadFile(filepath.Join(labFiles, "bench", tool.file))
		if err != nil {
			t.Fatal(err)
		}
		called := map[string]bool{}
		for _, rest := range strings.Split(string(text), tool.prefix)[1:] {
			name := rest[:strings.IndexAny(rest+" ", " \"';\n")]
			if _, ok := there[name]; !ok {
				t.Errorf("%s calls %q, which is not there", tool.file, name)
			}
			called[name] = true
		}
		for name := range there {
			// Capistrano moves the link by itself.
			if !called[name] && (name != "switch" || tool.file != "capistrano/config/deploy.rb") {
				t.Errorf("%s does without %s", tool.file, name)
			}
		}
		for _, phase := range []string{phasePlace, phaseBridge, phaseMigrate, phaseRoll, phaseFinish} {
			if !strings.Contains(string(text), "== bench: "+phase) && !strings.Contains(string(text), "phase "+phase) && !strings.Contains(string(text), "phase '"+phase+"'") {
				t.Errorf("%s does not tell its phase %s", tool.file, phase)
			}
		}
	}
}

func TestTheScriptsOfKeepAndResetAreBash(t *testing.T) {
	for _, scripts := range []map[string]string{keepScript, resetScript} {
		for kind, text := range scripts {
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", text).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", kind, out)
			}
		}
	}
	if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", askWorkers).CombinedOutput(); err != nil {
		t.Errorf("askWorkers: %s", out)
	}
	b := &bench{Options{Lab: &lab.Lab{State: lab.State{Primary: "majel"}}}, theFleet()}
	for kind, hosts := range b.where() {
		if keepScript[kind] == "" || resetScript[kind] == "" || len(hosts) == 0 {
			t.Errorf("nothing is kept or brought back of %s (%v)", kind, hosts)
		}
	}
	if len(b.where()) != len(resetScript) {
		t.Errorf("scripts that run nowhere: %v", b.where())
	}
}
