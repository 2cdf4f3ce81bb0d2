package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/pipeline"
)

// pulls are the pull requests of a config repository in memory.
type pulls struct {
	b        *configBranch
	branches map[string]string
	list     []github.Pull     // by number, from 1
	from     map[int]string    // their branches
	bodies   map[int]string    // what they say
	opened   int               // that were asked for
	lost     bool              // the next one is opened and the answer is not heard
	away     error             // of every question to GitHub
	looks    func(n int) error // of each look at one, by its count
	looked   int
}

var errLost = &github.Error{Kind: github.ErrUnreachable, What: "a pull request", Happened: "the connection failed"}

func (p *pulls) Push(_ context.Context, commit, branch string) error {
	if at := p.branches[branch]; at != "" && at != commit {
		return git.ErrMoved
	}
	p.branches[branch] = commit
	return nil
}

func (p *pulls) Head(_ context.Context, branch string) (string, error) {
	return p.branches[branch], p.b.away
}

func (p *pulls) Tree(commit string) (string, error) {
	tree, ok := p.b.trees[commit]
	if !ok {
		return "", errors.New("no such commit")
	}
	return fmt.Sprint(tree), nil
}

func (p *pulls) Find(_ context.Context, branch string) (github.Pull, error) {
	for n := len(p.list); n > 0; n-- {
		if p.from[n] == branch {
			return p.list[n-1], p.away
		}
	}
	return github.Pull{}, p.away
}

func (p *pulls) Open(_ context.Context, branch, _, body string) (github.Pull, error) {
	if p.away != nil {
		return github.Pull{}, p.away
	}
	p.opened++
	n := len(p.list) + 1
	made := github.Pull{Number: n, URL: fmt.Sprintf("https://github.test/pull/%d", n), State: github.PullOpen, Head: p.branches[branch], Base: "main"}
	p.list, p.from[n], p.bodies[n] = append(p.list, made), branch, body
	if p.lost {
		p.lost = false
		return github.Pull{}, errLost
	}
	return made, nil
}

func (p *pulls) Look(_ context.Context, known github.Pull) (github.Pull, error) {
	p.looked++
	if p.looks != nil {
		if err := p.looks(p.looked); err != nil {
			return github.Pull{}, err
		}
	}
	return p.list[known.Number-1], p.away
}

func (p *pulls) Close(_ context.Context, number int, why string) (github.Pull, error) {
	if p.away != nil {
		return github.Pull{}, p.away
	}
	if one := &p.list[number-1]; one.State == github.PullOpen {
		one.State, p.bodies[number] = github.PullClosed, why
	}
	return p.list[number-1], nil
}

// merge is a person's: as a squash, so that another commit has the tree.
func (p *pulls) merge(number int, also map[string]string) {
	one := &p.list[number-1]
	files := map[string]string{}
	for name, text := range p.b.trees[one.Head] {
		if p.b.trees[p.b.head][name] != text {
			files[name] = text
		}
	}
	for name, text := range also {
		files[name] = text
	}
	one.State, one.Merged = github.PullMerged, p.b.push(files, "squashed (#1)")
}

// protected gives the world a config repository whose branch takes pull requests alone.
func (w *world) protected() (*configBranch, *pulls) {
	b := w.configured()
	p := &pulls{b: b, branches: map[string]string{}, from: map[int]string{}, bodies: map[int]string{}}
	w.d.Configs.Pulls, w.d.Configs.Merge = p, time.Hour
	b.onPush = func() { w.t.Error("the branch was pushed to") }
	w.surveyed()
	return b, p
}

