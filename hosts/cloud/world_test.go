package cloud_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/cloud"
)

// canary is the token of the stories: no error and no word may hold it.
const canary = "dop_v1_c0ffee0123456789canary"

type obj = map[string]any

// trouble spoils requests.
type trouble struct {
	at     string // "POST /v2/droplets": method and the path's beginning
	skip   int    // requests that are let through first
	times  int    // 0 is once, -1 for ever
	status int
	header http.Header
	body   string
	before bool  // the connection breaks before anything is done
	after  bool  // it is done, and the connection breaks
	hang   bool  // no answer ever
	err    error // what the transport says
}

// world is an account that lives in the test's own process.
type world struct {
	*testing.T
	mu       sync.Mutex
	troubles []*trouble
	next     int
	droplets map[int]obj
	actions  map[int][]obj // by droplet
	images   map[int]obj
	tags     []string
	dbs      map[string]obj
	walls    map[string]obj
	lbs      []obj
	metrics  map[string]string

	pace    time.Duration // how long an action takes
	late    time.Duration // how long after its action an image shows
	fail    bool          // actions end as errored
	stuck   bool          // new droplets stay new
	lame    time.Duration // how long after a power action the status changes; -1 never
	perPage int           // the most that a page has
	asked   []string      // "METHOD path"
	sure    map[string]int
	said    []string
}

// play tells a story in a bubble of testing/synctest. It fails when a write was sent again
// without the API having said that it was not done.
func play(t *testing.T, tell func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, next: 100, droplets: map[int]obj{}, actions: map[int][]obj{}, images: map[int]obj{}, metrics: map[string]string{},
			dbs: map[string]obj{}, walls: map[string]obj{}, pace: 5 * time.Minute, perPage: 200, sure: map[string]int{},
		}
		w.droplets[1] = droplet(1, "kirk", "active")
		tell(w)
		w.once()
	})
}

// once fails the story if any write was sent twice, and lets the next call count anew.
func (w *world) once() {
	w.Helper()
	for what, n := range w.sure {
		if n > 1 {
			w.Errorf("sent %d times: %s", n, what)
		}
	}
	w.sure = map[string]int{}
}

