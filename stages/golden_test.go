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

func TestAGoldenImageIsOfANodeThatServesTheReleaseAndIsSealed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *account)
		want   []string // whom, of web and sidekiq; "" for none
		says   string
	}{
		"all are well":               {func(*world, *account) {}, []string{"spock", "scotty"}, ""},
		"one is not sealed":          {func(w *world, _ *account) { w.d.Cloud.Sealed = sealedBut("spock") }, []string{"kirk", "scotty"}, ""},
		"none of a tier is sealed":   {func(w *world, _ *account) { w.d.Cloud.Sealed = sealedBut("spock", "kirk") }, []string{"", "scotty"}, "spock is not sealed: its units start without a permit"},
		"nobody can tell":            {func(w *world, _ *account) { w.d.Cloud.Sealed = nil }, []string{"", ""}, "cannot be asked"},
		"one does not serve":         {func(w *world, _ *account) { w.sick["spock"] = "/ answers 500" }, []string{"kirk", "scotty"}, ""},
		"one runs another release":   {func(w *world, _ *account) { w.runs["scotty"] = "v4.5.14" }, []string{"spock", "decker"}, ""},
		"one is out of rotation":     {func(w *world, _ *account) { w.down["sulu"]["10.77.0.22"] = true }, []string{"kirk", "scotty"}, ""},
		"an action is errored":       {func(_ *world, a *account) { a.errored[a.id("spock")] = true }, []string{"", "scotty"}, "gave no image"},
		"an image never appears":     {func(_ *world, a *account) { a.appears = -1 }, []string{"", ""}, "does not list its image"},
		"the account refuses":        {func(_ *world, a *account) { a.fails["Snapshot"] = &cloud.ScopeError{Scope: "image:create"} }, []string{"", ""}, "the token lacks the scope image:create"},
		"the account is not there":   {func(_ *world, a *account) { a.fails["Droplets"] = errors.New("no route") }, []string{"", ""}, "no route"},
		"the account breaks off":     {func(_ *world, a *account) { a.fails["SnapshotOf"] = errors.New("503") }, []string{"", ""}, "503"},
		"a droplet cannot be found":  {func(_ *world, a *account) { a.droplets = slices.Delete(a.droplets, 2, 4) }, []string{"", "scotty"}, "no droplet of the cloud account has its address"},
		"the host cannot be reached": {func(w *world, _ *account) { w.fails["spock sync"] = errDown }, []string{"", "scotty"}, "the link is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				w.onNew()
				c.change(w, a)
				if err := (golden{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				text := strings.Join(w.f.Images()[len(w.f.Snapshots)-2:], "\n")
				for i, k := range w.f.Golden {
					if (k.Image != 0) != (c.want[i] != "") || c.want[i] != "" && k.Host != c.want[i] {
						t.Errorf("%s: %+v, not of %q", k.Tier, k, c.want[i])
					}
					if k.Image == 0 && (!strings.Contains(text, "no golden image of the") || !w.heard("no golden image of the tier "+k.Tier)) {
						t.Errorf("%s is not said aloud: %s", k.Tier, text)
					}
				}
				if !strings.Contains(text, c.says) {
					t.Errorf("does not say %q: %s", c.says, text)
				}
			})
		})
	}
}

func TestAPersonMayStopTheWaitForGoldenImages(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots = nil
		p := w.keeps(buildFor{}, changed{w: w})
		stop := make(chan struct{})
		w.after(5*time.Minute, func() { close(stop) })
		w.onNew()
		shelf := &dying{left: 1000}
		res := pipeline.Execute(t.Context(), p, pipeline.NewJournal(p, shelf, 1, time.Now()), pipeline.Options{Stop: stop})
		if res.Status != pipeline.Stopped {
			t.Fatalf("%s: %v", res.Status, res.Err)
		}
		if res := w.run(t, t.Context(), shelf, p); res.Status != pipeline.Done || len(a.asked) != 2 {
			t.Errorf("%s: %v, asked %q", res.Status, res.Err, a.asked)
		}
	})
}

func TestGoldenImagesStayWhenARunIsTakenBack(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Golden[0].Image, w.f.Golden[0].Name = 7, "refit-lab-golden-web-v4.5.15-u-1"
		a.images = []cloud.Image{{ID: 7, Name: w.f.Golden[0].Name}}
		for _, s := range []pipeline.Stage{golden{w.d, w.f, "u-1"}, retireImages{w.d, w.f, "u-1"}} {
			if err := s.Undo(t.Context(), w.say); err != nil {
				t.Error(err)
			}
		}
		if len(a.images) != 1 || !w.heard("golden image of the tier web with v4.5.15 stays: image 7") {
			t.Errorf("said %q", w.said)
		}
	})
}

// old adds images to the account, the newest first, a day between them.
func (a *account) old(p cloud.Purpose, tier string, n int, change func(i int, img *cloud.Image)) {
	for i := range n {
		a.next++
		run := fmt.Sprintf("r-%d", a.next)
		img := cloud.Image{ID: a.next, Name: cloud.SnapshotName("lab", run, "kirk"), Kind: "snapshot", GiB: 9, Created: time.Now().Add(-time.Duration(100+i) * 24 * time.Hour)}
		img.Tags = cloud.Marks("lab", p, run, cloud.TierTag(tier), cloud.ReleaseTag("v4.5.14"))
		if change != nil {
			change(i, &img)
		}
		a.images = append(a.images, img)
	}
}

func (w *world) retires(t *testing.T) {
	t.Helper()
	if err := (retireImages{w.d, w.f, "u-1"}).Run(t.Context(), w.say); err != nil {
		t.Fatal(err)
	}
}

