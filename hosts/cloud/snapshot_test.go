package cloud_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

const (
	name = "refit-trek-r1-kirk"
	post = "POST /v2/droplets/1/actions"
)

// taken takes a snapshot to its end.
func (w *world) taken(c *cloud.Client) cloud.Image {
	w.Helper()
	a, err := c.Snapshot(w.Context(), 1, name)
	w.must(err)
	w.must(c.Await(w.Context(), 1, a.ID, 10*time.Second, nil))
	im, err := c.SnapshotOf(w.Context(), 1, name)
	w.must(err)
	return im
}

func TestASnapshotIsTakenOnceAndFoundByItsName(t *testing.T) {
	play(t, func(w *world) {
		w.late = 40 * time.Second
		c := w.client()
		im := w.taken(c)
		if im.Name != name || im.GiB != 12.5 || im.MinDiskGiB != 80 || im.Kind != "snapshot" || im.Created.IsZero() {
			w.Errorf("%+v", im)
		}
		a, err := c.Snapshot(w.Context(), 1, name) // as after a crash
		w.must(err)
		if a.Open() || a.ID != 0 {
			w.Errorf("%+v", a)
		}
		w.must(c.Await(w.Context(), 1, a.ID, 0, nil))
		w.want(post, 1)
	})
}

func TestASnapshotWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	for story, bad := range map[string]trouble{
		"cut":         {at: post, after: true},
		"hollow":      {at: post, status: 201, body: `{}`},
		"empty":       {at: post, status: 201, body: `{"action":{}}`},
		"half of it":  {at: post, status: 201, body: `{"action":{"id":1`},
		"login page":  {at: post, status: 200, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>Sign in</html>"},
		"gateway":     {at: post, status: 504, body: "<html>Gateway time-out</html>"},
		"no answer":   {at: post, hang: true},
		"lost before": {at: post, before: true},
	} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				w.begin(1, "snapshot", 0, func() {}) // another's, long over
				time.Sleep(time.Hour)
				w.troubles = append(w.troubles, &bad)
				if !bad.after { // it was done all the same, by the time it is looked for
					time.AfterFunc(10*time.Second, func() {
						w.mu.Lock()
						defer w.mu.Unlock()
						w.begin(1, "snapshot", 0, func() { w.next++; w.images[w.next] = image(w.next, 1, name) })
					})
				}
				if im := w.taken(w.client()); im.Name != name {
					w.Errorf("%+v", im)
				}
				w.want(post, 1)
			})
		})
	}
}

func TestALostSnapshotThatWasNeverDoneIsSaidAndSentByTheNextCallAlone(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: post, before: true}}
		c := w.client()
		began := time.Now()
		_, err := c.Snapshot(w.Context(), 1, name)
		w.fails(err, cloud.ErrLost, name, "droplet 1", "api.example", "run it again")
		if took := time.Since(began); took < 90*time.Second || took > 3*time.Minute {
			w.Errorf("it was looked for over %s", took)
		}
		w.want(post, 1)
		w.once()
		looked := w.count("GET /v2/droplets/1/snapshots")
		w.taken(c)
		w.want(post, 2)
		if w.count("GET /v2/droplets/1/snapshots") == looked {
			w.Error("it was not looked for before it was sent")
		}
	})
}

func TestAnImageOfAnOlderSnapshotIsNotTakenForALostOne(t *testing.T) {
	play(t, func(w *world) {
		w.begin(1, "snapshot", 0, func() {}) // another's, long over
		time.Sleep(time.Hour)
		w.images[55] = image(55, 1, "by-hand")
		w.images[56] = image(56, 2, name) // of another droplet
		w.troubles = []*trouble{{at: post, before: true}}
		_, err := w.client().Snapshot(w.Context(), 1, name)
		w.fails(err, cloud.ErrLost)
	})
}

func TestAnOpenSnapshotIsWaitedForBeforeAnotherIsSent(t *testing.T) {
	for story, ours := range map[string]bool{"ours": true, "another's": false} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				w.begin(1, "snapshot", 30*time.Second, func() {
					w.next++
					w.images[w.next] = image(w.next, 1, map[bool]string{true: name, false: "by-hand"}[ours])
				})
				w.taken(w.client())
				w.want(post, map[bool]int{true: 0, false: 1}[ours])
				if len(w.said) == 0 || !strings.Contains(w.said[0], "is open") {
					w.Errorf("said %q", w.said)
				}
			})
		})
	}
}

func TestARefusalForAnotherOpenActionIsWaitedOut(t *testing.T) {
	play(t, func(w *world) {
		w.pace = 40 * time.Minute
		w.begin(1, "backup", 0, func() {})
		w.droplets[1]["locked"] = true
		began := time.Now()
		c := w.client()
		a, err := c.Snapshot(w.Context(), 1, name)
		w.must(err)
		if took := time.Since(began); took < 40*time.Minute || took > 42*time.Minute || !a.Open() {
			w.Errorf("after %s: %+v", took, a)
		}
		w.want(post, 2) // refused once, and then done
		if len(w.said) == 0 || !strings.Contains(w.said[0], "backup") {
			w.Errorf("said %q", w.said)
		}
		if n := w.count("GET /v2/droplets/1/actions/"); n > 260 {
			w.Errorf("%d polls in 40 minutes", n)
		}
	})
}

func TestAnotherActionThatEndsErroredDoesNotStandInTheWay(t *testing.T) {
	play(t, func(w *world) {
		w.begin(1, "backup", 0, func() {})
		w.droplets[1]["locked"] = true
		w.fail = true
		a, err := w.client().Snapshot(w.Context(), 1, name)
		w.must(err)
		if !a.Open() {
			w.Errorf("%+v", a)
		}
	})
}