func droplet(id int, name, status string) obj {
	return obj{
		"id": id, "name": name, "status": status, "locked": false, "disk": 80, "size_slug": "s-2vcpu-4gb", "vpc_uuid": uuid(9),
		"region": obj{"slug": "tor1"}, "image": obj{"id": 7}, "size": obj{"slug": "s-2vcpu-4gb", "price_monthly": 24.0},
		"created_at": "1999-06-01T00:00:00Z", "tags": []string{}, "snapshot_ids": []int{},
		"networks": obj{"v4": []obj{{"type": "public", "ip_address": "192.0.2.1"}, {"type": "private", "ip_address": "10.0.0.1"}}},
	}
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func (w *world) client(change ...func(*cloud.Options)) *cloud.Client {
	w.Helper()
	o := cloud.Options{
		Token: canary, API: "https://api.example/", UserAgent: "refit/test", Transport: w,
		Say: func(f string, a ...any) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.said = append(w.said, fmt.Sprintf(f, a...))
		},
	}
	for _, c := range change {
		c(&o)
	}
	c, err := cloud.New(o)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// fails asserts an error, of a kind if that is not nil, that shows no token.
func (w *world) fails(err, kind error, words ...string) {
	w.Helper()
	if err == nil || (kind != nil && !errors.Is(err, kind)) {
		w.Fatalf("got %v, not %v", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Errorf("%q lacks %q", err.Error(), word)
		}
	}
	if strings.Contains(err.Error(), canary) {
		w.Errorf("the token is in the error: %v", err)
	}
}

// clean asserts an error that is short and shows no token, nor any error below it.
func (w *world) clean(err error) {
	w.Helper()
	w.fails(err, nil)
	if len(err.Error()) > 1500 {
		w.Errorf("%d bytes: %v", len(err.Error()), err)
	}
	switch e := err.(type) { //nolint:errorlint // it goes down by itself
	case interface{ Unwrap() error }:
		if below := e.Unwrap(); below != nil {
			w.clean(below)
		}
	case interface{ Unwrap() []error }:
		for _, below := range e.Unwrap() {
			w.clean(below)
		}
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// count tells how many requests began so.
func (w *world) count(begin string) int {
	n := 0
	for _, a := range w.asked {
		if strings.HasPrefix(a, begin) {
			n++
		}
	}
	return n
}

func (w *world) want(begin string, n int) {
	w.Helper()
	if got := w.count(begin); got != n {
		w.Errorf("%s was sent %d times, not %d", begin, got, n)
	}
}

var errCut = errors.New("unexpected EOF of the test")

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "Bearer "+canary || req.URL.Host != "api.example" || !strings.HasPrefix(req.Header.Get("User-Agent"), "refit/test ") {
		w.Errorf("%s %s: %v", req.Method, req.URL, req.Header)
	}
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	line := req.Method + " " + req.URL.RequestURI()
	w.mu.Lock()
	w.asked = append(w.asked, line)
	var now trouble
	for _, t := range w.troubles {
		if !strings.HasPrefix(line, t.at) {
			continue
		}
		if t.skip > 0 {
			t.skip--
			continue
		}
		if t.times != -1 {
			if t.times < 0 {
				continue
			}
			if t.times--; t.times <= 0 {
				t.times = -2
			}
		}
		now = *t
		break
	}
	w.mu.Unlock()
	resp := httptest.NewRecorder()
	resp.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if now.status == 0 && !now.before && !now.hang && now.err == nil {
		w.mu.Lock()
		w.answer(resp, req, body)
		w.mu.Unlock()
	} else if now.status != 0 {
		resp.Header().Set("Content-Type", "application/json; charset=utf-8")
		maps.Copy(resp.Header(), now.header)
		resp.WriteHeader(now.status)
		resp.WriteString(now.body)
	}
	// What the API did not refuse counts as a sending.
	if sure := req.Method != http.MethodGet && now.err == nil && (resp.Code < 400 || resp.Code >= 500 || now.before || now.hang); sure {
		w.mu.Lock()
		w.sure[line+" "+string(body)]++
		w.mu.Unlock()
	}
	switch {
	case now.err != nil:
		return nil, now.err
	case now.hang:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case now.before || now.after:
		return nil, errCut
	}
	return resp.Result(), nil // without its request, as a careless transport has it
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if v != nil {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			panic(err)
		}
	}
}

func refuse(w http.ResponseWriter, status int, id, message string) {
	write(w, status, obj{"id": id, "message": message})
}

func gone(w http.ResponseWriter) {
	refuse(w, 404, "not_found", "The resource you were accessing could not be found.")
}

// settle makes happen what is due.
func (w *world) settle() {
	for id, list := range w.actions {
		open := false
		for _, a := range list {
			due := a["due"].(time.Time)
			if a["status"] == "in-progress" && !time.Now().Before(due) {
				a["status"], a["completed_at"] = "completed", due.UTC().Format(time.RFC3339)
				if w.fail {
					a["status"] = "errored"
				}
			}
			open = open || a["status"] == "in-progress"
			if then, ok := a["then"].(func()); ok && a["status"] == "completed" && !time.Now().Before(due.Add(a["late"].(time.Duration))) {
				delete(a, "then")
				then()
			}
		}
		if d, ok := w.droplets[id]; ok {
			d["locked"] = open
		}
	}
}

// begin opens an action.
func (w *world) begin(droplet int, kind string, late time.Duration, then func()) obj {
	w.next++
	a := obj{
		"id": w.next, "type": kind, "status": "in-progress", "started_at": time.Now().UTC().Format(time.RFC3339),
		"due": time.Now().Add(w.pace), "late": late, "then": then, "resource_type": "droplet",
	}
	w.actions[droplet] = append(w.actions[droplet], a)
	return a
}

func shown(a obj) obj {
	out := maps.Clone(a)
	for _, k := range []string{"due", "late", "then"} {
		delete(out, k)
	}
	return out
}

// list answers a page.
func list[T any](w *world, resp http.ResponseWriter, req *http.Request, name string, all []T) {
	page, _ := strconv.Atoi(req.URL.Query().Get("page"))
	per, _ := strconv.Atoi(req.URL.Query().Get("per_page"))
	page, per = max(page, 1), min(max(per, 1), w.perPage)
	from := min((page-1)*per, len(all))
	to := min(from+per, len(all))
	pages := obj{}
	at := func(n int) string {
		return fmt.Sprintf("https://api.example%s?page=%d&per_page=%d", req.URL.Path, n, per)
	}
	if to < len(all) {
		pages["next"], pages["last"] = at(page+1), at((len(all)+per-1)/per)
	}
	if page > 1 {
		pages["prev"], pages["first"] = at(page-1), at(1)
	}
	write(resp, 200, obj{name: append([]T{}, all[from:to]...), "links": obj{"pages": pages}, "meta": obj{"total": len(all)}})
}

func sorted[T any](m map[int]T) []T {
	var out []T
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func decode(body []byte) obj {
	var v obj
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		panic(err)
	}
	return v
}