func TestTheNewestAndTheYoungOfEachTierAndPurposeStay(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.d.Cloud.Snapshots.Keep, w.d.Cloud.Golden.Keep = 1, 3
		a.old(cloud.ForUndo, "web", 4, nil)                                // 101 to 104
		a.old(cloud.ForBirth, "web", 4, nil)                               // 105 to 108
		a.old(cloud.ForUndo, "sidekiq", 2, nil)                            // 109, 110
		a.old(cloud.ForUndo, "sidekiq", 2, func(i int, img *cloud.Image) { // 111, 112: young
			img.Created = time.Now().Add(-13 * 24 * time.Hour)
		})
		w.retires(t)
		slices.Sort(a.removed)
		if want := []int{102, 103, 104, 108, 109, 110}; !slices.Equal(a.removed, want) {
			t.Errorf("removed %v, not %v", a.removed, want)
		}
		if len(w.f.Retired) != 6 || !strings.Contains(strings.Join(w.f.Images(), "\n"), "removed from the cloud account: image 104") {
			t.Errorf("%q", w.f.Retired)
		}
	})
}

func TestTheLastGoodImageOfATierStaysWhateverTheRuleSays(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.d.Cloud.Snapshots, w.d.Cloud.Golden = Retention{}, Retention{}
		a.old(cloud.ForUndo, "web", 2, nil)      // 101, 102
		a.old(cloud.ForBirth, "sidekiq", 1, nil) // 103
		a.old(cloud.ForBirth, "sidekiq", 1, func(_ int, img *cloud.Image) {
			img.GiB, img.Created = 0, time.Now() // 104 is newer, and still being made: it is no good one
		})
		w.retires(t)
		if !slices.Equal(a.removed, []int{102}) {
			t.Errorf("removed %v", a.removed)
		}
	})
}

func TestNothingIsRemovedThatRefitDidNotMakeOfThisFleetForThatPurpose(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.d.Cloud.Snapshots, w.d.Cloud.Golden = Retention{Keep: 1}, Retention{Keep: 1}
		a.old(cloud.ForUndo, "web", 1, nil)  // 101, which stays as the last
		a.old(cloud.ForBirth, "web", 1, nil) // 102, too
		without := func(tag string) func(int, *cloud.Image) {
			return func(_ int, img *cloud.Image) {
				img.Tags = slices.DeleteFunc(img.Tags, func(t string) bool { return t == tag })
			}
		}
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Tags = nil })
		a.old(cloud.ForUndo, "web", 3, without("refit"))
		a.old(cloud.ForUndo, "web", 3, without("refit:fleet:lab"))
		a.old(cloud.ForUndo, "web", 3, without("refit:kind:snapshot"))
		a.old(cloud.ForUndo, "web", 3, without("refit:tier:web"))
		a.old(cloud.ForUndo, "proxy", 3, nil)
		a.old(cloud.ForRehearsal, "web", 3, nil)
		a.old(cloud.ForReplacement, "web", 3, nil)
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Tags = append(img.Tags, "refit:tier:sidekiq") })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Tags[1] = "refit:fleet:lab2" })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Name = "refit-other-r-1-kirk" }) // a fleet whose tags are the same
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Name = "keep this" })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Kind = "backup" })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Kind = "custom" })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Tags = append(img.Tags, cloud.RunTag("u-1")) })
		a.old(cloud.ForUndo, "web", 3, func(_ int, img *cloud.Image) { img.Tags = append(img.Tags, cloud.RunTag("u-0")) })
		a.old(cloud.ForUndo, "web", 1, func(_ int, img *cloud.Image) { img.Created = time.Now().Add(-999 * 24 * time.Hour) }) // ours
		ours := a.next
		w.d.Cloud.Runs = func(context.Context) ([]CloudRun, error) {
			return []CloudRun{{ID: "u-0", Open: true}, {ID: "r-1"}}, nil
		}
		w.retires(t)
		if !slices.Equal(a.removed, []int{ours}) {
			t.Errorf("removed %v, not %d alone", a.removed, ours)
		}
	})
}

func TestAnImageWhoseTagsWereTakenMeanwhileStays(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		a.old(cloud.ForUndo, "web", 3, nil)
		w.d.Cloud.API = untagging{a}
		w.retires(t)
		if len(a.removed) > 0 {
			t.Errorf("removed %v", a.removed)
		}
	})
}

// untagging takes an image's tags between the listing and the last look.
type untagging struct{ *account }

func (u untagging) Image(ctx context.Context, id int) (cloud.Image, error) {
	img, err := u.account.Image(ctx, id)
	img.Tags = nil
	return img, err
}

func TestImagesThatCannotBeRemovedFailNoUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(*Cloud, *account)
		says string
	}{
		"the account refuses":         {func(_ *Cloud, a *account) { a.fails["DeleteImage"] = &cloud.ScopeError{Scope: "image:delete"} }, "the token lacks the scope image:delete: give it to the token"},
		"it does not list them":       {func(_ *Cloud, a *account) { a.fails["Images"] = errors.New("503") }, "old images stay in the cloud account: 503"},
		"one cannot be looked at":     {func(_ *Cloud, a *account) { a.fails["Image"] = errors.New("504") }, "old images stay in the cloud account: 504"},
		"the journals cannot be read": {func(c *Cloud, _ *account) { c.Runs = func(context.Context) ([]CloudRun, error) { return nil, errDown } }, "which runs may need them yet cannot be asked: the link is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				a.old(cloud.ForUndo, "web", 3, nil)
				c.bad(w.d.Cloud, a)
				w.retires(t)
				if len(a.removed) > 0 || !w.heard(c.says) || !strings.Contains(strings.Join(w.f.Images(), "\n"), c.says) {
					t.Errorf("removed %v, said %q", a.removed, w.said)
				}
			})
		})
	}
}
