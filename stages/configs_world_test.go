package stages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// configBranch is a config repository in memory.
type configBranch struct {
	trees   map[string]map[string]string // by commit
	log     []git.Entry                  // newest first; of all that was pushed
	made    map[string]git.Entry
	head    string
	away    error             // of every exchange
	onPush  func()            // before a push is looked at
	lost    bool              // the next push arrives and its answer does not
	pushes  int               // that were accepted
	parents map[string]string // by commit
}

func aBranch(files map[string]string) *configBranch {
	b := &configBranch{trees: map[string]map[string]string{"": {}}, made: map[string]git.Entry{}, parents: map[string]string{}}
	b.push(files, "begin")
	return b
}

// push is somebody else's.
func (b *configBranch) push(files map[string]string, message string) string {
	changes := map[string][]byte{}
	for name, text := range files {
		changes[name] = []byte(text)
	}
	commit, _ := b.Commit(context.Background(), b.head, changes, message)
	b.land(commit)
	return commit
}

func (b *configBranch) land(commit string) {
	b.head, b.log = commit, append([]git.Entry{b.made[commit]}, b.log...)
}

func (b *configBranch) Fetch(context.Context) (string, error) { return b.head, b.away }

func (b *configBranch) FS(commit string) (fs.FS, error) {
	tree, ok := b.trees[commit]
	if !ok {
		return nil, fs.ErrNotExist
	}
	out := fstest.MapFS{}
	for name, text := range tree {
		out[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return out, nil
}

func (b *configBranch) Commit(_ context.Context, base string, changes map[string][]byte, message string) (string, error) {
	tree := maps.Clone(b.trees[base])
	for name, content := range changes {
		if delete(tree, name); content != nil {
			tree[name] = string(content)
		}
	}
	if maps.Equal(tree, b.trees[base]) {
		return base, nil
	}
	sum := sha256.Sum256([]byte(fmt.Sprint(base, tree, message)))
	commit := hex.EncodeToString(sum[:20])
	subject, body, _ := strings.Cut(message, "\n\n")
	b.trees[commit], b.made[commit], b.parents[commit] = tree, git.Entry{Commit: commit, Parents: []string{base}, Subject: subject, Body: body}, base
	return commit, nil
}

func (b *configBranch) Push(_ context.Context, commit, base string) error {
	if b.onPush != nil {
		b.onPush()
	}
	switch {
	case b.away != nil:
		return b.away
	case b.head != base:
		return fmt.Errorf("main: %w", git.ErrMoved)
	}
	b.land(commit)
	b.pushes++
	if b.lost {
		b.lost = false
		return git.ErrUnreachable
	}
	return nil
}

func (b *configBranch) Log(context.Context, string, int) ([]git.Entry, error) { return b.log, b.away }

func (b *configBranch) subjects() string {
	var out []string
	for _, e := range slices.Backward(b.log) {
		out = append(out, e.Subject)
	}
	return strings.Join(out, ", ")
}

// configured gives the world a config repository with a file for each tier, and for the proxies.
func (w *world) configured() *configBranch {
	b := aBranch(map[string]string{
		"templates/web/etc/motd":                         "a web node\n",
		"templates/sidekiq/etc/motd.tmpl":                "works with {{.Release.Version}}\n",
		"templates/proxy/etc/nginx/conf.d/mastodon.conf": "server {}\n",
	})
	c := &Configuration{Repo: b, Name: "the repository", By: "ana", Fleet: configs.Fleet{Name: "lab", Domain: "lab.example"}}
	for _, n := range w.d.Fleet {
		h := configs.Host{Name: n.Name, Address: n.Address, Web: configs.Web{Port: n.Port, Streaming: n.Streaming}}
		for _, r := range n.Roles {
			h.Roles = append(h.Roles, string(r))
		}
		c.Fleet.Hosts = append(c.Fleet.Hosts, h)
	}
	w.d.Configs = c
	return b
}

func (w *world) surveyed() {
	w.t.Helper()
	if refused := w.d.surveyConfigs(w.t.Context(), w.f); len(refused) > 0 {
		w.t.Fatal(refused)
	}
}

// configuring are the verbs of a host that has none of the files yet.
func (w *world) configuring(n Node) []node.Verb {
	has := map[string]string{}
	kept := false
	return []node.Verb{
		answer(w, n, "config.look", func(in node.ConfigIn) (node.ConfigOut, error) {
			var out node.ConfigOut
			for _, f := range in.Files {
				s := node.ConfigState{Path: f.Path, State: node.ConfigSame}
				if has[f.Path] != string(f.Content) {
					s.State = node.ConfigOther
				}
				out.Files = append(out.Files, s)
			}
			out.Lacks = w.secretless[n.Name]
			return out, nil
		}),
		answer(w, n, "config.apply", func(in node.ConfigIn) (node.ConfigOut, error) {
			var out node.ConfigOut
			for _, f := range in.Files {
				if has[f.Path] != string(f.Content) {
					has[f.Path] = string(f.Content)
					out.Changed = append(out.Changed, f.Path)
				}
			}
			if len(out.Changed) > 0 {
				kept = true
				w.deeds = append(w.deeds, n.Name+": configure")
			}
			return out, nil
		}),
		answer(w, n, "config.restore", func(node.ConfigIn) (node.ConfigOut, error) {
			if !kept {
				return node.ConfigOut{}, nil
			}
			kept = false
			clear(has)
			w.deeds = append(w.deeds, n.Name+": configure back")
			return node.ConfigOut{Changed: []string{"/etc/motd"}}, nil
		}),
	}
}

func TestTheIntendedConfigurationIsPushedOnceWhateverBecomesOfTheAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.configured()
		w.surveyed()
		b.lost = true
		s := intend{w.d, w.f, "u-1"}
		if err := s.Run(t.Context(), w.say); !errors.Is(err, git.ErrUnreachable) {
			t.Fatal(err)
		}
		// As after a kill: the journal knows of no commit.
		if w.f.Configs.Intended != "" {
			t.Fatalf("taken for pushed: %+v", w.f.Configs)
		}
		b.push(map[string]string{"README": "a person's"}, "a person's")
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if b.pushes != 1 || b.parents[w.f.Configs.Intended] != w.f.Configs.Base {
			t.Errorf("%d pushes, %+v", b.pushes, w.f.Configs)
		}
		files, err := w.d.filesAt(t.Context(), w.f.Configs.Intended, "scotty")
		if err != nil || len(files) != 1 || string(files[0].Content) != "works with v4.5.15\n" {
			t.Errorf("%v, %v", files, err)
		}
		did(t, w, "")
	})
}