func TestARunWaitsUntilItsPullRequestIsMerged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b, p := w.protected()
		p.looks = func(n int) error {
			switch n {
			case 5: // GitHub is away for a while, which is waited for
				return errLost
			case 20:
				p.merge(1, nil)
			}
			return nil
		}
		began := time.Now()
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4*time.Minute || took > 6*time.Minute {
			t.Errorf("it took %s", took)
		}
		if w.f.Configs.Intended != b.head || w.f.Configs.Intended == p.list[0].Head {
			t.Errorf("intended is %s, the branch is at %s", w.f.Configs.Intended, b.head)
		}
		files, err := w.d.filesAt(t.Context(), w.f.Configs.Intended, "scotty")
		if err != nil || len(files) != 1 || string(files[0].Content) != "works with v4.5.15\n" {
			t.Errorf("%v, %v", files, err)
		}
		if !w.heard("a person merges https://github.test/pull/1") || !w.heard("have it approved and merged. Nothing is changed on any host before") {
			t.Errorf("said: %q", w.said)
		}
		if p.from[1] != "refit/u-1" || !strings.Contains(p.bodies[1], "Closing it ends the run") || !strings.Contains(p.bodies[1], "1h0m0s") {
			t.Errorf("%q says %q", p.from[1], p.bodies[1])
		}
		did(t, w, "")
	})
}

func TestAPullRequestThatDoesNotGiveWhatWasPlannedEndsTheRun(t *testing.T) {
	for name, x := range map[string]struct {
		happens func(*configBranch, *pulls)
		says    string
		merged  bool
	}{
		"closed":           {func(_ *configBranch, p *pulls) { p.list[0].State = github.PullClosed }, "closed https://github.test/pull/1 without merging it", false},
		"merged with more": {func(_ *configBranch, p *pulls) { p.merge(1, map[string]string{"README": "x"}) }, "not exactly what was proposed", true},
		"merged, its files changed": {func(_ *configBranch, p *pulls) {
			p.merge(1, map[string]string{"rendered/kirk/etc/motd": "otherwise\n"})
		}, "not exactly what was proposed", true},
		"the branch moved": {func(b *configBranch, _ *pulls) { b.push(map[string]string{"README": "x"}, "a person's") }, "has moved", false},
		"somebody pushed to the proposal": {func(b *configBranch, p *pulls) {
			b.trees["theirs"] = map[string]string{"README": "x"}
			p.list[0].Head, p.branches["refit/u-1"] = "theirs", "theirs"
		}, "somebody pushed to its branch", false},
		"nobody came":      {func(*configBranch, *pulls) {}, "nobody has merged https://github.test/pull/1 within 1h0m0s (configs.pull_request.wait)", false},
		"it stays a draft": {func(_ *configBranch, p *pulls) { p.list[0].Draft = true }, "say there that it is ready", false},
		"the token is revoked": {func(_ *configBranch, p *pulls) {
			p.looks = func(int) error { return &github.Error{Kind: github.ErrDenied, Happened: "401"} }
		}, "nobody knows whether it is merged", false},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			b, p := w.protected()
			p.looks = func(n int) error {
				if n == 3 {
					x.happens(b, p)
				}
				return nil
			}
			s := intend{w.d, w.f, "u-1"}
			err := s.Run(t.Context(), w.say)
			if !errors.Is(err, pipeline.ErrRefused) || w.f.Configs.Intended != "" {
				t.Fatalf("%s: %v, %+v", name, err, w.f.Configs)
			}
			failsWith(t, err, x.says, "othing is changed on any host")
			if name == "the branch moved" || name == "merged with more" {
				failsWith(t, err, "lan again")
			}
			p.looks = nil
			w.d.Configs.Pulls = p
			if err := s.Undo(t.Context(), w.say); err != nil || w.f.Configs.Owed != nil {
				t.Fatalf("%s: the way back: %v, %+v", name, err, w.f.Configs.Owed)
			}
			if p.list[0].State == github.PullOpen || (len(p.list) == 2) != x.merged {
				t.Errorf("%s: after the way back %+v", name, p.list)
			}
			did(t, w, "")
		})
	}
}

