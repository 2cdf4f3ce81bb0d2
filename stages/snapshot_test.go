package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
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
			"refit-lab-u-1-spock":                  {"refit", "refit:fleet:lab", "refit:kind:snapshot", "refit:release:v4-5-14", "refit:run:u-1", "refit:tier:web"},
			"refit-lab-u-1-scotty":                 {"refit", "refit:fleet:lab", "refit:kind:snapshot", "refit:release:v4-5-14", "refit:run:u-1", "refit:tier:sidekiq"},
			"refit-lab-golden-sidekiq-v4.5.15-u-1": {"refit", "refit:fleet:lab", "refit:kind:golden", "refit:release:v4-5-15", "refit:run:u-1", "refit:tier:sidekiq"},
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

func TestANodeThatIsSwitchedOffForItsSnapshotComesBackThroughItsGates(t *testing.T) {
	for name, deaf := range map[string]bool{"it shuts down": false, "its plug is pulled": true} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				a.deaf = deaf
				w.f.Snapshots[0].Off, w.f.Snapshots[1].Off, w.f.Golden = true, true, nil
				if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done {
					t.Fatalf("%s: %v", res.Status, res.Err)
				}
				web := []string{"both: 10.77.0.22 down", "spock: stop", "spock: sync", "spock: shutdown", "spock: power_on", "both: 10.77.0.22 up"}
				work := []string{"scotty: kill TSTP", "scotty: stop", "scotty: sync", "scotty: shutdown", "scotty: power_on", "change"}
				if deaf {
					web, work = slices.Insert(web, 4, "spock: power_off"), slices.Insert(work, 4, "scotty: power_off")
				}
				didAll(t, w, append(web, work...)...)
				if len(a.asked) != 2 || w.f.Snapshots[0].Image == 0 || w.f.Snapshots[0].Down {
					t.Errorf("%q, %+v", a.asked, w.f.Snapshots)
				}
			})
		})
	}
}

func TestANodeDoesNotStayOffForASnapshotThatFailed(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off, a.errored[a.id("spock")] = true, true
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Undone || res.Touched {
			t.Fatalf("%s: %v, %v", res.Status, res.Err, res.UndoErr)
		}
		if _, waited := errors.AsType[*pipeline.GroundError](res.Err); waited {
			t.Errorf("it was left off, and waited for: %v", res.Err)
		}
		if w.cut["spock"] || w.runs["spock"] != "v4.5.14" || w.down["sulu"]["10.77.0.22"] || strings.Contains(w.done(), "change") {
			t.Errorf("spock is not back: %s", w.done())
		}
	})
}

func TestANodeThatCannotBeSwitchedOnNeedsAPerson(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off = true
		a.fails["Power power_on"] = errors.New("the rack is dark")
		shelf := &dying{left: 1000}
		res := w.run(t, t.Context(), shelf, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Person || !strings.Contains(res.State, "spock (droplet 14) was switched off for its snapshot") || !strings.Contains(res.Next, "switch droplet 14 on") {
			t.Fatalf("%s, %q, next %q: %v", res.Status, res.State, res.Next, res.Err)
		}
		clear(a.fails)
		if err := w.d.Wake(t.Context(), w.f, w.say); err != nil {
			t.Fatal(err)
		}
		if res := w.run(t, t.Context(), shelf, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done || len(a.asked) != 4 {
			t.Errorf("%s: %v, asked %q", res.Status, res.Err, a.asked)
		}
	})
}

func TestANodeIsNotSwitchedOffWithoutAPeerThatServes(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off, w.sick["kirk"] = true, "/ answers 500"
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Undone || len(a.powers) > 0 || !strings.Contains(res.Err.Error(), "cannot take spock out") {
			t.Errorf("%s: %v, powers %q", res.Status, res.Err, a.powers)
		}
	})
}

