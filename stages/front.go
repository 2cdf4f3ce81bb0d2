package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/pipeline"
)

// Front is the balancer before the proxies, as its provider tells of it. refit only
// asks it: web nodes go out of rotation on the proxies, and no balancer is ever changed.
type Front interface {
	// State is which proxies users are sent to and what the balancer's own checks say.
	State(ctx context.Context) (FrontState, error)
	// Traffic is what users were answered by the balancer between two times; newest is when
	// the last sample of it was taken, zero where its metrics have nothing of that time.
	Traffic(ctx context.Context, from, to time.Time) (sum nginx.Traffic, newest time.Time, err error)
}

// FrontState is a balancer at one moment.
type FrontState struct {
	Name string
	// Status is "active" when it works.
	Status string
	// Behind are the hosts of the fleet that users are sent to, Strangers the machines
	// that are not the fleet's.
	Behind, Strangers []string
	// Well is what the balancer's checks say of each host; one that lacks is not known.
	Well map[string]bool
	// Checked is when that was found out, by the balancer's own account.
	Checked map[string]time.Time
	// Unknown is why nothing is known of the checks; "" where something is.
	Unknown string
}

// ill are the proxies that the balancer's checks fail, in the fleet's order.
func (s FrontState) ill(proxies Fleet) []string {
	var out []string
	for _, p := range proxies {
		if well, known := s.Well[p.Name]; known && !well {
			out = append(out, p.Name)
		}
	}
	return out
}

// front: users are sent to every proxy of refit.yml, to nothing else, and the
// balancer's own checks pass. A machine behind it that refit does not know would go on
// sending requests to a web node that is stopped.
func (j *judgement) front() {
	if j.d.Front == nil {
		return
	}
	if err := j.v.FrontErr; err != nil {
		j.refuse("the balancer cannot be asked which proxies serve: %v; `refit doctor` says what the token may do, and without cloud.balancer in refit.yml it is not asked", err)
		return
	}
	s := j.v.Front
	if s.Status != "active" {
		j.refuse("the balancer %s is %q and not active: see it in the provider's control panel before anything else", s.Name, s.Status)
	}
	for _, name := range s.Strangers {
		j.refuse("%s is behind the balancer %s and no proxy of refit.yml: it would go on sending requests to nodes that are out of rotation; name it there with the role proxy, or take it out of the balancer", name, s.Name)
	}
	ill := s.ill(j.d.proxies())
	for _, p := range j.d.proxies() {
		switch _, known := s.Well[p.Name]; {
		case !slices.Contains(s.Behind, p.Name):
			j.refuse("%s is not behind the balancer %s: add its droplet there, or take the role proxy from it in refit.yml", p.Name, s.Name)
		case slices.Contains(ill, p.Name):
			j.refuse("%s fails the checks of the balancer %s, so all users rest on the others: on %s, nginx -t and systemctl status nginx, and what the check's path answers", p.Name, s.Name, p.Name)
		case !known && s.Unknown == "":
			j.say("%s: what the checks of the balancer %s say of it is not known", p.Name, s.Name)
		}
	}
	for _, name := range s.Behind {
		if !slices.Contains(names(j.d.proxies()), name) {
			j.refuse("%s is behind the balancer %s and has not the role proxy in refit.yml: give it that role, or take it out of the balancer", name, s.Name)
		}
	}
	if s.Unknown != "" {
		j.say("what the checks of the balancer %s say of the proxies is not known: %s", s.Name, s.Unknown)
	}
}

// How the balancer is asked while the site is watched: its metrics come seconds to
// minutes late, and the account's limit of requests is shared with all else.
const (
	frontEvery = 15 * time.Second
	// frontPatience bounds one question: an API that hangs must not fail a look at the site.
	frontPatience = 10 * time.Second
	// frontRest is until it is asked again when it could not be.
	frontRest = time.Minute
	// frontLag is how late its metrics may come by right.
	frontLag = 3 * time.Minute
)

