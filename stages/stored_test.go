package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/node"
)

// factory is a fleet whose builder builds, by a recipe of one file, and whose releases
// may come from a store.
type factory struct {
	*shelves
	build  build
	bucket *ailing
	// built counts the builds that were begun.
	built int
}

// ailing is a bucket that may fail.
type ailing struct {
	store.Bucket
	get, put, list error
	// spoil changes what is read, by the end of the key.
	spoil map[string]func([]byte) []byte
}

func (a *ailing) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if a.get != nil {
		return nil, a.get
	}
	for end, change := range a.spoil {
		if !strings.HasSuffix(key, end) {
			continue
		}
		r, err := a.Bucket.Get(ctx, key, 0)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		b = change(b)
		return io.NopCloser(bytes.NewReader(b[min(int64(len(b)), offset):])), nil
	}
	return a.Bucket.Get(ctx, key, offset)
}

func (a *ailing) Put(ctx context.Context, key string, r io.Reader) error {
	if a.put != nil {
		return a.put
	}
	return a.Bucket.Put(ctx, key, r)
}

func (a *ailing) List(ctx context.Context, prefix string) ([]store.Item, error) {
	if a.list != nil {
		return nil, a.list
	}
	return a.Bucket.List(ctx, prefix)
}

// newFactory has an empty store, and a builder on which nothing lies.
func newFactory(t *testing.T) *factory {
	t.Helper()
	f := &factory{shelves: newShelves(t), bucket: &ailing{Bucket: store.Dir{Path: t.TempDir()}}}
	d := &f.place.d
	d.Store = &store.Store{Bucket: f.bucket}
	d.Retain = store.Rule{Keep: 1}
	home := d.Layout.Home
	f.place.f.Recipe = builds.Recipe{Release: f.place.f.To, Layout: builds.Layout{Home: home, User: "mastodon", Cache: t.TempDir()}}
	builder := d.builder()
	d.Builder = &builds.Builder{Host: f, Name: builder.Name}
	f.build = build{*d, f.place.f}
	if err := os.RemoveAll(filepath.Join(home, "releases/v4.5.15")); err != nil {
		t.Fatal(err)
	}
	return f
}

// Call implements builds.Host: looks are real, and a build is begun by its checkout.
func (f *factory) Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error {
	switch verb {
	case "git.checkout":
		f.built++
		return errBuilding
	case "job.status", "build.remove":
		return nil
	}
	for _, v := range builds.Verbs() {
		if v.Name != verb || verb == "build.reach" {
			continue
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		result, err := v.Run(ctx, raw, payload, func(line string) {
			if say != nil {
				say(line)
			}
		})
		if err != nil || out == nil {
			return err
		}
		b, err := json.Marshal(result)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, out)
	}
	if verb == "facts" {
		*out.(*node.Facts) = node.Facts{MemoryAvailable: 8 << 30}
		return nil
	}
	return fmt.Errorf("the builder has no verb %s", verb)
}

// errBuilding is how far a build comes here.
var errBuilding = errors.New("the build was begun")

// makes lays a finished build of the recipe on the builder.
func (f *factory) makes(content string) node.Head {
	f.t.Helper()
	digest, err := f.place.f.Recipe.Digest()
	if err != nil {
		f.t.Fatal(err)
	}
	f.shelves.build("v4.5.15", map[string]string{"app/new.rb": content, ".refit/recipe.json": fmt.Sprintf(`{"digest":%q}`, digest), "tmp/cache/boot": "iseq"})
	_, head, err := node.ReadManifest(f.place.d.Layout.Release("v4.5.15"))
	if err != nil {
		f.t.Fatal(err)
	}
	return head
}

// unmakes takes the build away, as on another builder.
func (f *factory) unmakes() {
	f.t.Helper()
	if err := os.RemoveAll(f.place.d.Layout.Release("v4.5.15")); err != nil {
		f.t.Fatal(err)
	}
	f.place.f.Digest, f.place.f.Stored = "", ""
}

func (f *factory) heard(text string) bool { return strings.Contains(strings.Join(f.said, "\n"), text) }

