package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages/drift"
)

// keys give the same key again, so that a test knows it, or fail.
type keys struct{ err error }

func (k keys) ComparisonKey(context.Context) ([]byte, error) {
	return []byte("a key of a test, 32 bytes long.."), k.err
}

// state is what a host says that is as it should be, but for what was planted.
func (w *world) state(n Node, in node.StateIn) node.State {
	w.keys = append(w.keys, in.Key)
	s := node.State{Packages: map[string]string{"kernel": "6.12.1"}, Ports: []node.Port{{Protocol: "tcp", Address: "*", Port: 22, Program: "sshd"}}}
	for _, u := range w.units(n).Units {
		u.ExecStart = execStart(w.d, n, u.Name)
		s.Units = append(s.Units, node.UnitShape{UnitState: u, Enabled: "enabled", File: "/etc/systemd/system/" + u.Name})
	}
	if n.Has(hosts.Proxy) {
		s.Units = append(s.Units, node.UnitShape{UnitState: node.UnitState{Name: "nginx.service", Load: "loaded", Active: "active"}, Enabled: "enabled"})
	}
	if in.EnvFile != "" {
		s.Env = map[string]string{"LOCAL_DOMAIN": "h1", "DB_PASS": "h2"}
	}
	if plant := w.drifts[n.Name]; plant != nil {
		plant(&s)
	}
	return s
}

func TestAFleetWithoutDriftShowsNoneAndOnlyNodesOfMastodonAreGivenAKey(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Keys = keys{}
		found, err := w.d.Drift(t.Context())
		if err != nil || len(found) > 0 {
			t.Errorf("%v, %v", err, found)
		}
		given := 0
		for _, k := range w.keys {
			if len(k) > 0 {
				given++
			}
		}
		if given != 4 || len(w.keys) != len(w.d.Fleet) {
			t.Errorf("%d of %d hosts were given the key", given, len(w.keys))
		}
		if done := w.done(); done != "" {
			t.Errorf("something was changed: %s", done)
		}
	})
}

func TestDriftIsFoundAndAHostThatIsCutOffIsAFindingToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Keys = keys{}
		w.cut["sulu"] = true
		w.drifts = map[string]func(*node.State){
			"spock":  func(s *node.State) { s.Env["DB_PASS"] = "h9" },
			"decker": func(s *node.State) { s.Units[1].ExecStart = "bundle exec sidekiq -q pull" },
		}
		found, err := w.d.Drift(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, strings.Join(f.Hosts, " ")+" "+string(f.Kind)+" "+f.What)
		}
		want := []string{"sulu unreachable host", "decker queues mastodon-sidekiq-scheduler.service", "spock env DB_PASS"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

// repository has these files for each host, or fails.
type repository struct {
	files map[string][]configs.File
	err   error
}

func (r repository) Rendered(context.Context) (string, map[string][]configs.File, error) {
	return "c0ffee", r.files, r.err
}

func TestFilesAreHeldAgainstTheLastCommitAndASecretIsNotShown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Keys = keys{}
		file := func(path, content string) configs.File {
			return configs.File{Path: path, Content: []byte(content), Owner: "root", Group: "root", Mode: 0o644}
		}
		w.d.Committed = repository{files: map[string][]configs.File{
			"kirk":  {file("/etc/a", "x=1\n"), file("/etc/b", "DB_PASS=@refit-secret(DB_PASS)@\n"), file("/etc/c", "c\n")},
			"spock": {file("/etc/a", "x=1\n")},
			"sulu":  {file("/etc/a", "x=1\n")},
		}}
		// There, beside the secret's reference, somebody changed one file's value.
		w.put("kirk", "/etc/a", "x=1\n", 0o600)
		w.put("kirk", "/etc/b", "DB_PASS=canary-value\n", 0o644)
		w.put("kirk", "/etc/refit/secrets.env", "DB_PASS=another\n", 0o600)
		w.put("spock", "/etc/a", "x=2\n", 0o644)
		w.put("sulu", "/etc/a", "x=2\n", 0o644)
		found, err := w.d.Drift(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, fmt.Sprintf("%s %s: %s|%s", strings.Join(f.Hosts, " "), f.What, strings.NewReplacer(me(t), "ME").Replace(f.Found), f.Difference))
		}
		want := []string{
			"kirk /etc/a: its content, but ME 0600|",
			"sulu spock /etc/a: other content, ME 0644|-x=1\n+x=2\n",
			"kirk /etc/b: other content, ME 0644 (1 values that look like secrets are not shown)|-DB_PASS=@refit-secret(DB_PASS)@\n+DB_PASS=[hidden]\n",
			"kirk /etc/c: no such file|",
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		w.d.Committed = repository{err: errors.New("no way to the repository")}
		if _, err := w.d.Drift(t.Context()); err == nil || !strings.Contains(err.Error(), "no way to the repository") {
			t.Errorf("without the repository: %v", err)
		}
	})
}