// frontWatch watches the balancer since a time. What cannot be known is said once and
// stands against nothing: the proxies' own logs are watched beside it.
type frontWatch struct {
	d     Deps
	base  Baseline
	since time.Time
	say   pipeline.Say

	mu    sync.Mutex
	next  time.Time // not asked again before
	wrong error     // of the last answers
	told  map[string]bool
	// ill is since which check a host is ill, bad since which sample too many answers were
	// errors; zero for not. Another look at the same one finds nothing new.
	ill map[string]time.Time
	bad time.Time
}

func (d Deps) newFrontWatch(base Baseline, since time.Time, say pipeline.Say) *frontWatch {
	return &frontWatch{d: d, base: base, since: since, say: say, told: map[string]bool{}, ill: map[string]time.Time{}}
}

// look is nil when the balancer has nothing against the site. What it has against it was
// found by two of its samples, one after the other, each from after the watch's beginning:
// the gate's own patience with one bad look is of no use here, since between two questions
// it looks at one answer many times.
func (w *frontWatch) look(ctx context.Context) error {
	if w.d.Front == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Before(w.next) {
		return w.wrong
	}
	w.next = now.Add(frontEvery)
	w.wrong = errors.Join(w.checks(ctx), w.answers(ctx, now))
	return w.wrong
}

// silent notes that the balancer could not be asked, and leaves it alone for a while.
func (w *frontWatch) silent(ctx context.Context, what, format string, err error) {
	if ctx.Err() != nil {
		return // refit itself gave up
	}
	w.next = time.Now().Add(frontRest)
	w.tell(what, format, err)
}

// checks fails when the balancer finds the same proxy ill twice in a row: one check may be
// of the moment at which nginx was reloaded.
func (w *frontWatch) checks(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, frontPatience)
	defer cancel()
	s, err := w.d.Front.State(within)
	if err != nil {
		w.silent(ctx, "checks", "the balancer cannot be asked for the proxies' health, which is not watched meanwhile: %v", err)
		return nil
	}
	ill := s.ill(w.d.proxies())
	var still []string
	for _, p := range w.d.proxies() {
		at := s.Checked[p.Name]
		_, known := s.Well[p.Name]
		if known && !slices.Contains(ill, p.Name) {
			delete(w.ill, p.Name)
		}
		if !slices.Contains(ill, p.Name) || at.Before(w.since) {
			continue // what was before is not of this deed
		}
		if first, before := w.ill[p.Name]; !before {
			w.ill[p.Name] = at
		} else if at.After(first) {
			still = append(still, p.Name)
		}
	}
	if len(still) > 0 {
		return fmt.Errorf("the checks of the balancer %s fail on %s", s.Name, strings.Join(still, ", "))
	}
	return nil
}

func (w *frontWatch) answers(ctx context.Context, now time.Time) error {
	within, cancel := context.WithTimeout(ctx, frontPatience)
	defer cancel()
	t, newest, err := w.d.Front.Traffic(within, w.since, now)
	switch {
	case err != nil:
		w.silent(ctx, "traffic", "the balancer's metrics cannot be read, so its answers are not counted meanwhile: %v", err)
		return nil
	case newest.Before(w.since):
		if now.Sub(w.since) >= frontLag {
			w.tell("traffic", "the balancer's metrics have nothing of the last %s: its answers are not counted, the proxies' logs are", now.Sub(w.since).Round(time.Second))
		}
		return nil
	case t.Requests < leastRequests || t.ErrorRate() <= w.base.Errors+w.d.Limits.Errors:
		w.bad = time.Time{}
		return nil
	case w.bad.IsZero():
		w.bad = newest
		return nil
	case !newest.After(w.bad):
		return nil
	}
	return fmt.Errorf("the balancer answered %d of %d requests with a 5xx since %s", t.Errors, t.Requests, w.since.UTC().Format("15:04:05Z"))
}

func (w *frontWatch) tell(what, format string, args ...any) {
	if !w.told[what] {
		w.told[what] = true
		w.say(format, args...)
	}
}