func (f *factory) run() error { return f.build.Run(f.t.Context(), f.say) }

// keeps builds and stores, and takes the build away.
func (f *factory) keeps() node.Head {
	f.t.Helper()
	head := f.makes("new")
	if err := f.run(); err != nil {
		f.t.Fatal(err)
	}
	if !strings.HasPrefix(f.place.f.Stored, "v4.5.15 is in the store") {
		f.t.Fatalf("stored: %q", f.place.f.Stored)
	}
	f.unmakes()
	return head
}

func TestAReleaseInTheStoreIsNotBuiltAgain(t *testing.T) {
	f := newFactory(t)
	head := f.keeps()
	if err := f.build.Check(t.Context(), f.say); err != nil || !f.heard("comes from the store") {
		t.Errorf("check: %v", err)
	}
	if err := f.run(); err != nil {
		t.Fatal(err)
	}
	if f.built > 0 || f.place.f.Digest != head.Digest || !strings.Contains(f.place.f.Stored, "was not built: it came from the store") {
		t.Errorf("%d builds, digest %.12s, %q", f.built, f.place.f.Digest, f.place.f.Stored)
	}
	found, err := f.build.d.Builder.Look(t.Context(), f.place.f.Recipe)
	if err != nil || found.State != builds.Whole || found.Manifest.Digest != head.Digest {
		t.Errorf("on the builder lies %+v, %v", found, err)
	}
	// It is as good as one that was built there.
	if err := f.run(); err != nil || f.built > 0 {
		t.Errorf("then: %v, %d builds", err, f.built)
	}
	f.pack = node.PackIn{Root: f.place.d.Layout.Release("v4.5.15"), Digest: head.Digest}
	if err := f.deliver(); err != nil {
		t.Fatal(err)
	}
	f.wholeOn("kirk", "spock", "scotty", "decker")
}

func TestAReleaseOfAnotherRecipeOrSystemIsBuilt(t *testing.T) {
	f := newFactory(t)
	f.keeps()
	f.build.f.Recipe.Env = map[string]string{"CDN_HOST": "https://other.example"}
	if err := f.run(); !errors.Is(err, errBuilding) || f.built != 1 {
		t.Errorf("got %v after %d builds", err, f.built)
	}
}

func TestAStoreThatCannotBeAskedCostsABuildAndNoUpgrade(t *testing.T) {
	gone := errors.New("no route to host")
	for name, ail := range map[string]func(*ailing){
		"listing": func(a *ailing) { a.list = gone },
		"reading": func(a *ailing) { a.get = gone },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t)
			f.keeps()
			ail(f.bucket)
			if err := f.run(); !errors.Is(err, errBuilding) || !f.heard("no route to host") {
				t.Errorf("got %v\n%s", err, strings.Join(f.said, "\n"))
			}
			// Built, and not stored: the upgrade goes on, and the report says so.
			f.makes("new")
			if err := f.run(); err != nil || !strings.Contains(f.place.f.Stored, "v4.5.15 is not in the store") || !strings.Contains(f.place.f.Stored, "no route to host") {
				t.Errorf("%v, stored: %q", err, f.place.f.Stored)
			}
		})
	}
}

func TestAStoreThatTakesNothingIsToldOf(t *testing.T) {
	f := newFactory(t)
	f.bucket.put = errors.New("quota exceeded")
	f.makes("new")
	if err := f.run(); err != nil || !strings.Contains(f.place.f.Stored, "quota exceeded") {
		t.Errorf("%v, stored: %q", err, f.place.f.Stored)
	}
}

func TestWhatIsDamagedInTheStoreIsBuiltAndRemovedThere(t *testing.T) {
	flip := func(at func(int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 1; return b }
	}
	for name, change := range map[string]func([]byte) []byte{
		"the first byte": flip(func(int) int { return 0 }), "a byte in it": flip(func(n int) int { return n / 2 }),
		"cut": func(b []byte) []byte { return b[:len(b)/2] }, "empty": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t)
			f.keeps()
			f.bucket.spoil = map[string]func([]byte) []byte{store.PackObject: change}
			if err := f.run(); !errors.Is(err, errBuilding) {
				t.Errorf("got %v\n%s", err, strings.Join(f.said, "\n"))
			}
			if _, err := os.Stat(f.place.d.Layout.Release("v4.5.15")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something of it lies on the builder: %v", err)
			}
			f.bucket.spoil = nil
			if list, err := f.place.d.Store.List(t.Context()); err != nil || len(list.Artifacts) > 0 {
				t.Errorf("it stays in the store: %v, %v", list.Artifacts, err)
			}
		})
	}
}

