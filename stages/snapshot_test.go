package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

func TestWithoutACloudTheTableIsWhatItWas(t *testing.T) {
	d, f := someDeps(), someFacts(t)
	for _, s := range Upgrade("u-1", d, f).Steps {
		if strings.Contains(s.Name(), "snapshot") || strings.Contains(s.Name(), "image") || s.Name() == "golden" {
			t.Errorf("%s stands in the table", s.Name())
		}
	}
}

func TestImagesAreBegunBeforeTheBuildAndCompleteBeforeAnyChange(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		want := []string{
			"preflight", "snapshot", "build", "place", "bridge assets", "snapshots done", "pre-migrate", "roll sidekiq scotty", "roll sidekiq decker",
			"roll web kirk", "roll web spock", "soak", "post-migrate", "search", "record", "prune", "golden", "retire images",
		}
		if got := stepNames(Upgrade("u-1", w.d, w.f)); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		w.f.Snapshots[0].Off = true
		want = slices.Insert(want, 6, "snapshot off spock")
		if got := stepNames(Upgrade("u-1", w.d, w.f)); !slices.Equal(got, want) {
			t.Errorf("with one switched off: %q", got)
		}
		if !Prepares("snapshot") || !Prepares("snapshots done") || Prepares("snapshot off spock") {
			t.Error("a run that was stopped while images are made may be forgotten; one that took a node out may not")
		}
		w.d.Cloud, w.f.Snapshots[0].Off = nil, false
		if res := w.run(t, t.Context(), &oneShelf{}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Refused || !strings.Contains(res.Err.Error(), "put the block `cloud` back") {
			t.Errorf("without the account: %s, %v", res.Status, res.Err)
		}
	})
}

func TestOneNodeOfEachTierIsKeptWhileTheReleaseIsBuilt(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		began := time.Now()
		res := w.run(t, t.Context(), &oneShelf{}, w.keeps(buildFor{lasts: 15 * time.Minute}, changed{w: w}))
		if res.Status != pipeline.Done {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if want := []string{"14 refit-lab-u-1-spock", "15 refit-lab-u-1-scotty", "14 refit-lab-golden-web-v4.5.15-u-1", "15 refit-lab-golden-sidekiq-v4.5.15-u-1"}; !slices.Equal(a.asked, want) {
			t.Errorf("asked for %q", a.asked)
		}
		did(t, w, "spock: sync, scotty: sync, change, spock: sync, scotty: sync")
		// Both at once, beside the build: 20 minutes, and 20 for the golden ones.
		if took := time.Since(began); took < 40*time.Minute || took > 42*time.Minute {
			t.Errorf("it took %s", took)
		}
		for name, tags := range map[string][]string{
			"refit-lab-u-1-spock":                  {"refit", "refit:fleet:lab", "refit:host:spock", "refit:kind:snapshot", "refit:release:v4-5-14", "refit:run:u-1", "refit:tier:web"},
			"refit-lab-u-1-scotty":                 {"refit", "refit:fleet:lab", "refit:host:scotty", "refit:kind:snapshot", "refit:release:v4-5-14", "refit:run:u-1", "refit:tier:sidekiq"},
			"refit-lab-golden-sidekiq-v4.5.15-u-1": {"refit", "refit:fleet:lab", "refit:host:scotty", "refit:kind:golden", "refit:release:v4-5-15", "refit:run:u-1", "refit:tier:sidekiq"},
		} {
			if img, ok := a.image(name); !ok || !slices.Equal(img.Tags, tags) {
				t.Errorf("%s (%v) has the tags %q", name, ok, img.Tags)
			}
		}
		for i, k := range w.f.Snapshots {
			if k.Image == 0 || k.Action == 0 || k.GiB != 9.5 || k.Asked.IsZero() || !strings.Contains(w.f.Images()[i], fmt.Sprintf("image %d, %s, 9.5 GiB", k.Image, k.Name)) {
				t.Errorf("%+v, said %q", k, w.f.Images())
			}
		}
	})
}

// dying is a shelf whose process is killed after so many saves.
type dying struct {
	oneShelf
	left int
	kill context.CancelFunc
}

func (s *dying) Save(ctx context.Context, id string, epoch, seq int64, b []byte) error {
	if s.left == 0 {
		s.kill()
		return errors.New("killed")
	}
	s.left--
	return s.oneShelf.Save(ctx, id, epoch, seq, b)
}

