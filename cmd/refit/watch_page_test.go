package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/webpage"
)

func TestThePageIsServedToThisMachineAloneUnlessThatIsSaid(t *testing.T) {
	for at, want := range map[string]string{
		"127.0.0.1:9465": "", "[::1]:9465": "", "localhost:9465": "", "127.8.8.8:80": "",
		"0.0.0.0:9465": "--expose", ":9465": "--expose", "10.10.0.5:9465": "--expose", "[::]:9465": "--expose", "bridge.vmst.io:9465": "--expose",
		"127.0.0.1": "no address", "127.0.0.1:0": "no address", "127.0.0.1:http": "no address",
	} {
		err := listenable(at, false, "--expose")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", at, err)
		}
		if err := listenable(at, true, "--expose"); (err == nil) != (want != "no address") {
			t.Errorf("%s, said so: %v", at, err)
		}
	}
}

func TestTheFlagTakesThePlaceOfTheFileAndSpeaksForItself(t *testing.T) {
	c := config{Watch: watchConfig{Listen: "10.0.0.1:9465", Expose: true}}
	for name, test := range map[string]struct {
		call     watchCall
		at, want string
	}{
		"by the file":                {watchCall{}, "10.0.0.1:9465", ""},
		"by the flag":                {watchCall{listen: "127.0.0.1:1"}, "127.0.0.1:1", ""},
		"for all, by the file alone": {watchCall{listen: "10.0.0.1:1"}, "", "--expose"},
		"for all":                    {watchCall{listen: "10.0.0.1:1", expose: true}, "10.0.0.1:1", ""},
		"of nothing":                 {watchCall{expose: true}, "", "speaks of --listen"},
		"for one look":               {watchCall{listen: "127.0.0.1:1", once: true}, "", "serves nothing"},
	} {
		at, err := test.call.address(c)
		if at != test.at || (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || exitCode(err) != exitUsage) {
			t.Errorf("%s: %q, %v", name, at, err)
		}
	}
}

// pageOf is the page as it is served.
func pageOf(t *testing.T, p *webpage.Page) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// keep saves the journal of a run that ended so, under the lease that x has.
func (x *session) keepRun(t *testing.T, id string, change func(*pipeline.Journal)) {
	t.Helper()
	p := pipeline.Plan{ID: id, Kind: "upgrade", From: "v4.5.1", To: "v4.5.2", Steps: []pipeline.Step{{Stage: timed{"build"}, Why: "from source"}, {Stage: timed{"roll web kirk"}, Host: "kirk"}}}
	began := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	j := pipeline.NewJournal(p, x.keeper, x.keeper.Epoch(), began)
	j.TakenUp(x.hand(execution{why: "upgrade --to v4.5.2"}))
	j.Marks["build"] = pipeline.Mark{State: pipeline.Finish, Started: began, Ended: began.Add(90 * time.Second)}
	j.Outcome = pipeline.Done
	if change != nil {
		change(j)
	}
	b, err := json.Marshal(j)
	if err == nil {
		err = x.keeper.Save(t.Context(), id, j.Epoch, j.Seq+1, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// leased is a session that has the lease of a made-up fleet.
func (m crowd) leased(t *testing.T) *session {
	t.Helper()
	x := m.session(t)
	x.keeper.Above = nil // these hosts have no fences
	x.keeper.Run = "20260102-100000-bbbbb"
	if _, _, err := x.keeper.Acquire(t.Context(), "upgrade --to v4.5.3"); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestThePageShowsWhatALookOfTheWatcherFound(t *testing.T) {
	m, f := watching(t)
	x := m.leased(t)
	x.keepRun(t, "20260101-100000-aaaaa", nil)
	x.keepRun(t, "20260102-100000-bbbbb", func(j *pipeline.Journal) { j.Outcome = "" })
	p, err := webpage.New(webpage.Options{Fleet: "many"})
	if err != nil {
		t.Fatal(err)
	}
	f.page = p
	if _, err := f.Running(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := pageOf(t, p)
	me := x.keeper.Me.User + " on " + x.keeper.Me.Host
	for _, want := range []string{"50 hosts, all healthy", "host-49", "v4.5.2", "upgrade --to v4.5.3 (20260102-100000-bbbbb)", "at work", "20260101-100000-aaaaa", "1:30 min", me} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	// A look while nobody holds the lease, and then one without the keeper.
	if err := errors.Join(x.keeper.Release(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Running(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := pageOf(t, p); !strings.Contains(text, "No run is at work") || !strings.Contains(text, "broken off") {
		t.Error("the run that nobody works on any more is shown as at work")
	}
	m.Server.Instead = func(string, io.Reader, io.Writer) error { return io.ErrUnexpectedEOF }
	if _, err := f.Running(t.Context()); err == nil {
		t.Fatal("no host answers, and a release is known")
	}
	if text := pageOf(t, p); !strings.Contains(text, "host-0 is unreachable: bring it back") || !strings.Contains(text, "20260101-100000-aaaaa") || !strings.Contains(text, "50 of them not healthy") {
		t.Error("a keeper that does not answer is not said, or takes the history with it")
	}
}

func TestAJournalIsReadAnewOnlyOnceItWasSavedAnew(t *testing.T) {
	shelf := &countedShelf{Dir: keeper.Dir{Path: t.TempDir()}}
	for _, id := range []string{"20260101-000000-aaaaa", "20260102-000000-bbbbb"} {
		j := halfDone()
		j.ID = id
		mirror(t, shelf.Path, j)
	}
	var p pasts
	for range 3 {
		list, err := p.read(t.Context(), shelf)
		if err != nil || len(list) != 2 || list[0].Run != "20260102-000000-bbbbb" {
			t.Fatalf("%v, %v", list, err)
		}
	}
	j := halfDone()
	j.ID, j.Seq, j.Outcome = "20260101-000000-aaaaa", j.Seq+1, pipeline.Undone
	mirror(t, shelf.Path, j)
	list, err := p.read(t.Context(), shelf)
	if err != nil || list[1].Outcome != pipeline.Undone || shelf.loads != 3 {
		t.Errorf("%v, %v after %d loads", list, err, shelf.loads)
	}
}

// countedShelf is a shelf that counts what is loaded.
type countedShelf struct {
	keeper.Dir
	loads int
}

func (c *countedShelf) Load(ctx context.Context, id string) ([]byte, error) {
	c.loads++
	return c.Dir.Load(ctx, id)
}