func TestABranchThatMovedEndsTheRunBeforeAnythingIsChanged(t *testing.T) {
	for name, move := range map[string]func(*world, *configBranch){
		"before": func(_ *world, b *configBranch) {
			b.push(map[string]string{"templates/web/etc/motd": "otherwise\n"}, "a person's")
		},
		"while it is pushed": func(_ *world, b *configBranch) {
			b.onPush = func() {
				b.onPush = nil
				b.push(map[string]string{"README": "x"}, "a person's")
			}
		},
		"refit.yml has another host": func(w *world, _ *configBranch) { w.d.Configs.Fleet.Hosts = w.d.Configs.Fleet.Hosts[1:] },
	} {
		inWorld(t, func(t *testing.T, w *world) {
			b := w.configured()
			w.surveyed()
			move(w, b)
			err := intend{w.d, w.f, "u-1"}.Run(t.Context(), w.say)
			failsWith(t, err, "lan again")
			if w.f.Configs.Intended != "" || b.pushes > 0 {
				t.Errorf("%s: %+v, %d pushes", name, w.f.Configs, b.pushes)
			}
			if name == "before" && len(w.d.staleConfigs(t.Context(), w.f)) != 1 {
				t.Error("preflight does not see it")
			}
			if err := (intend{w.d, w.f, "u-1"}).Undo(t.Context(), w.say); err != nil || w.f.Configs.Owed != nil || b.pushes > 0 {
				t.Errorf("%s: nothing was pushed, and it is taken back: %v, %+v", name, err, w.f.Configs.Owed)
			}
			did(t, w, "")
		})
	}
}

func TestASecretInATemplateOrOneThatAHostLacksRefusesThePlan(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.configured()
		w.secretless = map[string][]string{"scotty": {"DB_PASS"}}
		refused := strings.Join(w.d.surveyConfigs(t.Context(), w.f), "\n")
		if refused != "scotty: /etc/refit/secrets.env has no value for DB_PASS, which its configuration refers to: add each there as a line NAME=value" {
			t.Error(refused)
		}
		for _, file := range []string{"templates/web/etc/other", "templates/host/nobody-yet/etc/other"} {
			b.push(map[string]string{file: "DB_PASS=correct-horse-battery\n"}, "a person's")
			refused = strings.Join(w.d.surveyConfigs(t.Context(), w.f), "\n")
			if !strings.Contains(refused, file) || strings.Contains(refused, "correct-horse") {
				t.Errorf("%s: %s", file, refused)
			}
			b.push(map[string]string{file: "plain\n"}, "mended")
		}
	})
}

func TestAWebNodeGetsItsFilesWhileItIsStoppedAndTheOldOnesOnTheWayBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.configured()
		w.surveyed()
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		s := rollWeb{w.d, w.f, w.node("kirk")}
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: configure", "kirk: switch to v4.5.15", "kirk: start", "both: 10.77.0.21 up")
		w.deeds = nil
		if err := s.Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: configure back", "kirk: switch to v4.5.14", "kirk: start", "both: 10.77.0.21 up")
	})
}

