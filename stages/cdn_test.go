package stages

import (
	"context"
	"encoding/json"
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
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// shop is a bucket in a directory that a server answers from.
type shop struct {
	store.Dir
	mu   sync.Mutex
	cors string
	// puts are the keys in the order of their coming, once each.
	puts  []string
	fails error
}

func (s *shop) PutServed(ctx context.Context, key string, r io.Reader, _ store.Served) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	s.puts = append(s.puts, key)
	return s.Put(ctx, key, r)
}

func (s *shop) List(ctx context.Context, prefix string) ([]store.Item, error) {
	if s.fails != nil {
		return nil, s.fails
	}
	return s.Dir.List(ctx, prefix)
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := os.ReadFile(filepath.Join(s.Path, r.URL.Path))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", s.cors)
	w.Header().Set("Content-Type", map[string]string{".js": "text/javascript", ".css": "text/css"}[filepath.Ext(r.URL.Path)])
	if _, err := w.Write(b); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// newShop is a fleet with two releases on the builder, the older on the nodes, and an
// empty bucket.
func newShop(t *testing.T) (*shelves, cdn, *shop) {
	t.Helper()
	s := newShelves(t)
	for i, n := range s.place.d.Fleet {
		shell, ok := n.Agent.Shell.(hoststest.NodeShell)
		if !ok {
			t.Fatalf("%s is reached by %T", n.Name, n.Agent.Shell)
		}
		shell.Verbs = append(shell.Verbs, s.listing(n.Name))
		s.place.d.Fleet[i].Agent.Shell = shell
	}
	// Both releases anew, with assets.
	before := s.build("v4.5.14", map[string]string{"public/packs/app-11111111.js": "old", "public/packs/sw.js": "worker", "public/packs/.vite/manifest.json": "{}", "public/assets/logo-22222222.svg": "logo"})
	if err := s.place.deliverAs("v4.5.14", s, before); err != nil {
		t.Fatal(err)
	}
	s.pack = s.build("v4.5.15", map[string]string{"public/packs/app-33333333.js": "new!", "public/packs/app-44444444.css": "style", "public/packs/sw.js": "worker2", "public/assets/logo-22222222.svg": "logo"})
	s.place.f.Digest = s.pack.Digest
	b := &shop{Dir: store.Dir{Path: t.TempDir()}, cors: "*"}
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	s.place.d.CDN = &store.CDN{Bucket: b, Host: srv.URL, Origin: "https://lab.example", Every: time.Millisecond, Tries: 2}
	return s, cdn{s.place.d, s.place.f}, b
}

// listing is the verb packs.list in the home of its host, and the verb pack likewise:
// what a test's host answers with is a path of its own.
func (s *shelves) listing(host string) node.Verb {
	for _, v := range mastodon.Verbs() {
		if v.Name != "packs.list" {
			continue
		}
		return node.Verb{Name: v.Name, Run: func(ctx context.Context, raw json.RawMessage, payload io.Reader, say func(string)) (any, error) {
			var in mastodon.ListPacksIn
			if err := json.Unmarshal(raw, &in); err != nil {
				return nil, err
			}
			in.Layout = mastodon.Layout{Home: s.homes[host]}.Filled()
			b, err := json.Marshal(in)
			if err != nil {
				return nil, err
			}
			return v.Run(ctx, b, payload, say)
		}}
	}
	s.t.Fatal("there is no verb packs.list")
	return node.Verb{}
}

func TestAssetsOfBothReleasesLieInTheBucketBeforeAnyPageNamesThem(t *testing.T) {
	s, c, b := newShop(t)
	if err := c.Check(t.Context(), s.say); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), s.say); err != nil {
		t.Fatal(err)
	}
	slices.Sort(b.puts)
	if want := []string{"assets/logo-22222222.svg", "packs/app-11111111.js", "packs/app-33333333.js", "packs/app-44444444.css"}; !slices.Equal(b.puts, want) {
		t.Errorf("copied %q, want %q once each", b.puts, want)
	}
	b.puts = nil
	if err := c.Run(t.Context(), s.say); err != nil || len(b.puts) > 0 {
		t.Errorf("again: %v, copied %q", err, b.puts)
	}
	if !strings.Contains(strings.Join(s.said, "\n"), "answers all 4 hashed files of both releases, for pages of https://lab.example") {
		t.Errorf("said:\n%s", strings.Join(s.said, "\n"))
	}
}