func TestAnArtifactThatSaysItIsOfARecipeThatItIsNotOfIsNotUsed(t *testing.T) {
	f := newFactory(t)
	f.keeps()
	f.makes("new")
	root := f.place.d.Layout.Release("v4.5.15")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	f.shelves.build("v4.5.15", map[string]string{"app/new.rb": "other", ".refit/recipe.json": `{"digest":"of another recipe"}`})
	_, head, err := node.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	w, err := f.build.ware(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.build.d.toStore(t.Context(), w, head, f.say); err != nil { // the newer of two
		t.Fatal(err)
	}
	f.unmakes()
	if err := f.run(); !errors.Is(err, errBuilding) || !f.heard("built by the recipe of another r") {
		t.Errorf("got %v\n%s", err, strings.Join(f.said, "\n"))
	}
}

func TestWhatMustNotBeReplacedOnTheBuilderIsNotReplacedFromTheStoreEither(t *testing.T) {
	f := newFactory(t)
	f.keeps()
	dir := f.place.d.Layout.Release("v4.5.15")
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{func() error { return f.build.Check(t.Context(), f.say) }, f.run} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "was not built by refit") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "app")); err != nil {
		t.Error(err)
	}
}

// quill is a key whose signature is its name.
type quill string

func (quill) Ready(context.Context) error { return nil }

func (p quill) Sign(context.Context, []byte) ([]byte, error) { return []byte(p), nil }

func (p quill) Verify(_, signature []byte) error {
	if string(signature) != string(p) {
		return errors.New("it is signed by another")
	}
	return nil
}

func (p quill) Key() (line, fingerprint string, err error) {
	return "ssh-test", "SHA256:" + string(p), nil
}

func TestWhatTheStoreHoldsWithoutOurSignatureIsBuilt(t *testing.T) {
	for name, c := range map[string]struct {
		signature string
		says      string
	}{"none": {"", "it is not signed"}, "another's": {"others", "it is signed by another"}, "ours": {"us", ""}} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t)
			f.makes("new")
			if c.signature != "" {
				if err := os.WriteFile(filepath.Join(f.place.d.Layout.Release("v4.5.15"), signatureFile), []byte(c.signature), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.run(); err != nil {
				t.Fatal(err)
			}
			f.unmakes()
			f.build.d.Builder.Signer = quill("us")
			err := f.run()
			if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, errBuilding) || !f.heard(c.says)) {
				t.Errorf("%v\n%s", err, strings.Join(f.said, "\n"))
			}
			// It may be another operator's, whose key signed it.
			if list, err := f.place.d.Store.List(t.Context()); err != nil || len(list.Artifacts) != 1 {
				t.Errorf("the store holds %v, %v", list.Artifacts, err)
			}
		})
	}
}