func TestALimitAfterALongTurnIsStillWaitedFor(t *testing.T) {
	play(t, func(w *world) {
		w.begin(1, "backup", 0, func() {})
		w.droplets[1]["locked"] = true
		w.troubles = []*trouble{{at: post, skip: 1, status: 429, header: http.Header{"Retry-After": {"60"}}, body: limitBody}}
		_, err := w.client().Snapshot(w.Context(), 1, name)
		w.must(err)
		w.want(post, 3)
	})
}

func TestAnActionThatIsOpenForTooLongIsNamed(t *testing.T) {
	play(t, func(w *world) {
		w.pace = 48 * time.Hour
		w.begin(1, "migrate", 0, func() {})
		began := time.Now()
		_, err := w.client().Snapshot(w.Context(), 1, name)
		w.fails(err, cloud.ErrBusy, "migrate (101)", "droplet 1")
		if took := time.Since(began); took < cloud.DefaultTurn || took > cloud.DefaultTurn+time.Minute {
			w.Errorf("waited %s", took)
		}
	})
}

func TestARefusalForAnActionThatNobodySeesEnds(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: post, times: -1, status: 422, body: `{"id":"unprocessable_entity","message":"There are currently blocking events processing on this droplet."}`}}
		began := time.Now()
		_, err := w.client().Snapshot(w.Context(), 1, name)
		w.fails(err, cloud.ErrBusy, "no open action")
		if n := w.count(post); n > 20 || time.Since(began) > 5*time.Minute {
			w.Errorf("%d times in %s", n, time.Since(began))
		}
	})
}

func TestAnActionThatEndsErroredIsSaid(t *testing.T) {
	play(t, func(w *world) {
		w.fail = true
		c := w.client()
		a, err := c.Snapshot(w.Context(), 1, name)
		w.must(err)
		w.fails(c.Await(w.Context(), 1, a.ID, 0, nil), cloud.ErrErrored, "snapshot", "droplet 1", "control panel")
		w.want(post, 1)
	})
}

func TestAnImageThatNeverAppearsIsSaidAfterThePatience(t *testing.T) {
	play(t, func(w *world) {
		w.late = 100 * time.Hour
		c := w.client()
		a, err := c.Snapshot(w.Context(), 1, name)
		w.must(err)
		w.must(c.Await(w.Context(), 1, a.ID, 0, nil))
		began := time.Now()
		_, err = c.SnapshotOf(w.Context(), 1, name)
		w.fails(err, cloud.ErrNotFound, name)
		if took := time.Since(began); took < time.Minute || took > 3*time.Minute {
			w.Errorf("waited %s", took)
		}
	})
}

func TestAnImageThatIsNotReadyIsNotTheSnapshot(t *testing.T) {
	play(t, func(w *world) {
		w.images[9] = image(9, 1, name)
		w.images[9]["status"] = "pending"
		time.AfterFunc(time.Minute, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.images[9]["status"] = "available"
		})
		began := time.Now()
		im, err := w.client().SnapshotOf(w.Context(), 1, name)
		w.must(err)
		if im.ID != 9 || time.Since(began) < time.Minute {
			w.Errorf("%+v after %s", im, time.Since(began))
		}
	})
}

func TestAPollGoesOnThroughTroubleWithoutHaste(t *testing.T) {
	play(t, func(w *world) {
		w.pace = 75 * time.Minute
		c := w.client()
		a, err := c.Snapshot(w.Context(), 1, name)
		w.must(err)
		w.troubles = []*trouble{{at: "GET /v2/droplets/1/actions/", skip: 20, times: 4, status: 503, body: "<html>down</html>"}}
		told := 0
		w.must(c.Await(w.Context(), 1, a.ID, 0, func(string, ...any) { told++ }))
		if polls := w.count("GET /v2/droplets/1/actions/"); polls > 75*60/9 || polls < 75*60/15 {
			w.Errorf("%d polls", polls)
		}
		if told < 60 || told > 75 {
			w.Errorf("told %d times", told)
		}
	})
}

func TestAWaitThatIsEndedSaysThatTheActionGoesOn(t *testing.T) {
	play(t, func(w *world) {
		c := w.client()
		a, err := c.Snapshot(w.Context(), 1, name)
		w.must(err)
		why := errors.New("the lease is lost")
		ctx, cancel := context.WithCancelCause(w.Context())
		time.AfterFunc(time.Minute, func() { cancel(why) })
		w.fails(c.Await(ctx, 1, a.ID, 0, nil), why, "goes on")
	})
}

func TestAStatusThatNobodyKnowsIsNotWaitedFor(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "GET /v2/droplets/1/actions/5", status: 200, body: `{"action":{"id":5,"status":"paused","type":"snapshot"}}`}}
		w.fails(w.client().Await(w.Context(), 1, 5, 0, nil), nil, "paused")
	})
}

func TestAWriteThatNeverLeftIsSentAgain(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: post, times: 3, err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}}
		w.taken(w.client())
		w.want(post, 4)
		w.troubles = []*trouble{{at: "DELETE", times: -1, err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}}
		w.fails(w.client().Destroy(w.Context(), 1), nil, "connection refused")
		w.troubles = []*trouble{{at: "DELETE", times: -1, err: &net.OpError{Op: "read", Err: errors.New("connection reset")}}}
		n := w.count("DELETE")
		w.fails(w.client().Destroy(w.Context(), 1), cloud.ErrLost, "connection reset")
		w.want("DELETE", n+1)
	})
}