// driftBranch has one commit, c0ffee, of this tree.
type driftBranch struct{ tree fstest.MapFS }

func (driftBranch) Fetch(context.Context) (string, error) { return "c0ffee", nil }

func (b driftBranch) FS(commit string) (fs.FS, error) {
	if commit != "c0ffee" {
		return nil, errors.New("no such commit")
	}
	return b.tree, nil
}

func TestWhatTheLastCommitRendersIsReadBackAndABranchWithoutALockHasNothing(t *testing.T) {
	rendered := map[string][]configs.File{"kirk": {{Path: "/etc/a", Content: []byte("x=1\n"), Owner: "root", Group: "root", Mode: 0o640, Check: configs.CheckNone}}}
	tree, err := configs.Tree(rendered, configs.Release{Version: "v4.5.15", Commit: strings.Repeat("a1", 20), Tree: strings.Repeat("b2", 20)})
	if err != nil {
		t.Fatal(err)
	}
	b := driftBranch{fstest.MapFS{}}
	for name, content := range tree {
		b.tree[name] = &fstest.MapFile{Data: content, Mode: 0o644}
	}
	head, files, err := LastCommit(b).Rendered(t.Context())
	if err != nil || head != "c0ffee" || len(files["kirk"]) != 1 || string(files["kirk"][0].Content) != "x=1\n" || files["kirk"][0].Mode != 0o640 {
		t.Errorf("%s, %v, %v", head, files, err)
	}
	b.tree["rendered/kirk/etc/a"].Data = []byte("x=2\n")
	if _, _, err := LastCommit(b).Rendered(t.Context()); err == nil || !strings.Contains(err.Error(), "commit c0ffee") {
		t.Errorf("a rendered file that somebody edited: %v", err)
	}
	if _, files, err := LastCommit(driftBranch{fstest.MapFS{}}).Rendered(t.Context()); err != nil || len(files) > 0 {
		t.Errorf("a branch without a lock: %v, %v", files, err)
	}
}

// me is "owner:group" of what a test writes.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return u.Username + ":" + g.Name
}

// put writes a file of a host's.
func (w *world) put(host, path, content string, mode fs.FileMode) {
	w.t.Helper()
	file := filepath.Join(w.node(host).Agent.Shell.(linked).Shell.(hoststest.NodeShell).Machine.State, "root", path)
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file, []byte(content), mode)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestWithoutAKeyNothingIsComparedAndThatIsSaid(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Keys = keys{errors.New("the keeper is away")}
		if found, err := w.d.Drift(t.Context()); err == nil || found != nil || len(w.keys) > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestPreflightSaysHowMuchDriftThereIsAndRefusesNothingForIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Keys = keys{}
		w.drifts = map[string]func(*node.State){"kirk": func(s *node.State) { s.Packages["kernel"] = "6.1.0" }}
		if err := (preflight{w.d, w.f}).Run(t.Context(), pipeline.Say(w.say)); err != nil {
			t.Errorf("refused: %v", err)
		}
		if !w.heard("1 ways in which hosts are not what they should be: `refit drift`") {
			t.Errorf("%q", w.said)
		}
	})
}

func TestThePlanSaysEachDriftAndThatItCouldNotBeCompared(t *testing.T) {
	l := goodLook(t)
	l.v.Drift = []drift.Finding{{Kind: drift.Package, Hosts: []string{"kirk"}, What: "kernel", Expected: "6", Found: "5", Remedy: "reboot"}}
	l.v.Drift = slices.Repeat(l.v.Drift, driftSaid+3)
	l.v.DriftErr = errors.New("the keeper is away")
	refused, said := rules(l.d, l.f, l.v)
	if all := strings.Join(said, "\n"); len(refused) > 0 || !strings.Contains(all, "drift: kirk: package kernel: 5; expected 6. reboot") || !strings.Contains(all, "drift is not known: the keeper is away") || !strings.Contains(all, "drift: and 3 more") || strings.Count(all, "drift: kirk") != driftSaid {
		t.Errorf("refused %q, said %q", refused, said)
	}
}
