package lab

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func testLoad() *Load {
	return &Load{
		opts: withDefaults(LoadOptions{}, "token"), began: time.Now(), tally: map[string]*tally{},
		report: LoadReport{Versions: map[string]int{}, Nodes: map[string]int{}},
	}
}

func TestAnEventIsLostOnlyForAClientConnectedThroughout(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	e := &event{id: "7", began: at(10), ended: at(10.1)}
	for name, c := range map[string]struct {
		since, until float64 // until 0: still open
		got          bool
		lost         int
	}{
		"connected throughout, told":             {0, 0, true, 0},
		"connected throughout, not told":         {0, 0, false, 1},
		"connected until long after, not told":   {0, 30, false, 1},
		"cut while it could still arrive":        {0, 12, false, 0},
		"cut right after it arrived":             {0, 10.2, true, 0},
		"came while the server still subscribes": {9.5, 0, false, 0},
		"came after it":                          {11, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ld, life := testLoad(), &connection{since: at(c.since), got: map[string]bool{"7": c.got}}
			if c.until != 0 {
				life.until = at(c.until)
			}
			ld.socks = []*socket{{lives: []*connection{life}}}
			mine := *e
			ld.judge(&mine, at(60))
			if ld.report.Events.Sent != 1 || ld.report.Events.Lost != c.lost {
				t.Errorf("got %+v, want %d lost", ld.report.Events, c.lost)
			}
			ld.judge(&mine, at(60))
			if ld.report.Events.Sent != 1 {
				t.Error("it was counted twice")
			}
		})
	}
}

func TestAnEventMayTakeAsLongAsTheLoadSays(t *testing.T) {
	ld := testLoad()
	ld.opts.Arrive = 30 * time.Second
	ended := time.Now().Add(-20 * time.Second)
	ld.socks = []*socket{{lives: []*connection{{since: ended.Add(-time.Minute), got: map[string]bool{}}}}}
	ld.judge(&event{id: "7", began: ended, ended: ended}, time.Now())
	if ld.report.Events.Sent != 0 {
		t.Errorf("judged after 20 s: %+v", ld.report.Events)
	}
}

func TestEachKindOfRequestGoesRoundAllAccounts(t *testing.T) {
	ld := testLoad()
	ld.opts.Tokens = []string{"a", "b", "c", "d"}
	seen := map[string]map[string]int{}
	for n := range 400 {
		kind, _ := ld.pick(n)
		if seen[kind] == nil {
			seen[kind] = map[string]int{}
		}
		seen[kind][ld.token(n)]++
	}
	for kind, by := range seen {
		for _, token := range ld.opts.Tokens {
			if all := by["a"] + by["b"] + by["c"] + by["d"]; by[token]*4 != all {
				t.Errorf("%s: %v", kind, by)
			}
		}
	}
}

func TestAnEventTooYoungAtTheEndIsNotCounted(t *testing.T) {
	ld := testLoad()
	now := time.Now()
	ld.judge(&event{id: "7", began: now, ended: now}, now.Add(time.Second))
	if ld.report.Events.Sent != 0 {
		t.Errorf("got %+v", ld.report.Events)
	}
}

func TestEveryKindHasItsShareOnceAssetsAreKnown(t *testing.T) {
	ld := testLoad()
	if err := ld.page("/", []byte(`<script src="/packs/a-1.js"></script><link href="/packs/b-2.css"><script id="initial-state">{"meta":{"version":"4.5.0"}}</script></html>`)); err != nil {
		t.Fatal(err)
	}
	seen, paths := map[string]int{}, map[string]bool{}
	for n := range 100 {
		kind, path := ld.pick(n)
		seen[kind]++
		paths[path] = true
	}
	if seen["page"] != 30 || seen["api"] != 30 || seen["asset"] != 20 || seen["post"] != 10 || seen["slow"] != 10 {
		t.Errorf("got %v", seen)
	}
	for _, p := range append([]string{"/packs/a-1.js", "/packs/b-2.css", "/api/v1/statuses"}, ld.opts.Pages...) {
		if !paths[p] {
			t.Errorf("%s is never asked for", p)
		}
	}
	if ld.report.Versions["4.5.0"] != 1 {
		t.Errorf("got versions %v", ld.report.Versions)
	}
}

func TestAnErrorPageWithStatus200IsAFailure(t *testing.T) {
	if err := testLoad().page("/", []byte("<html>Something went wrong</html>")); err == nil {
		t.Error("it passed")
	}
	if err := testLoad().posted([]byte(`{"error":"no"}`), time.Now()); err == nil {
		t.Error("it passed")
	}
}

func TestTheReportCountsAllFailuresAndShowsTheFirstOfEachSort(t *testing.T) {
	ld := testLoad()
	for i := range 50 {
		ld.count("page", 10*time.Millisecond, "10.77.0.21:3000", nil)
		ld.count("api", 0, "", errors.New("connection refused"))
		if i < 2 {
			ld.count("post", 0, "", errors.New("500"))
		}
	}
	r := ld.Report()
	if r.Requests.Sent != 102 || r.Requests.Failed != 52 || r.Requests.Kinds["api"].Failed != 50 || len(r.Failures) != 5 {
		t.Errorf("got %+v", r)
	}
	if k := r.Requests.Kinds["page"]; k.P50 != 10 || k.Max != 10 || r.Nodes["10.77.0.21:3000"] != 50 {
		t.Errorf("got %+v, nodes %v", k, r.Nodes)
	}
	if s := r.String(); !strings.Contains(s, "102 sent, 52 failed") || !strings.Contains(s, "connection refused") {
		t.Errorf("got %s", s)
	}
}
