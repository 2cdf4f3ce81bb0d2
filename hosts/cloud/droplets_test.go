package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

func twin() cloud.NewDroplet {
	return cloud.NewDroplet{
		Name: "refit-trek-r1-kirk-2", Region: "tor1", Size: "s-2vcpu-4gb", Image: 77, VPC: uuid(9),
		Tags: []string{"refit"}, UserData: "#cloud-config",
	}
}

func TestADropletIsMadeOnceAndAwaitedUntilItRuns(t *testing.T) {
	for story, bad := range map[string]*trouble{
		"all well":    nil,
		"answer lost": {at: "POST /v2/droplets", after: true},
	} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				for i := range 450 { // the twin stands on the third page
					w.droplets[1000+i] = droplet(1000+i, fmt.Sprintf("other-%d", i), "active")
				}
				w.next = 5000
				if bad != nil {
					w.troubles = []*trouble{bad}
				}
				c := w.client()
				began := time.Now()
				d, err := c.Create(w.Context(), twin())
				w.must(err)
				if d.Name != twin().Name || d.Status != "active" || !d.Public.IsValid() || time.Since(began) < 5*time.Minute {
					w.Errorf("%+v after %s", d, time.Since(began))
				}
				again, err := c.Create(w.Context(), twin())
				w.must(err)
				if again.ID != d.ID {
					w.Errorf("%d and %d", d.ID, again.ID)
				}
				w.want("POST", 1)
			})
		})
	}
}

func TestADropletThatIsNotListedYetIsAwaited(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "GET /v2/droplets/101", times: 4, status: 404, body: `{"id":"not_found","message":"none"}`}}
		d, err := w.client().Create(w.Context(), twin())
		w.must(err)
		if d.ID != 101 || d.Status != "active" {
			w.Errorf("%+v", d)
		}
	})
}

func TestADropletWithNothingButItsNameIsAccepted(t *testing.T) {
	play(t, func(w *world) { // the account refuses null
		_, err := w.client().Create(w.Context(), cloud.NewDroplet{Name: "x", Region: "tor1", Size: "s-1vcpu-1gb", Image: 7})
		w.must(err)
		_, err = w.client().Create(w.Context(), cloud.NewDroplet{Region: "tor1"})
		w.fails(err, nil, "needs a name")
	})
}

func TestADropletWhoseAnswerWasLostAndThatNeverCameIsSaid(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "POST /v2/droplets", before: true}}
		_, err := w.client().Create(w.Context(), twin())
		w.fails(err, cloud.ErrLost, twin().Name, "image 77", "before it sends anything")
		w.want("POST", 1)
	})
}

func TestALostDropletThatCannotBeLookedForSaysBoth(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{
			{at: "POST /v2/droplets", before: true},
			{at: "GET /v2/droplets", skip: 1, times: -1, status: 401, body: `{"message":"Unable to authenticate you."}`},
		}
		_, err := w.client().Create(w.Context(), twin())
		w.fails(err, cloud.ErrLost, "looking for it failed")
		w.fails(err, cloud.ErrDenied)
		w.want("POST", 1)
	})
}

func TestAHalfCreatedDropletIsNamedAndComesWithTheError(t *testing.T) {
	play(t, func(w *world) {
		w.stuck = true
		began := time.Now()
		d, err := w.client().Create(w.Context(), twin())
		w.fails(err, nil, "its status is new", "costs money", twin().Name, "address none")
		if took := time.Since(began); d.ID == 0 || took < cloud.DefaultBirth || took > cloud.DefaultBirth+time.Minute {
			w.Errorf("%+v after %s", d, took)
		}
	})
	play(t, func(w *world) {
		w.fail = true
		d, err := w.client().Create(w.Context(), twin())
		w.fails(err, cloud.ErrErrored, "its creation ended as errored", twin().Name)
		if d.ID == 0 {
			w.Error("the droplet is not named")
		}
	})
	play(t, func(w *world) { // taken away while it was awaited
		time.AfterFunc(time.Minute, func() { w.mu.Lock(); defer w.mu.Unlock(); delete(w.droplets, 101) })
		_, err := w.client().Create(w.Context(), twin())
		w.fails(err, cloud.ErrNotFound)
	})
}

func TestADropletOfThatNameWithoutTheRunsTagIsAnothers(t *testing.T) {
	play(t, func(w *world) {
		w.droplets[2] = droplet(2, twin().Name, "active")
		got, err := w.client().Create(w.Context(), twin())
		if err != nil || got.ID == 2 {
			w.Errorf("%d, %v", got.ID, err)
		}
		w.want("POST", 1)
	})
}