func TestTheSurveyChoosesWhichNodesAreKept(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		v := aView(w.d, w.f)
		facts := v.Facts["spock"]
		facts.Disks[0].Total = facts.Disks[0].Free + 20<<30
		v.Facts["spock"] = facts
		w.d.Cloud.PowerOff = []string{"sidekiq"}
		refused, said := w.d.Cloud.choose(t.Context(), w.d, v, w.f)
		if len(refused) > 0 {
			t.Fatalf("refused: %q", refused)
		}
		if len(w.f.Snapshots) != 2 || w.f.Snapshots[0].Host != "spock" || w.f.Snapshots[0].Droplet != 14 || w.f.Snapshots[0].Off || w.f.Snapshots[1].Host != "scotty" || !w.f.Snapshots[1].Off {
			t.Errorf("%+v", w.f.Snapshots)
		}
		text := strings.Join(said, "\n")
		for _, want := range []string{
			"a snapshot of spock is kept for the tier web (20 GiB in use): it takes 17 to 24 minutes beside the build and costs $1.20 a month",
			"scotty is kept for the tier sidekiq (how much is in use is not known, at most the 25 GiB of its disk): it takes 21 to 30 minutes, in which the node is switched off",
			"no volume, no database, no Redis", "spock work while theirs is taken, so it is what a power cut would leave (sync is called before)",
			"is not known here", "The newest 2 of a tier stay, and others for 14 days", "golden image of each tier",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("does not say %q:\n%s", want, text)
			}
		}
	})
}

func TestAnIllNodeAndTheSchedulersAreNotKeptWhereAnotherIs(t *testing.T) {
	f := aFleet()
	for _, c := range []struct {
		tier  Fleet
		order []string
		want  string
	}{
		{f.With(hosts.Web), []string{"spock", "kirk"}, "kirk"}, // spock is ill and rolled first
		{f.With(hosts.Web), []string{"kirk", "spock"}, "spock"},
		{f.With(hosts.Sidekiq), []string{"scotty", "decker"}, "scotty"},
		{f.With(hosts.Sidekiq).But("scotty"), []string{"decker"}, "decker"},
	} {
		if got := pick(c.tier, c.order)[0].Name; got != c.want {
			t.Errorf("%q: %s, not %s", c.order, got, c.want)
		}
	}
	f[3].Roles = append(f[3].Roles, hosts.Keeper)
	if got := pick(f.With(hosts.Web), []string{"kirk", "spock"})[0].Name; got != "kirk" {
		t.Errorf("%s has another role too", got)
	}
}

func TestANodeWhoseDropletIsNotClearIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(*account, *Cloud)
		says string
	}{
		"none has its address": {func(a *account, _ *Cloud) {
			a.droplets[2].Private = a.droplets[7].Private
			a.droplets[7].Private = a.droplets[6].Private
		}, "kirk: no droplet of the cloud account has its address 10.77.0.21: write `droplet: ID` to that host in refit.yml (13 has its name)"},
		"two have its address":      {func(a *account, _ *Cloud) { a.droplets[7].Public = a.droplets[2].Private }, "kirk: the droplets 13, 18 have its address 10.77.0.21"},
		"refit.yml names one amiss": {func(_ *account, c *Cloud) { c.Droplets = map[string]int{"kirk": 4711} }, "kirk: the cloud account has no droplet 4711, which refit.yml gives"},
		"refit.yml names one twice": {func(_ *account, c *Cloud) { c.Droplets = map[string]int{"kirk": 14} }, "kirk and spock are the same droplet, 14"},
		"the account does not say":  {func(a *account, _ *Cloud) { a.fails["Droplets"] = cloud.ErrDenied }, "make a new token"},
		"another's is switched off": {func(a *account, c *Cloud) {
			c.PowerOff, c.Droplets = []string{"web"}, map[string]int{"spock": 17}
		}, "spock: its droplet 17 has neither its address nor its name (it is called khan), and is not switched off"},
		"a keeper is switched off": {func(a *account, c *Cloud) {
			c.PowerOff = []string{"web"}
			a.w.d.Fleet[2].Roles, a.w.d.Fleet[3].Roles = []hosts.Role{hosts.Web, hosts.Builder}, []hosts.Role{hosts.Web, hosts.Keeper}
		}, "spock is keeper too and cannot be switched off"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				c.bad(a, w.d.Cloud)
				refused, _ := w.d.Cloud.choose(t.Context(), w.d, aView(w.d, w.f), w.f)
				if !strings.Contains(strings.Join(refused, "\n"), c.says) {
					t.Errorf("refused: %q", refused)
				}
			})
		})
	}
	inCloud(t, func(t *testing.T, w *world, a *account) { // by its public address, and by its ID where no address helps
		a.droplets[2].Public, a.droplets[2].Private = a.droplets[2].Private, a.droplets[2].Public
		a.droplets[3].Private = a.droplets[2].Private
		w.d.Cloud.Droplets = map[string]int{"spock": 14}
		if refused, _ := w.d.Cloud.choose(t.Context(), w.d, aView(w.d, w.f), w.f); len(refused) > 0 {
			t.Errorf("refused: %q", refused)
		}
	})
}