func TestASidekiqNodeGetsItsFilesWhileItIsStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.configured()
		w.surveyed()
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if err := (rollSidekiq{w.d, w.f, w.node("decker")}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "decker: kill TSTP", "decker: stop", "decker: configure", "decker: switch to v4.5.15", "decker: start")
	})
}

func TestAProxyIsChangedWhenTheOtherServesAndOnlyWhereSomethingDiffers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.configured()
		w.surveyed()
		if got := names(w.d.apart(w.f)); !slices.Equal(got, []string{"sulu", "chekov"}) {
			t.Fatalf("apart: %q", got)
		}
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		s := configsOf{w.d, w.f, w.node("sulu")}
		if s.Name() != "configs proxy sulu" {
			t.Error(s.Name())
		}
		w.fails["chekov nginx.facts"] = errDown
		if err := s.Check(t.Context(), w.say); err == nil {
			t.Error("chekov does not serve, and sulu may be touched")
		}
		if err := s.Run(t.Context(), w.say); err == nil {
			t.Error("sulu was changed while chekov does not serve")
		}
		did(t, w, "")
		delete(w.fails, "chekov nginx.facts")
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		did(t, w, "sulu: configure")
		w.surveyed()
		if got := names(w.d.apart(w.f)); !slices.Equal(got, []string{"chekov"}) {
			t.Errorf("afterwards apart: %q", got)
		}
		if err := s.Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		did(t, w, "sulu: configure, sulu: configure back")
	})
}

func TestARunThatIsTakenBackRevertsRefitsFilesAndLeavesThoseOfPeople(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.configured()
		w.surveyed()
		s := intend{w.d, w.f, "u-1"}
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		b.push(map[string]string{"README": "a person's"}, "a person's")
		for range 2 { // the second time as after a kill
			if err := s.Undo(t.Context(), w.say); err != nil || w.f.Configs.Owed != nil {
				t.Fatalf("%v, %+v", err, w.f.Configs.Owed)
			}
		}
		if got := b.subjects(); got != "begin, lab: intend v4.5.15, a person's, lab: upgrade to v4.5.15 rolled back" {
			t.Error(got)
		}
		var left []string
		for name := range b.trees[b.head] {
			if !strings.HasPrefix(name, "templates/") {
				left = append(left, strings.SplitN(name, "/", 2)[0])
			}
		}
		slices.Sort(left)
		if !slices.Equal(left, []string{"README", "history"}) {
			t.Errorf("left: %q", left)
		}
	})
}

func TestAnOutcomeThatCannotBePushedIsOwedAndPaidOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.configured()
		w.surveyed()
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		b.away = git.ErrUnreachable
		if err := (outcome{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatalf("it held the run up: %v", err)
		}
		if owed := w.f.ConfigsOwed(); !strings.Contains(owed, "refit resume") || !w.heard("holds nothing up") {
			t.Errorf("owed: %q", owed)
		}
		b.away = nil
		for range 2 {
			if err := w.d.PayConfigs(t.Context(), w.f, "u-1", w.say); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.subjects(); got != "begin, lab: intend v4.5.15, lab: upgrade to v4.5.15 done" {
			t.Error(got)
		}
	})
}

func TestThePlanCommitsBeforeItChangesAndSaysWhatChangesWhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.configured()
		w.surveyed()
		var steps []string
		for _, s := range Upgrade("u-1", w.d, w.f).Steps {
			steps = append(steps, s.Name())
		}
		order := []string{"bridge assets", "intend", "configs proxy sulu", "configs proxy chekov", "pre-migrate", "roll sidekiq scotty", "record", "outcome", "prune"}
		at := -1
		for _, name := range order {
			i := slices.Index(steps, name)
			if i <= at {
				t.Errorf("%s is at %d, after %d: %q", name, i, at, steps)
			}
			at = i
		}
		if said := strings.Join(w.f.Said, "\n"); !strings.Contains(said, "configuration of kirk: changes /etc/motd") {
			t.Error(said)
		}
	})
}

func TestDoctorSaysWhatTheConfigRepositoryLacks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.configured()
		says := func(refusal, known string) {
			t.Helper()
			refused, said := w.d.ExamineConfigs(t.Context())
			if got := strings.Join(refused, "\n"); (refusal == "") != (got == "") || !strings.Contains(got, refusal) {
				t.Errorf("refused: %q, wanted %q", got, refusal)
			}
			if got := strings.Join(said, "\n"); (known == "") != (got == "") || !strings.Contains(got, known) {
				t.Errorf("said: %q, wanted %q", got, known)
			}
		}
		says("", "committed nothing there yet")
		w.surveyed()
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		says("", "")
		b.push(map[string]string{"templates/web/etc/motd": "otherwise\n"}, "a person's")
		says("", "kirk:/etc/motd, spock:/etc/motd")
		b.push(map[string]string{"rendered/kirk/etc/motd": "by hand\n"}, "a person's")
		says("its content is not the one that the lock names", "")
		b.away = git.ErrUnreachable
		says("the config repository: ", "")
	})
}