func (s *dying) Load(ctx context.Context, id string) ([]byte, error) {
	if s.last == nil {
		return nil, errors.New("no journal")
	}
	return s.oneShelf.Load(ctx, id)
}

func TestARunThatIsKilledAnywhereAsksForNoImageTwice(t *testing.T) {
	for _, off := range []bool{false, true} {
		for saves, ended := 0, false; !ended && saves < 60; saves++ {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				w.f.Snapshots[0].Off = off
				ctx, kill := context.WithCancel(t.Context())
				shelf := &dying{left: saves, kill: kill}
				res := w.run(t, ctx, shelf, w.keeps(buildFor{lasts: time.Minute}, changed{w: w}))
				if ended = res.Status == pipeline.Done; !ended {
					shelf.left = 1000
					time.Sleep(30 * time.Second) // in fake time: the admin's
					f := someFacts(t)
					if shelf.last == nil { // nothing was journalled, so nothing was done
						f.Snapshots, f.Golden = w.f.Snapshots, w.f.Golden
					} else {
						j, err := pipeline.LoadJournal(t.Context(), shelf, "u-1")
						if err != nil || j.LoadFacts(f) != nil {
							t.Fatal(err)
						}
					}
					w.f = f
					if err := w.d.Wake(t.Context(), f, w.say); err != nil {
						t.Fatal(err)
					}
					res = w.run(t, t.Context(), shelf, w.keeps(buildFor{lasts: time.Minute}, changed{w: w}))
				}
				if res.Status != pipeline.Done || len(a.asked) != 4 || len(a.images) != 4 {
					t.Fatalf("killed after %d saves (off: %v): %s, %v, asked %q", saves, off, res.Status, res.Err, a.asked)
				}
				for _, img := range a.images {
					if !cloud.Ours(img.Tags, "lab", cloud.ForUndo) && !cloud.Ours(img.Tags, "lab", cloud.ForBirth) {
						t.Errorf("killed after %d saves: %s lacks its tags", saves, img.Name)
					}
				}
				if w.cut["spock"] || w.runs["spock"] == "" || w.down["sulu"]["10.77.0.22"] {
					t.Errorf("killed after %d saves: spock is not back", saves)
				}
			})
		}
	}
}

func TestARunThatIsKilledBetweenTheRequestAndItsAnswerFindsTheImageAgain(t *testing.T) {
	for name, later := range map[string]time.Duration{"while it is made": time.Minute, "when it is there": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				ctx, kill := context.WithCancel(t.Context())
				shelf := &dying{left: 1000, kill: kill}
				a.dies = func() { shelf.left = 0; kill() }
				if res := w.run(t, ctx, shelf, w.keeps(buildFor{}, changed{w: w})); res.Status == pipeline.Done {
					t.Fatal(res.Status)
				}
				a.dies, shelf.left = nil, 1000
				time.Sleep(later)
				if res := w.run(t, t.Context(), shelf, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done {
					t.Fatalf("%s: %v", res.Status, res.Err)
				}
				if len(a.asked) != 4 || w.f.Snapshots[0].Image == 0 {
					t.Errorf("asked %q, %+v", a.asked, w.f.Snapshots)
				}
			})
		})
	}
}

func TestASnapshotWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		a.loses = true
		if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if len(a.asked) != 4 || len(a.images) != 4 || !w.heard("was lost, so it is looked for") {
			t.Errorf("asked %q", a.asked)
		}
	})
}

func TestAnImageWhoseAnswerWasLostMayBeListedLate(t *testing.T) {
	for _, lasts := range []time.Duration{10 * time.Second, 20 * time.Minute} {
		inCloud(t, func(t *testing.T, w *world, a *account) {
			a.loses, a.lasts, a.appears = true, lasts, 5*time.Minute
			if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done || len(a.asked) != 4 {
				t.Errorf("%s: %v, asked %q", res.Status, res.Err, a.asked)
			}
		})
	}
}

func TestARequestThatNeverArrivedIsMadeAgain(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		a.fails["Snapshot"] = cloud.ErrLost
		w.after(5*time.Minute, func() { clear(a.fails) })
		if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done || len(a.asked) != 4 {
			t.Errorf("%s: %v, asked %q", res.Status, res.Err, a.asked)
		}
	})
}