func TestAReleaseSignedByAnotherInsideThanBesideIsBuiltAndRemovedFromTheStore(t *testing.T) {
	f := newFactory(t)
	head := f.makes("new")
	root := f.place.d.Layout.Release("v4.5.15")
	if err := os.WriteFile(filepath.Join(root, signatureFile), []byte("others"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := f.build.ware(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	agent := f.place.d.builder().Agent
	manifest, err := agent.ManifestFile(t.Context(), root, head.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.place.d.Store.Put(t.Context(), store.Artifact{Key: w.key, Digest: head.Digest}, store.Parts{
		Manifest: manifest, Signature: []byte("us"), Pack: func(ctx context.Context, to io.Writer) error {
			_, err := agent.Pack(ctx, node.PackIn{Root: root, Digest: head.Digest, All: true}, to, nil)
			return err
		},
	}); err != nil {
		t.Fatal(err)
	}
	f.unmakes()
	f.build.d.Builder.Signer = quill("us")
	if err := f.run(); !errors.Is(err, errBuilding) || f.place.f.Digest != "" || !f.heard("is not signed as what lay beside it") || !f.heard("it is signed by another") {
		t.Errorf("got %v, digest %.12s\n%s", err, f.place.f.Digest, strings.Join(f.said, "\n"))
	}
	if list, err := f.place.d.Store.List(t.Context()); err != nil || len(list.Artifacts) > 0 {
		t.Errorf("it stays in the store: %v, %v", list.Artifacts, err)
	}
}

func TestAPackThatTheBuilderCannotTakeButIsAsItWasStoredStaysInTheStore(t *testing.T) {
	f := newFactory(t)
	w, err := f.build.ware(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := f.place.d.Store.Put(t.Context(), store.Artifact{Key: w.key, Digest: strings.Repeat("1", 64)}, store.Parts{
		Manifest: []byte("{}"), Pack: func(_ context.Context, to io.Writer) error {
			_, err := io.WriteString(to, "a pack of a form that is to come")
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.run(); !errors.Is(err, errBuilding) || !f.heard("it stays there: it is as it was stored") {
		t.Errorf("got %v\n%s", err, strings.Join(f.said, "\n"))
	}
	if found, err := f.place.d.Store.Find(t.Context(), w.key); err != nil || found.Digest != kept.Digest {
		t.Errorf("then the store has %v, %v", found, err)
	}
}

func TestAToolchainIsMadeOnceForAllBuildersOfAStore(t *testing.T) {
	f := newFactory(t)
	f.makeToolchain("ruby-3.4.7", strings.Repeat("1", 64), map[string]string{"bin/ruby": "elf", "lib/set.rb": "set"})
	a := f.place.f.Recipe.Toolchain.Artifacts[0]
	a.OS, a.Arch = "debian 13", "amd64"
	_, head, err := node.ReadManifest(a.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	s := toolchains{f.build.d, f.place.f}
	say := func(line string) { f.say("%s", line) }
	if found, err := s.fetch(t.Context(), a, say); err != nil || found {
		t.Fatalf("an empty store gave it: %v", err)
	}
	s.keep(t.Context(), toolchain.Made{Artifact: a, Manifest: head}, f.say)
	if found, err := s.fetch(t.Context(), a, say); err != nil || !found {
		t.Fatalf("%v, %v\n%s", found, err, strings.Join(f.said, "\n"))
	}
	v, err := f.place.d.builder().Agent.PlaceVerify(t.Context(), node.VerifyIn{Kind: node.KindToolchain, Release: a.Name, Digest: head.Digest}, nil)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("on the builder: %v, %v", v.Differences, err)
	}
	s.d.Builder.Signer = quill("us")
	if found, err := s.fetch(t.Context(), a, say); err != nil || found || !f.heard("it is not signed") {
		t.Errorf("unsigned: %v, %v", found, err)
	}
}

func TestNoToolchainIsMadeForABuildThatWillNotFit(t *testing.T) {
	f := newFactory(t)
	f.build.d.Builder.MinMemory = 9 << 30
	s := toolchains(f.build)
	if err := s.Check(t.Context(), f.say); err == nil || !strings.Contains(err.Error(), "has 8.0 GiB of memory available; a build needs 9.0 GiB") {
		t.Errorf("got %v", err)
	}
	f.makes("new") // nothing is left to build
	if err := s.Check(t.Context(), f.say); err != nil {
		t.Error(err)
	}
}

func TestAnInterruptedFetchFromTheStoreIsNoReasonToBuild(t *testing.T) {
	f := newFactory(t)
	f.keeps()
	ctx, cancel := context.WithCancel(t.Context())
	f.bucket.spoil = map[string]func([]byte) []byte{store.PackObject: func(b []byte) []byte { cancel(); return b[:10] }}
	if err := f.build.Run(ctx, f.say); !errors.Is(err, context.Canceled) || f.built > 0 {
		t.Errorf("got %v, %d builds", err, f.built)
	}
}

func TestAFleetWithoutAStoreBuildsAsBefore(t *testing.T) {
	f := newFactory(t)
	f.build.d.Store = nil
	f.makes("new")
	if err := f.run(); err != nil || f.place.f.Stored != "" || f.place.f.Digest == "" {
		t.Errorf("%v, %q", err, f.place.f.Stored)
	}
	f.unmakes()
	if err := f.run(); !errors.Is(err, errBuilding) {
		t.Errorf("got %v", err)
	}
}

func TestTheStoreKeepsWhatAnyNodeHas(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dir := store.Dir{Path: w.t.TempDir()}
		w.d.Store = &store.Store{Bucket: dir, Now: func() time.Time { return morning }}
		w.d.Retain = store.Rule{Keep: 1}
		put := func(name, digest string) {
			at := morning
			s := &store.Store{Bucket: dir, Now: func() time.Time { return at }}
			key := store.Key{Kind: store.Release, Name: name, OS: "debian 13", Arch: "amd64", Recipe: strings.Repeat("a", 64)}
			if _, err := s.Put(t.Context(), store.Artifact{Key: key, Digest: strings.Repeat(digest, 64)}, store.Parts{Manifest: []byte("{}"), Pack: func(_ context.Context, w io.Writer) error {
				_, err := w.Write([]byte("x"))
				return err
			}}); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range []string{"v4.5.12", "v4.5.13", "v4.5.14"} {
			put(name, fmt.Sprint(i))
		}
		s := prune{w.d, w.f}
		s.retain(t.Context(), map[string]bool{strings.Repeat("1", 64): true}, w.say)
		list, err := w.d.Store.List(t.Context())
		var left []string
		for _, a := range list.Artifacts {
			left = append(left, a.Name)
		}
		if err != nil || len(left) != 2 || !strings.Contains(strings.Join(left, " "), "v4.5.13") || !w.heard("removed from the store") {
			t.Errorf("left %v, %v", left, err)
		}
		// A node that cannot be asked might have any: nothing goes then.
		put("v4.5.11", "3")
		w.fails["kirk facts"] = errDown
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if list, err := w.d.Store.List(t.Context()); err != nil || len(list.Artifacts) != 3 {
			t.Errorf("left %v, %v", list.Artifacts, err)
		}
	})
}

func TestTheStoreKeepsTheToolchainsOfWhatNodesHaveWithoutTheReleaseToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dir := store.Dir{Path: w.t.TempDir()}
		w.d.Store = &store.Store{Bucket: dir, Now: func() time.Time { return morning }}
		for i, name := range []string{"ruby-3.4.6", "ruby-3.4.7"} {
			key := store.Key{Kind: store.Toolchain, Name: name, OS: "debian 13", Arch: "amd64", Recipe: strings.Repeat("a", 64)}
			if _, err := w.d.Store.Put(t.Context(), store.Artifact{Key: key, Digest: strings.Repeat(fmt.Sprint(i), 64)}, store.Parts{Manifest: []byte("{}"), Pack: func(_ context.Context, w io.Writer) error {
				_, err := w.Write([]byte("x"))
				return err
			}}); err != nil {
				t.Fatal(err)
			}
		}
		left := func() string {
			list, err := w.d.Store.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, a := range list.Artifacts {
				names = append(names, a.Name)
			}
			return strings.Join(names, " ")
		}
		w.placed["kirk"] = []string{"v4.5.14"}
		w.runsWith = map[string][]node.ToolchainRef{"v4.5.14": {{Name: "ruby-3.4.7", Digest: strings.Repeat("1", 64)}}}
		s := prune{w.d, w.f}
		w.fails["kirk manifest.show"] = errDown
		if err := s.Run(t.Context(), w.say); err != nil || left() != "ruby-3.4.6 ruby-3.4.7" {
			t.Errorf("of a node that does not say what it runs with: %v, left %q", err, left())
		}
		delete(w.fails, "kirk manifest.show")
		if err := s.Run(t.Context(), w.say); err != nil || left() != "ruby-3.4.7" {
			t.Errorf("%v, left %q", err, left())
		}
	})
}
