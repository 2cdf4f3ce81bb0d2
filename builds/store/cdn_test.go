package store_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

const site = "https://social.example"

// website is a bucket in a directory that serves what is put into it, as a CDN would.
type website struct {
	store.Dir
	*httptest.Server

	mu    sync.Mutex
	as    map[string]store.Served
	asked []string
	// answer stands in for the CDN's, if it says that it did.
	answer func(http.ResponseWriter, *http.Request) bool
	fails  error
}

func (w *website) String() string { return "the bucket" }

func (w *website) PutServed(ctx context.Context, key string, r io.Reader, as store.Served) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails != nil {
		return w.fails
	}
	w.as[key] = as
	return w.Put(ctx, key, r)
}

func (w *website) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, r.Method+" "+r.URL.Path)
	if w.answer != nil && w.answer(out, r) {
		return
	}
	key := strings.TrimPrefix(r.URL.Path, "/")
	b, err := os.ReadFile(filepath.Join(w.Path, key))
	if err != nil {
		http.Error(out, "no such key", http.StatusForbidden)
		return
	}
	out.Header().Set("Content-Type", w.as[key].Type)
	if r.Header.Get("Origin") == site {
		out.Header().Set("Access-Control-Allow-Origin", "*")
	}
	if _, err := out.Write(b); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func newCDN(t *testing.T) (*store.CDN, *website) {
	t.Helper()
	w := &website{Dir: store.Dir{Path: t.TempDir()}, as: map[string]store.Served{}}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return &store.CDN{Bucket: w, Host: w.URL, Origin: site, ACL: "public-read", Every: time.Millisecond, Tries: 3}, w
}

var assets = []store.Asset{
	{Path: "packs/app-1a2b3c4d.js", Size: 3}, {Path: "packs/app-1a2b3c4d.js.map", Size: 4}, {Path: "packs/a b-5e6f7a8b.css", Size: 5}, {Path: "assets/logo-9c0d1e2f.svg", Size: 6},
}

// copied copies assets with contents of their sizes.
func copied(t *testing.T, c *store.CDN, list []store.Asset) error {
	t.Helper()
	p := c.Copying(t.Context())
	for _, a := range list {
		if err := p.Add(a, []byte(strings.Repeat("x", int(a.Size)))); err != nil {
			break // Wait says why
		}
	}
	return p.Wait()
}

func paths(list []store.Asset) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.Path)
	}
	return out
}

func TestOnlyWhatTheBucketLacksIsCopiedAndThenAllOfItAnswers(t *testing.T) {
	c, w := newCDN(t)
	lacking, err := c.Lacking(t.Context(), assets)
	if err != nil || !slices.Equal(paths(lacking), paths(assets)) {
		t.Fatalf("an empty bucket lacks %v, %v", lacking, err)
	}
	if err := copied(t, c, assets[:2]); err != nil {
		t.Fatal(err)
	}
	if lacking, err = c.Lacking(t.Context(), assets); err != nil || !slices.Equal(paths(lacking), paths(assets[2:])) {
		t.Fatalf("it lacks %v, %v", lacking, err)
	}
	if faults, err := c.Answered(t.Context(), assets); err != nil || len(faults) != 2 || !strings.Contains(faults[0].Why, "403") {
		t.Errorf("before the rest came: %v, %v", faults, err)
	}
	if err := copied(t, c, lacking); err != nil {
		t.Fatal(err)
	}
	if faults, err := c.Answered(t.Context(), assets); err != nil || len(faults) > 0 {
		t.Errorf("not answered: %v, %v", faults, err)
	}
	for key, want := range map[string]string{
		"packs/app-1a2b3c4d.js": "text/javascript; charset=utf-8", "packs/app-1a2b3c4d.js.map": "application/json",
		"packs/a b-5e6f7a8b.css": "text/css; charset=utf-8", "assets/logo-9c0d1e2f.svg": "image/svg+xml",
	} {
		if got := w.as[key]; got.Type != want || got.ACL != "public-read" {
			t.Errorf("%s was put as %+v", key, got)
		}
	}
}

