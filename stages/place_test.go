package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
)

// shelves is a fleet whose hosts have releases for real, each in a folder of its own.
type shelves struct {
	t     *testing.T
	place place
	pack  node.PackIn // of the new release
	homes map[string]string

	mu     sync.Mutex
	called []string // "kirk place.put"
	said   []string
	fails  map[string]error // by "host verb"
	verbs  map[string]node.Verb
}

func newShelves(t *testing.T) *shelves {
	t.Helper()
	s := &shelves{t: t, homes: map[string]string{}, fails: map[string]error{}, verbs: map[string]node.Verb{}}
	s.place = place{d: someDeps(), f: someFacts(t)}
	d := &s.place.d
	d.Limits.DiskFree = 0
	for i, n := range d.Fleet {
		home := t.TempDir()
		s.homes[n.Name] = home
		m := node.Machine{System: "debian 13", State: t.TempDir(), Agent: "/var/lib/refit/bin/refit-0"}
		var verbs []node.Verb
		for _, v := range m.Verbs() {
			switch v.Name {
			case "manifest.show", "pack", "place.want", "place.put", "place.verify", "facts":
				verbs = append(verbs, s.noted(n.Name, home, v))
			}
		}
		d.Fleet[i].Agent = &node.Agent{
			Host: n.Name, Binary: "/proc/self/exe", Run: "u-1", Epoch: func() int64 { return 1 },
			Shell: hoststest.NodeShell{Machine: m, Verbs: verbs},
		}
	}
	d.Layout = mastodon.Layout{Home: s.homes[d.builder().Name]}.Filled()
	before := s.build("v4.5.14", map[string]string{"Gemfile": "gems", "app/a.rb": "aaaa", "app/b.rb": "bbbb", "app/old.rb": "old"})
	if err := s.place.deliverAs("v4.5.14", s, before); err != nil {
		t.Fatal(err)
	}
	s.pack = s.build("v4.5.15", map[string]string{"Gemfile": "gems", "app/a.rb": "aaaa", "app/b2.rb": "bbbb", "app/new.rb": "new"})
	s.called, s.said = nil, nil
	return s
}

// deliverAs delivers another release than the one of the facts.
func (p place) deliverAs(release string, s *shelves, pack node.PackIn) error {
	f := *p.f
	f.To.Version = version(s.t, release)
	return place{p.d, &f}.deliver(s.t.Context(), pack, s.say)
}

// noted is a verb in a home of its host's own, where all files are this process's.
func (s *shelves) noted(host, home string, v node.Verb) node.Verb {
	at := func(raw json.RawMessage) (node.Verb, json.RawMessage, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.called = append(s.called, host+" "+v.Name)
		if err := s.fails[host+" "+v.Name]; err != nil {
			return v, nil, err
		}
		var in map[string]any
		if err := json.Unmarshal(raw, &in); err != nil {
			return v, nil, err
		}
		in["home"] = home
		delete(in, "owner")
		b, err := json.Marshal(in)
		if other, ok := s.verbs[host+" "+v.Name]; ok {
			return other, b, err
		}
		return v, b, err
	}
	out := node.Verb{Name: v.Name, Changes: v.Changes}
	if v.Stream != nil {
		out.Stream = func(ctx context.Context, raw json.RawMessage, w io.Writer, say func(string)) (any, error) {
			v, raw, err := at(raw)
			if err != nil {
				return nil, err
			}
			return v.Stream(ctx, raw, w, say)
		}
		return out
	}
	out.Run = func(ctx context.Context, raw json.RawMessage, payload io.Reader, say func(string)) (any, error) {
		v, raw, err := at(raw)
		if err != nil {
			return nil, err
		}
		return v.Run(ctx, raw, payload, say)
	}
	return out
}

func (s *shelves) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

func (s *shelves) calls(verb string) int {
	n := 0
	for _, c := range s.called {
		if strings.HasSuffix(c, " "+verb) {
			n++
		}
	}
	return n
}