func TestAKilledRunFindsItsPullRequestAndOpensNoOther(t *testing.T) {
	for name, before := range map[string]func(*world, *configBranch, *pulls){
		"killed before the pull request": func(w *world, _ *configBranch, p *pulls) {
			commit, err := intend{w.d, w.f, "u-1"}.commit(w.t.Context())
			if err != nil {
				w.t.Fatal(err)
			}
			p.branches["refit/u-1"] = commit
			p.looks = func(int) error { p.looks = nil; p.merge(1, nil); return nil }
		},
		"the answer was lost": func(_ *world, _ *configBranch, p *pulls) {
			p.lost = true
			p.looks = func(int) error { p.looks = nil; p.merge(1, nil); return nil }
		},
		"merged while nobody looked": func(w *world, b *configBranch, p *pulls) {
			ctx, cancel := context.WithCancel(w.t.Context())
			p.looks = func(n int) error {
				if n == 2 {
					cancel()
				}
				return nil
			}
			if err := (intend{w.d, w.f, "u-1"}).Run(ctx, w.say); !errors.Is(err, context.Canceled) {
				w.t.Fatal(err)
			}
			p.looks = nil
			p.merge(1, nil)
			b.push(map[string]string{"README": "x"}, "a person's, later")
		},
	} {
		inWorld(t, func(t *testing.T, w *world) {
			b, p := w.protected()
			before(w, b, p)
			if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if p.opened != 1 || w.f.Configs.Intended != p.list[0].Merged {
				t.Errorf("%s: %d opened, %+v", name, p.opened, w.f.Configs)
			}
		})
	}
}

func TestABranchOfAProposalThatHoldsSomethingElseIsNotMerged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b, p := w.protected()
		b.trees["foreign"] = map[string]string{"README": "x"}
		p.branches["refit/u-1"] = "foreign"
		err := intend{w.d, w.f, "u-1"}.Run(t.Context(), w.say)
		failsWith(t, err, "does not propose what was planned")
	})
}

func TestHowItWentIsProposedAndNobodyWaitsForIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b, p := w.protected()
		p.looks = func(int) error { p.looks = nil; p.merge(1, nil); return nil }
		if err := (intend{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		at := b.head
		p.away = errLost
		began := time.Now()
		if err := (outcome{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil || time.Since(began) > tellWithin {
			t.Fatalf("it held the run up for %s: %v", time.Since(began), err)
		}
		if !strings.Contains(w.f.ConfigsOwed(), "refit resume") {
			t.Errorf("owed: %q", w.f.ConfigsOwed())
		}
		p.away, p.lost = nil, true
		for range 2 {
			if err := w.d.PayConfigs(t.Context(), w.f, "u-1", w.say); err != nil {
				t.Fatal(err)
			}
		}
		if p.opened != 2 || p.from[2] != "refit/u-1-outcome" || b.head != at || w.f.Configs.Told != p.list[1].Head {
			t.Errorf("%d opened, %v, told %q", p.opened, p.from, w.f.Configs.Told)
		}
		if !strings.Contains(fmt.Sprint(b.trees[w.f.Configs.Told]), "history/") {
			t.Error("what is proposed has no page of history")
		}
	})
}

func TestTheWayBackClosesWhatNobodyMergedAndProposesToRevertWhatSomebodyDid(t *testing.T) {
	for _, merged := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			_, p := w.protected()
			ctx, cancel := context.WithCancel(t.Context())
			p.looks = func(int) error { cancel(); return nil }
			s := intend{w.d, w.f, "u-1"}
			if err := s.Run(ctx, w.say); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			p.looks = nil
			if merged { // and the journal does not know it
				p.merge(1, nil)
			}
			p.away = errLost
			if err := s.Undo(t.Context(), w.say); err != nil || w.f.Configs.Owed == nil {
				t.Fatalf("GitHub is away: %v, %+v", err, w.f.Configs.Owed)
			}
			p.away = nil
			for range 2 {
				if err := w.d.PayConfigs(t.Context(), w.f, "u-1", w.say); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case !merged && (len(p.list) != 1 || p.list[0].State != github.PullClosed || !strings.Contains(p.bodies[1], "taken back")):
				t.Errorf("%+v, %v", p.list, p.bodies)
			case merged && (len(p.list) != 2 || p.from[2] != "refit/u-1-revert"):
				t.Errorf("%+v, %v", p.list, p.from)
			case merged:
				for name := range p.b.trees[p.list[1].Head] {
					if strings.HasPrefix(name, "rendered/") {
						t.Errorf("the revert leaves %s", name)
					}
				}
			}
		})
	}
}

func TestAPlanSaysThatAPullRequestIsWaitedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.protected()
		for _, s := range Upgrade("u-1", w.d, w.f).Steps {
			if s.Name() == "intend" && !strings.Contains(s.Why, "pull request, and wait up to 1h0m0s") {
				t.Error(s.Why)
			}
		}
	})
}