func TestASnapshotComesAfterWhateverElseIsAtWorkOnTheDroplet(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		a.begin("backup", a.id("spock"), "")
		if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if len(a.asked) != 4 || w.f.Snapshots[0].Image == 0 || !w.heard("has an action at work (backup") {
			t.Errorf("asked %q, said %q", a.asked, w.said)
		}
	})
}

func TestASnapshotThatFailsEndsTheRunBeforeAnythingIsChanged(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(*account)
		says string
	}{
		"its action is errored":           {func(a *account) { a.errored[a.id("scotty")] = true }, "scotty: action 102 on droplet 15 gave no image"},
		"its image never appears":         {func(a *account) { a.appears = -1 }, "is complete, and the account does not list its image"},
		"the token lacks a scope":         {func(a *account) { a.fails["Snapshot"] = &cloud.ScopeError{Scope: "image:create"} }, "the token lacks the scope image:create: give it to the token"},
		"the token is expired":            {func(a *account) { a.fails["Pending"] = cloud.ErrDenied }, "make a new token"},
		"the account does not answer":     {func(a *account) { a.fails["Pending"] = errors.New("503 <html>") }, "503 <html>"},
		"it cannot be given its tags":     {func(a *account) { a.fails["TagImage"] = errors.New("no tags today") }, "cannot be given its tags: no tags today"},
		"the host cannot write its disk":  {func(a *account) { a.w.fails["spock sync"] = errors.New("input/output error") }, "input/output error"},
		"the droplet is another one now":  {func(a *account) { a.droplets[3].ID = 99 }, "spock was droplet 14 when this was planned and is 99 now"},
		"the host is nobody's droplet":    {func(a *account) { a.droplets = a.droplets[:3] }, "no droplet of the cloud account has its address 10.77.0.22"},
		"the droplets cannot be asked of": {func(a *account) { a.fails["Droplets"] = cloud.ErrLimit }, "wait until others have asked less"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				c.bad(a)
				began := time.Now()
				res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w}))
				if res.Status != pipeline.Undone && res.Status != pipeline.Refused || res.Touched || res.Err == nil || !strings.Contains(res.Err.Error(), c.says) {
					t.Errorf("%s, touched %v: %v", res.Status, res.Touched, res.Err)
				}
				if took := time.Since(began); strings.Contains(w.done(), "change") || name == "its image never appears" && took > 35*time.Minute {
					t.Errorf("after %s, done: %s", took, w.done())
				}
			})
		})
	}
}

func TestAFailedRunSaysWhereItsSnapshotsAreAndTheyStay(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w, fail: errors.New("no page")}))
		if res.Status != pipeline.Undone || len(a.images) != 2 || len(a.removed) > 0 {
			t.Fatalf("%s: %v, images %v", res.Status, res.Err, a.images)
		}
		for _, img := range a.images {
			if !w.heard(fmt.Sprintf("stays: image %d, %s", img.ID, img.Name)) {
				t.Errorf("nobody was told of %s", img.Name)
			}
		}
	})
}

func TestASnapshotOfABuildThatFailedIsClaimedByTheNextRun(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{lasts: time.Minute, fail: errors.New("no compiler")}, changed{w: w}))
		if res.Status != pipeline.Undone || !w.heard("is not complete yet") {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		time.Sleep(time.Hour)
		earlier := slices.Clone(w.f.Snapshots)
		w.d.Cloud.Runs = func(context.Context) ([]CloudRun, error) {
			return []CloudRun{{ID: "u-1", Snapshots: earlier}, {ID: "u-2", Open: true}}, nil
		}
		if err := (retireImages{w.d, w.f, "u-2"}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		for _, img := range a.images {
			if !cloud.Ours(img.Tags, "lab", cloud.ForUndo) || !slices.Contains(img.Tags, "refit:run:u-1") {
				t.Errorf("%s has the tags %q", img.Name, img.Tags)
			}
		}
		if len(a.images) != 2 || len(a.removed) > 0 {
			t.Errorf("%d images, removed %v", len(a.images), a.removed)
		}
	})
}

func TestARebuiltRunMakesNoSnapshotsOfNodesThatWereRolled(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, _ *account) {
		halfRolled(w)
		if got := states(rebuilt(t, w, nil)); !strings.Contains(got, "preflight=done, snapshot=done, build=done") || !strings.Contains(got, "snapshots done=done, pre-migrate") || strings.Contains(got, "golden") {
			t.Errorf("rebuilt: %s", got)
		}
	})
}