func TestAFileOfTheSameNameAndAnotherSizeStopsAllButForMaps(t *testing.T) {
	c, w := newCDN(t)
	put(t, w, "packs/app-1a2b3c4d.js.map", "another map")
	if lacking, err := c.Lacking(t.Context(), assets); err != nil || len(lacking) != 3 {
		t.Errorf("lacks %v, %v", lacking, err)
	}
	put(t, w, "packs/app-1a2b3c4d.js", "another script")
	if _, err := c.Lacking(t.Context(), assets); err == nil || !strings.Contains(err.Error(), "packs/app-1a2b3c4d.js of 14 bytes") {
		t.Errorf("got %v", err)
	}
	if got, err := get(t, w, "packs/app-1a2b3c4d.js", 0); err != nil || string(got) != "another script" {
		t.Errorf("it is now %q, %v", got, err)
	}
}

func TestACopyThatFailsEndsTheCopying(t *testing.T) {
	c, w := newCDN(t)
	w.fails = errors.New("the bucket is full")
	if err := copied(t, c, assets); !errors.Is(err, w.fails) {
		t.Errorf("got %v", err)
	}
}

func TestWhatAPageCouldNotLoadIsNoAnswer(t *testing.T) {
	for want, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no Access-Control-Allow-Origin for " + site: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/javascript")
			return true
		},
		`"https://other.example"`: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Access-Control-Allow-Origin", "https://other.example")
			return true
		},
		"which browsers do not take": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Access-Control-Allow-Origin", site)
			w.Header().Set("Content-Type", "text/plain")
			return true
		},
		"206": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusPartialContent)
			return true
		},
		"404": func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		},
	} {
		c, w := newCDN(t)
		if err := copied(t, c, assets[:1]); err != nil {
			t.Fatal(err)
		}
		w.answer = answer
		faults, err := c.Answered(t.Context(), assets[:1])
		if err != nil || len(faults) != 1 || faults[0].Path != assets[0].Path || !strings.Contains(faults[0].Why, want) {
			t.Errorf("want %q: %v, %v", want, faults, err)
		}
	}
}

func TestACDNWhoseRuleForOtherOriginsIsForGetAloneServesPages(t *testing.T) {
	c, w := newCDN(t)
	if err := copied(t, c, assets); err != nil {
		t.Fatal(err)
	}
	w.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			r.Header.Del("Origin")
		}
		return false
	}
	if faults, err := c.Answered(t.Context(), assets); err != nil || len(faults) > 0 {
		t.Errorf("not answered: %v, %v", faults, err)
	}
}

func TestAFileThatAnswersALittleLaterIsWaitedForAndTheOthersAreNotAskedAgain(t *testing.T) {
	c, w := newCDN(t)
	if err := copied(t, c, assets); err != nil {
		t.Fatal(err)
	}
	late := 2
	w.answer = func(out http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/"+assets[3].Path && r.Method == http.MethodGet {
			late--
		}
		if r.URL.Path == "/"+assets[3].Path && late >= 0 {
			http.Error(out, "not yet", http.StatusNotFound)
			return true
		}
		return false
	}
	if faults, err := c.Answered(t.Context(), assets); err != nil || len(faults) > 0 {
		t.Errorf("not answered: %v, %v", faults, err)
	}
	n := 0
	for _, line := range w.asked {
		if strings.HasSuffix(line, assets[0].Path) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("a file that had answered was asked for %d times", n)
	}
}

func TestAskingEndsWithTheCall(t *testing.T) {
	c, w := newCDN(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.answer = func(out http.ResponseWriter, r *http.Request) bool {
		cancel()
		http.NotFound(out, r)
		return true
	}
	if faults, err := c.Answered(ctx, assets); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", faults, err)
	}
}

func TestARealServerKeepsWhatBrowsersAreTold(t *testing.T) {
	server := s3Server(t)
	if server == nil {
		return
	}
	b := server.bucket(t, "site")
	c := &store.CDN{Bucket: b}
	if err := copied(t, c, assets); err != nil {
		t.Fatal(err)
	}
	if lacking, err := c.Lacking(t.Context(), assets); err != nil || len(lacking) > 0 {
		t.Errorf("it lacks %v, %v", lacking, err)
	}
	if got, err := get(t, b, assets[2].Path, 0); err != nil || string(got) != "xxxxx" {
		t.Errorf("%q, %v", got, err)
	}
}