func TestABucketThatDoesNotServePagesStopsTheUpgrade(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*shelves, *shop)
		want  []string
	}{
		"no rule for other origins": {func(_ *shelves, b *shop) { b.cors = "" }, []string{"does not serve 4 of 4", "Access-Control-Allow-Origin"}},
		"a full bucket":             {func(_ *shelves, b *shop) { b.fails = errors.New("quota exceeded") }, []string{"quota exceeded"}},
		"another file of that name": {func(s *shelves, b *shop) {
			if err := b.Put(s.t.Context(), "packs/app-33333333.js", strings.NewReader("another")); err != nil {
				s.t.Fatal(err)
			}
		}, []string{"packs/app-33333333.js of 7 bytes"}},
		"a release that is not there": {func(s *shelves, _ *shop) {
			if err := os.RemoveAll(s.pack.Root); err != nil {
				s.t.Fatal(err)
			}
		}, []string{"cannot list the assets of v4.5.15"}},
		"a harmed file on the builder": {func(s *shelves, _ *shop) {
			if err := os.WriteFile(filepath.Join(s.pack.Root, "public/packs/app-33333333.js"), []byte("evil"), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, []string{"other content than the manifest says"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, c, b := newShop(t)
			test.spoil(s, b)
			failsWith(t, c.Run(t.Context(), s.say), test.want...)
		})
	}
}

func TestAReleaseThatWasBuiltAnewMeanwhileIsNotCopied(t *testing.T) {
	s, c, b := newShop(t)
	s.build("v4.5.15", map[string]string{"public/packs/app-55555555.js": "another build's"})
	failsWith(t, c.Run(t.Context(), s.say), "is not the release that this run built", "built "+s.pack.Digest[:12])
	if slices.ContainsFunc(b.puts, func(key string) bool { return strings.Contains(key, "55555555") || strings.Contains(key, "33333333") }) {
		t.Errorf("copied %q", b.puts)
	}
}

func TestAReleaseThatAnotherHandPlacedIsSaidAndTheNewOneCopied(t *testing.T) {
	s, c, b := newShop(t)
	for _, home := range s.homes {
		if err := os.RemoveAll(filepath.Join(home, "releases/v4.5.14/.refit")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Run(t.Context(), s.say); err != nil || len(b.puts) != 3 {
		t.Errorf("%v, copied %q", err, b.puts)
	}
	if !strings.Contains(strings.Join(s.said, "\n"), "v4.5.14 has no manifest") {
		t.Errorf("said:\n%s", strings.Join(s.said, "\n"))
	}
}

func TestTheBucketIsInTheTableOnlyWhereThereIsOne(t *testing.T) {
	d, f := someDeps(), someFacts(t)
	has := func() bool {
		return slices.ContainsFunc(Upgrade("u-1", d, f).Steps, func(s pipeline.Step) bool { return s.Name() == (cdn{}).Name() })
	}
	if has() {
		t.Error("a step for no bucket")
	}
	d.CDN = &store.CDN{Host: "https://assets.example"}
	if !has() || !Prepares((cdn{}).Name()) {
		t.Error("no step for the bucket, or one that changes what serves")
	}
}

func TestACDNHostThatOnlyOneSideNamesIsSaid(t *testing.T) {
	l := goodLook(t)
	if said := cdnSaid(l.d, l.v); len(said) > 0 {
		t.Errorf("said %q", said)
	}
	for _, name := range []string{"kirk", "spock"} {
		l.host(name, func(f *node.Facts) {
			if f.Env == nil {
				f.Env = map[string]string{}
			}
			f.Env["CDN_HOST"] = "hash"
		})
	}
	if said := cdnSaid(l.d, l.v); len(said) != 1 || !strings.HasPrefix(said[0], "kirk, spock: .env.production names a CDN_HOST") {
		t.Errorf("said %q", said)
	}
	l.d.CDN = &store.CDN{Host: "https://assets.example"}
	if said := cdnSaid(l.d, l.v); len(said) > 0 {
		t.Errorf("said %q", said)
	}
	l.host("kirk", func(f *node.Facts) { delete(f.Env, "CDN_HOST") })
	if said := cdnSaid(l.d, l.v); len(said) != 1 || !strings.HasPrefix(said[0], "kirk: .env.production names no CDN_HOST") {
		t.Errorf("said %q", said)
	}
}