func TestOneOfTwoDropletsOfANameIsNotTaken(t *testing.T) {
	play(t, func(w *world) {
		for id := 2; id <= 3; id++ {
			w.droplets[id] = droplet(id, twin().Name, "active")
			w.droplets[id]["tags"] = twin().Tags
		}
		_, err := w.client().Create(w.Context(), twin())
		w.fails(err, nil, "2, 3")
		w.want("POST", 0)
	})
}

func TestAListThatLacksItsListIsNoEmptyOne(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "GET /v2/droplets", times: -1, status: 200, body: `{"links":{},"meta":{"total":0}}`}}
		_, err := w.client().Create(w.Context(), twin())
		w.fails(err, nil, "lacks")
		w.want("POST", 0)
	})
}

func TestEveryPageIsReadAndNoneAfterTheLast(t *testing.T) {
	for _, n := range []int{0, 199, 200, 401} {
		play(t, func(w *world) {
			delete(w.droplets, 1)
			for i := range n {
				w.droplets[i+1] = droplet(i+1, "x", "active")
				w.droplets[i+1]["tags"] = []string{"refit:fleet:trek&co"}
			}
			list, err := w.client().Droplets(w.Context(), "refit:fleet:trek&co")
			w.must(err)
			if len(list) != n || len(w.asked) != max(1, (n+199)/200) {
				w.Errorf("%d of %d in %d requests", len(list), n, len(w.asked))
			}
		})
	}
}

func TestAListThatChangesWhileItIsReadIsReadAnew(t *testing.T) {
	play(t, func(w *world) {
		w.perPage = 2
		for i := range 6 {
			w.droplets[i+1] = droplet(i+1, fmt.Sprint("d", i+1), "active")
		}
		// d3 moves to the first page, which has been read, when d1 goes.
		w.troubles = []*trouble{{at: "GET /v2/droplets?page=2", status: 502}}
		time.AfterFunc(100*time.Millisecond, func() { w.mu.Lock(); defer w.mu.Unlock(); delete(w.droplets, 1) })
		list, err := w.client().Droplets(w.Context(), "")
		w.must(err)
		if len(list) != 5 || list[1].Name != "d3" {
			w.Errorf("%+v", list)
		}
	})
	play(t, func(w *world) {
		w.perPage = 1
		w.droplets[2] = droplet(2, "x", "active")
		n := 0
		w.troubles = []*trouble{{at: "GET /v2/droplets?page=2", times: -1, status: 200}}
		c := w.client(func(o *cloud.Options) {
			o.Transport = tamper{w, func() {
				n++
				w.troubles[0].body = fmt.Sprintf(`{"droplets":[],"meta":{"total":%d}}`, 100+n)
			}}
		})
		_, err := c.Droplets(w.Context(), "")
		w.fails(err, nil, "changes every time")
	})
}

func TestWhatIsGoneIsDestroyedAlready(t *testing.T) {
	play(t, func(w *world) {
		c := w.client()
		w.images[5] = image(5, 1, "x")
		w.dbs[uuid(3)] = obj{"id": uuid(3), "name": "db"}
		w.walls[uuid(4)] = obj{"id": uuid(4), "name": "wall"}
		for path, destroy := range map[string]func(context.Context) error{
			"/v2/droplets/1":           func(ctx context.Context) error { return c.Destroy(ctx, 1) },
			"/v2/images/5":             func(ctx context.Context) error { return c.DeleteImage(ctx, 5) },
			"/v2/databases/" + uuid(3): func(ctx context.Context) error { return c.DestroyDatabase(ctx, uuid(3)) },
			"/v2/firewalls/" + uuid(4): func(ctx context.Context) error { return c.DestroyFirewall(ctx, uuid(4)) },
		} {
			w.troubles = []*trouble{{at: "DELETE " + path, before: true}}
			w.fails(destroy(w.Context()), cloud.ErrLost, strings.Split(path, "/")[3])
			w.once()
			w.troubles = []*trouble{{at: "DELETE " + path, after: true}}
			w.must(destroy(w.Context()))
			w.once()
			w.must(destroy(w.Context()))
			w.want("DELETE "+path, 3)
			w.once()
		}
		for _, id := range []string{"", "db", "../droplets/1", uuid(3) + "/users"} {
			w.fails(c.DestroyDatabase(w.Context(), id), nil, "no ID")
			w.fails(c.DestroyFirewall(w.Context(), id), nil, "no ID")
		}
		w.fails(c.Destroy(w.Context(), 0), nil)
		w.want("DELETE", 12)
	})
}

func TestADestructionWaitsForTheOpenAction(t *testing.T) {
	play(t, func(w *world) {
		w.begin(1, "snapshot", 0, func() {})
		w.troubles = []*trouble{{at: "DELETE", status: 422, body: `{"id":"unprocessable_entity","message":"Droplet already has a pending event."}`}}
		began := time.Now()
		w.must(w.client().Destroy(w.Context(), 1))
		if took := time.Since(began); took < w.pace {
			w.Errorf("after %s", took)
		}
		w.want("DELETE", 2)
	})
}

