package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/pipeline/report"
)

// The names under which things are remembered.
const (
	stateID  = "watch"
	followID = "follow-"
)

// state is what the watcher must not forget beside what each Upstream remembers.
type state struct {
	// Seq counts the saves, so that two watchers that share a folder notice.
	Seq int64 `json:"seq"`
	// Ran is what the fleet ran when it last answered.
	Ran builds.Version `json:"ran,omitzero"`
	// Run is the run that is at work, or was when the process ended.
	Run *run `json:"run,omitempty"`
	// Open are the releases that people were told of, by version, until they have been
	// settled for a while.
	Open map[string]open `json:"open"`
	// Failed are runs that this watcher began and that failed, by release; Unbegun those
	// that touched nothing, and are tried again.
	Failed  map[string]failure `json:"failed"`
	Unbegun map[string]failure `json:"unbegun,omitempty"`
	// Failing are sources that have not answered since then.
	Failing map[string]time.Time `json:"failing"`

	saved string // what was saved last, without the count
}

// run is one that was begun by itself.
type run struct {
	ID      string    `json:"id"`
	Version string    `json:"version"`
	Began   time.Time `json:"began"`
	// Trouble is why it could not be resumed at the last look, Since when the first of
	// those looks was; Refused: it is known to stand half way, and going on was refused.
	Trouble string    `json:"trouble,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Refused bool      `json:"refused,omitempty"`
}

// failure is how such a run ended.
type failure struct {
	Run  string    `json:"run"`
	At   time.Time `json:"at"`
	Text string    `json:"text"`
	// Times counts runs that touched nothing, one after the other.
	Times int `json:"times,omitempty"`
}

// again is when a run that touched nothing may be tried again by itself: at the next look,
// then after half an hour, an hour and so on, up to six: each may be a message to people.
func (f failure) again() time.Time {
	if f.Times < 2 {
		return f.At
	}
	return f.At.Add(min(15*time.Minute<<min(f.Times-1, 8), 6*time.Hour))
}

// open is a release that people were told of.
type open struct {
	// Told is what they were told last, which is told again while nothing new is known.
	Told report.Release `json:"told"`
	// Hash of the plan that an approval was asked for, empty for none.
	Hash string `json:"hash,omitempty"`
	// Settled is what became of it, At when that was seen.
	Settled string    `json:"settled,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

func loadState(ctx context.Context, store Store) (state, error) {
	s := state{Open: map[string]open{}, Failed: map[string]failure{}, Unbegun: map[string]failure{}, Failing: map[string]time.Time{}}
	b, err := store.Load(ctx, stateID)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("cannot read what the watcher remembers: %w\nmove that file away to begin anew: then runs that it had begun are not resumed by it, and those that failed may begin again", err)
	}
	s.saved, err = s.bare()
	return s, err
}

// save keeps the state, and what each Upstream remembers, where anything changed. The
// state goes first, so that its count is never behind that of another file.
func (w *Watcher) save(ctx context.Context) error {
	ups := []Upstream{w.o.Upstream}
	for _, f := range w.o.Flings {
		ups = append(ups, f.Upstream)
	}
	for _, u := range ups {
		if m, changed := u.Memory(); changed {
			w.unsaved[memoryName(u.Repo().Owner, u.Repo().Name)] = m
		}
	}
	is, err := w.state.bare()
	if err != nil {
		return err
	}
	if is == w.state.saved && len(w.unsaved) == 0 {
		return nil
	}
	w.state.Seq++
	if err := w.keep(ctx, stateID, w.state); err != nil {
		return err
	}
	w.state.saved = is
	for id, m := range w.unsaved {
		if err := w.keep(ctx, id, m); err != nil {
			return err
		}
		delete(w.unsaved, id)
	}
	return nil
}

// bare is the state without its count.
func (s state) bare() (string, error) {
	s.Seq = 0
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("cannot write what the watcher remembers: %w", err)
	}
	return string(b), nil
}

func (w *Watcher) keep(ctx context.Context, id string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = w.o.Store.Save(ctx, id, 0, w.state.Seq, b)
	}
	if err != nil {
		return fmt.Errorf("cannot remember what was seen (%s): %w", id, err)
	}
	return nil
}

// memoryName names what is remembered of a repository.
func memoryName(owner, name string) string { return followID + strings.ToLower(owner+"-"+name) }

// LoadMemory is what was remembered of a repository, to make its Follower from.
func LoadMemory(ctx context.Context, store Store, owner, name string) (upstream.Memory, error) {
	var m upstream.Memory
	b, err := store.Load(ctx, memoryName(owner, name))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("cannot read what is remembered of %s/%s: %w\nmove that file away to begin anew: then its tags are pinned to what they are then", owner, name, err)
	}
	return m, nil
}

// settledFor is how long a release that was settled is still shown as such.
const settledFor = 7 * 24 * time.Hour

// settle notes what became of releases that are no candidates any more, and forgets those
// that were settled long ago.
func (w *Watcher) settle(s Sight) {
	for name, o := range w.state.Open {
		if o.Settled == "" {
			if o.Settled = s.became(name); o.Settled != "" {
				o.At, o.Hash = s.At, ""
				o.Told.Settled, o.Told.Running = o.Settled, s.Running.String()
				o.Told.Question, o.Told.Decision, o.Told.Reason = "", "", "" // what was meant is history
				w.state.Open[name] = o
			}
		}
		if o.Settled != "" && s.At.Sub(o.At) > settledFor {
			delete(w.state.Open, name)
		}
	}
	over := func(name string, _ failure) bool { return s.became(name) != "" && !slices.Contains(s.Gone, name) }
	maps.DeleteFunc(w.state.Failed, over)
	maps.DeleteFunc(w.state.Unbegun, over)
}

// Unpin forgets what a tag stood for, so that the next look pins it anew: a person has
// found out why it moved. A watcher at work notices that its memory was changed, ends,
// and goes on from it when it is started again.
func Unpin(ctx context.Context, store Store, owner, name, tag string) error {
	s, err := loadState(ctx, store)
	if err != nil {
		return err
	}
	m, err := LoadMemory(ctx, store, owner, name)
	if err != nil {
		return err
	}
	if !m.Unpin(tag) {
		return fmt.Errorf("%s of %s/%s is not pinned", tag, owner, name)
	}
	w := Watcher{o: Options{Store: store}, state: s}
	w.state.Seq++
	if err := w.keep(ctx, stateID, w.state); err != nil {
		return err
	}
	return w.keep(ctx, memoryName(owner, name), m)
}