// build makes a release on the builder.
func (s *shelves) build(release string, files map[string]string) node.PackIn {
	s.t.Helper()
	root := s.place.d.Layout.Release(release)
	for name, content := range files {
		p := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if err == nil {
			err = os.WriteFile(p, []byte(content), 0o644) //nolint:gosec // a release's file
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	entries, err := node.Scan(s.t.Context(), root)
	if err != nil {
		s.t.Fatal(err)
	}
	head, err := node.Manifest{Format: node.ManifestFormat, Release: release, Files: entries}.Write(root)
	if err != nil {
		s.t.Fatal(err)
	}
	return node.PackIn{Root: root, Digest: head.Digest}
}

// whole are the nodes on which the new release lies unharmed.
func (s *shelves) whole() []string {
	s.t.Helper()
	var out []string
	for _, n := range s.place.d.Fleet.Apps() {
		found, err := n.Agent.PlaceVerify(s.t.Context(), node.VerifyIn{Release: "v4.5.15"}, nil)
		switch {
		case errors.Is(err, node.ErrNotFound):
		case err != nil:
			s.t.Errorf("%s: %v", n.Name, err)
		case len(found.Differences) > 0 || found.Digest != s.pack.Digest:
			s.t.Errorf("%s has %v", n.Name, found.Differences)
		default:
			out = append(out, n.Name)
		}
	}
	return out
}

func (s *shelves) wholeOn(want ...string) {
	s.t.Helper()
	if got := s.whole(); !slices.Equal(got, want) {
		s.t.Errorf("the release lies whole on %v, wanted %v\n%s", got, want, strings.Join(s.said, "\n"))
	}
}

func (s *shelves) deliver() error { return s.place.deliver(s.t.Context(), s.pack, s.say) }

func TestANodeWhoseOlderReleaseIsHarmedGetsTheReleaseAllTheSame(t *testing.T) {
	s := newShelves(t)
	if err := os.WriteFile(filepath.Join(s.homes["kirk"], "releases/v4.5.14/app/b.rb"), []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.deliver(); err != nil {
		t.Fatal(err)
	}
	s.wholeOn("kirk", "spock", "scotty", "decker")
	if b, err := os.ReadFile(filepath.Join(s.homes["kirk"], "releases/v4.5.15/app/b2.rb")); err != nil || string(b) != "bbbb" {
		t.Errorf("kirk has %q, %v", b, err)
	}
	if n := s.calls("place.put"); n != 5 {
		t.Errorf("%d placements, wanted one on each node and another on kirk: %v", n, s.called)
	}
	if !slices.Contains(s.said, "kirk: harmed in its other releases, and so sent too: 1 of the files that the release needs") {
		t.Errorf("said:\n%s", strings.Join(s.said, "\n"))
	}
}

func TestADiskThatHarmsFilesAgainAndAgainIsNotBelieved(t *testing.T) {
	s := newShelves(t)
	s.verbs["kirk place.put"] = node.Verb{Run: func(context.Context, json.RawMessage, io.Reader, func(string)) (any, error) {
		return node.PutOut{Lacking: []int{0}}, node.Failf(node.CodePayload, "the pack lacks Gemfile")
	}}
	failsWith(t, s.deliver(), "kirk", "lacks Gemfile")
	s.wholeOn("spock", "scotty", "decker")
	if n := s.calls("place.put"); n != 4+resends {
		t.Errorf("%d placements", n)
	}
}

func TestANodeThatFailsDoesNotKeepTheOthersFromTheRelease(t *testing.T) {
	for _, verb := range []string{"place.put", "place.want"} {
		t.Run(verb, func(t *testing.T) {
			s := newShelves(t)
			s.fails["scotty "+verb] = node.Failf(node.CodeNoSpace, "the disk is full")
			err := s.deliver()
			if failsWith(t, err, "scotty", "the disk is full"); !errors.Is(err, node.ErrNoSpace) {
				t.Errorf("the cause is lost: %v", err)
			}
			if verb == "place.put" {
				s.wholeOn("kirk", "spock", "decker")
			} else if s.calls("place.want") != 4 || s.calls("place.put") > 0 {
				t.Errorf("called: %v", s.called)
			}
			clear(s.fails)
			s.called = nil
			if err := s.deliver(); err != nil {
				t.Fatal(err)
			}
			s.wholeOn("kirk", "spock", "scotty", "decker")
			if n := s.calls("place.put"); verb == "place.put" && n != 1 {
				t.Errorf("%d placements where one node lacked it", n)
			}
		})
	}
}

// silent is a host whose link is given up in the middle of a verb's payload.
type silent struct {
	hosts.Shell
	verb string
}

func (f silent) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if len(c.Argv) != 3 || c.Argv[2] != f.verb {
		return f.Shell.Run(ctx, c, out)
	}
	if _, err := io.ReadFull(c.Stdin, make([]byte, 100)); err != nil { // the request, and a part of the pack
		return err
	}
	return hosts.ErrSilent
}

func TestANodeThatFallsSilentInThePackDoesNotKeepTheOthersFromIt(t *testing.T) {
	for _, verb := range []string{"place.want", "place.put"} {
		t.Run(verb, func(t *testing.T) {
			s := newShelves(t)
			n, _ := s.place.d.Fleet.Named("spock")
			n.Agent.Shell = silent{n.Agent.Shell, verb}
			err := s.deliver()
			if failsWith(t, err, "spock"); !errors.Is(err, node.ErrSilent) {
				t.Errorf("the cause is lost: %v", err)
			}
			if verb == "place.put" {
				s.wholeOn("kirk", "scotty", "decker")
			}
		})
	}
}

func TestAPackThatBreaksOffIsTheBuildersFaultAndLeavesNothing(t *testing.T) {
	s := newShelves(t)
	builder := s.place.d.builder()
	broken := errors.New("its disk cannot be read")
	var real node.Verb
	for _, v := range node.Verbs() {
		if v.Name == "pack" {
			real = v
		}
	}
	s.verbs[builder.Name+" pack"] = node.Verb{Stream: func(ctx context.Context, raw json.RawMessage, w io.Writer, say func(string)) (any, error) {
		var in node.PackIn
		if err := json.Unmarshal(raw, &in); err != nil || len(in.Indexes) == 0 {
			return real.Stream(ctx, raw, w, say)
		}
		if _, err := real.Stream(ctx, raw, cutAt{w, 300}, say); !errors.Is(err, errCut) {
			return nil, fmt.Errorf("the pack is too short for this test: %w", err)
		}
		return nil, broken
	}}
	err := s.deliver()
	failsWith(t, err, "cannot read the release from "+builder.Name, broken.Error())
	if strings.Contains(err.Error(), "kirk") || strings.Contains(err.Error(), "broke off") {
		t.Errorf("it blames others: %v", err)
	}
	s.wholeOn()
	for name, home := range s.homes {
		left, err := filepath.Glob(filepath.Join(home, "releases", ".refit-tmp*"))
		for _, dir := range left { // but what arrived whole, for the next try
			if filepath.Base(dir) != ".refit-tmp-arrived-v4.5.15" {
				t.Errorf("%s: left %s", name, dir)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var errCut = errors.New("enough")

// cutAt passes on so many bytes of each piece and then ends.
type cutAt struct {
	w io.Writer
	n int
}

func (c cutAt) Write(b []byte) (int, error) {
	n, err := c.w.Write(b[:min(len(b), c.n)])
	return n, errors.Join(err, errCut)
}

func TestARunPlacesNothingButWhatItBuilt(t *testing.T) {
	s := newShelves(t)
	s.place.f.Digest = strings.Repeat("0", 64)
	failsWith(t, s.place.Run(t.Context(), s.say), "is not the release that this run built", "refit upgrade --to v4.5.15")
	// Built again between the look and the pack.
	s.pack.Digest = s.place.f.Digest
	if err := s.deliver(); !errors.Is(err, node.ErrPayload) {
		t.Errorf("got %v, want ErrPayload", err)
	}
	if s.calls("place.put") > 0 {
		t.Errorf("called: %v", s.called)
	}
	s.wholeOn()
}

func TestAReleaseUnderAnotherOnesNameIsRefusedOnEveryNode(t *testing.T) {
	s := newShelves(t)
	s.pack = node.PackIn{Root: s.place.d.Layout.Release("v4.5.14")}
	_, head, err := node.ReadManifest(s.pack.Root)
	if err != nil {
		t.Fatal(err)
	}
	s.pack.Digest = head.Digest
	err = s.deliver()
	if failsWith(t, err, "the manifest of v4.5.14, not of v4.5.15"); !errors.Is(err, node.ErrPayload) {
		t.Errorf("got %v, want ErrPayload", err)
	}
}

func TestNodesThatHaveTheReleaseAreNotSentItAgain(t *testing.T) {
	s := newShelves(t)
	if err := s.deliver(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.homes["decker"], "releases/v4.5.15")); err != nil {
		t.Fatal(err)
	}
	s.called = nil
	if err := s.deliver(); err != nil {
		t.Fatal(err)
	}
	s.wholeOn("kirk", "spock", "scotty", "decker")
	if n := s.calls("place.put"); n != 1 {
		t.Errorf("%d placements, wanted one: %v", n, s.called)
	}
	s.called = nil
	if err := s.deliver(); err != nil || s.calls("place.put") > 0 {
		t.Errorf("%v, called: %v", err, s.called)
	}
}