func TestPowerIsDoneWhenTheDropletSaysSo(t *testing.T) {
	for _, to := range []struct {
		power      cloud.Power
		from, want string
	}{{cloud.PowerOff, "active", "off"}, {cloud.Shutdown, "active", "off"}, {cloud.PowerOn, "off", "active"}} {
		for story, bad := range map[string]*trouble{"all well": nil, "lost": {at: post, after: true}} {
			t.Run(string(to.power)+" "+story, func(t *testing.T) {
				play(t, func(w *world) {
					w.lame = 40 * time.Second // completed precedes the real state
					w.droplets[1]["status"] = to.from
					if bad != nil {
						again := *bad
						w.troubles = []*trouble{&again}
					}
					c := w.client()
					w.must(c.Power(w.Context(), 1, to.power))
					if got := w.droplets[1]["status"]; got != to.want {
						w.Errorf("it is %v", got)
					}
					w.must(c.Power(w.Context(), 1, to.power)) // it is so already
					w.want(post, 1)
				})
			})
		}
	}
}

func TestASystemThatDoesNotHeedAShutdownIsSaid(t *testing.T) {
	play(t, func(w *world) {
		w.lame = -1
		w.fails(w.client().Power(w.Context(), 1, cloud.Shutdown), nil, "status is active, not off", "power_off")
		w.want(post, 1)
	})
	play(t, func(w *world) {
		w.fail = true
		w.fails(w.client().Power(w.Context(), 1, cloud.PowerOff), cloud.ErrErrored)
		w.fails(w.client().Power(w.Context(), 1, "reboot"), nil, "reboot")
		w.want(post, 1)
	})
}

func TestPowerWaitsForWhatIsOpen(t *testing.T) {
	play(t, func(w *world) { // a run that was ended had begun the same
		w.begin(1, "power_off", 0, func() { w.droplets[1]["status"] = "off" })
		w.droplets[1]["locked"] = true
		w.must(w.client().Power(w.Context(), 1, cloud.PowerOff))
		w.want(post, 0)
	})
	play(t, func(w *world) { // it is on, and is about to be off
		w.begin(1, "power_off", 0, func() { w.droplets[1]["status"] = "off" })
		w.must(w.client().Power(w.Context(), 1, cloud.PowerOn))
		w.want(post, 1)
		if w.droplets[1]["status"] != "active" {
			w.Errorf("%v", w.droplets[1]["status"])
		}
	})
}

func TestADropletIsPutBackInPlace(t *testing.T) {
	play(t, func(w *world) {
		w.images[8], w.images[9] = image(8, 1, "backup"), image(9, 1, name)
		w.images[8]["type"] = "backup"
		w.droplets[1]["snapshot_ids"] = []int{9}
		c := w.client()
		for im, kind := range map[int]string{8: "restore", 9: "rebuild"} {
			a, err := c.Restore(w.Context(), 1, im)
			w.must(err)
			if a.Type != kind || !a.Open() {
				w.Errorf("%+v", a)
			}
			w.must(c.Await(w.Context(), 1, a.ID, 0, nil))
		}
		w.want(post, 3)
	})
	play(t, func(w *world) {
		w.images[9] = image(9, 1, name)
		w.images[9]["type"] = "backup"
		w.troubles = []*trouble{{at: post, after: true}}
		a, err := w.client().Restore(w.Context(), 1, 9)
		w.must(err)
		if a.Type != "restore" {
			w.Errorf("%+v", a)
		}
		w.want(post, 1)
	})
	play(t, func(w *world) { // another's disk is not put on it
		w.images[9] = image(9, 2, name)
		_, err := w.client().Restore(w.Context(), 1, 9)
		w.fails(err, nil, "no backup of this droplet", "image 9")
		w.want(post, 1)
	})
	play(t, func(w *world) {
		w.droplets[1]["snapshot_ids"] = []int{9}
		w.troubles = []*trouble{{at: post, times: -1, status: 422, body: `{"id":"unprocessable_entity","message":"The image is larger than the disk."}`}}
		_, err := w.client().Restore(w.Context(), 1, 9)
		w.fails(err, nil, "larger than the disk", "restoring it was refused before")
		w.want(post, 2)
	})
}

func TestACallThatIsEndedSaysThatTheWriteMayBeDone(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: post, hang: true}}
		why := errors.New("told to stop")
		ctx, cancel := context.WithCancelCause(w.Context())
		time.AfterFunc(10*time.Second, func() { cancel(why) })
		_, err := w.client().Snapshot(ctx, 1, name)
		w.fails(err, why, "may have been done")
		w.want(post, 1)
	})
}
