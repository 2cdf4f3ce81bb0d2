package stages

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
)

// withBuilder gives a host of the fleet the role builder too.
func withBuilder(f Fleet, name string) {
	for i := range f {
		if f[i].Name == name {
			f[i].Roles = append(slices.Clone(f[i].Roles), hosts.Builder)
		}
	}
}

func TestNodesAreDividedAmongBuildersByTheirSystems(t *testing.T) {
	old := func(f *node.Facts) { f.OSVersion = "12" }
	for name, c := range map[string]struct {
		builders []string // beside khan
		old      []string
		want     map[string][]string // nodes by builder
		refused  []string
	}{
		"one system": {nil, nil, map[string][]string{"": nil}, nil},
		"two": {
			[]string{"sulu"},
			[]string{"sulu", "kirk", "scotty"},
			map[string][]string{"khan": {"spock", "decker"}, "sulu": {"kirk", "scotty"}},
			nil,
		},
		"a node that builds":           {[]string{"kirk"}, []string{"kirk"}, map[string][]string{"khan": {"spock", "scotty", "decker"}, "kirk": {"kirk"}}, nil},
		"a builder for nobody":         {[]string{"sulu"}, []string{"sulu"}, map[string][]string{"khan": {"kirk", "spock", "scotty", "decker"}}, nil},
		"the first builder for nobody": {[]string{"sulu"}, []string{"khan"}, map[string][]string{"sulu": {"kirk", "spock", "scotty", "decker"}}, nil},
		"two of one system": {
			[]string{"sulu"},
			nil,
			map[string][]string{"sulu": {"kirk", "spock", "scotty", "decker"}},
			[]string{"are both builders and run debian 13 (amd64): which of them builds?"},
		},
		"a node that nobody builds for": {
			[]string{"sulu"},
			[]string{"sulu"},
			map[string][]string{"khan": {"kirk", "spock", "scotty", "decker"}},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			for _, b := range c.builders {
				withBuilder(l.d.Fleet, b)
			}
			for _, h := range c.old {
				l.host(h, old)
			}
			got := map[string][]string{}
			for _, m := range l.d.sites(l.v) {
				got[m.Builder] = m.Nodes
			}
			if len(got) != len(c.want) {
				t.Errorf("sites %v, wanted %v", got, c.want)
			}
			for b, nodes := range c.want {
				if !slices.Equal(got[b], nodes) {
					t.Errorf("sites %v, wanted %v", got, c.want)
				}
			}
			refused := firstRules(l.d, l.f, l.v)
			if len(refused) != len(c.refused) {
				t.Fatalf("refused %q", refused)
			}
			for i, words := range c.refused {
				if !strings.Contains(refused[i], words) {
					t.Errorf("refused %q, wanted %q", refused, words)
				}
			}
		})
	}
	l := goodLook(t)
	withBuilder(l.d.Fleet, "sulu")
	l.host("sulu", old)
	l.host("kirk", func(f *node.Facts) { f.OSVersion = "11" })
	if out := firstRules(l.d, l.f, l.v); len(out) != 1 || !strings.Contains(out[0], "kirk runs debian 11 (amd64), the builder ") || !strings.Contains(out[0], "give a host like it the role builder too") {
		t.Errorf("refused %q", out)
	}
}

// twoSystems has what two builders made: khan for three nodes, sulu for scotty.
func twoSystems(t *testing.T, s *shelves, other map[string]string) (khan, sulu node.PackIn) {
	t.Helper()
	d, layout := &s.place.d, s.place.d.Layout
	home := layout.Home
	withBuilder(d.Fleet, "sulu")
	d.Layout = mastodon.Layout{Home: s.homes["sulu"]}.Filled()
	sulu = s.build("v4.5.15", other)
	d.Layout = layout
	// refit asks both for one path, which is each host's own.
	n, _ := d.Fleet.Named("sulu")
	for _, v := range (node.Machine{System: "debian 13", State: t.TempDir()}).Verbs() {
		at := func(raw json.RawMessage) json.RawMessage {
			return json.RawMessage(strings.ReplaceAll(string(raw), home, s.homes["sulu"]))
		}
		wrapped := node.Verb{Name: v.Name, Changes: v.Changes}
		if v.Stream != nil {
			wrapped.Stream = func(ctx context.Context, raw json.RawMessage, w io.Writer, say func(string)) (any, error) {
				return v.Stream(ctx, at(raw), w, say)
			}
		} else {
			wrapped.Run = func(ctx context.Context, raw json.RawMessage, p io.Reader, say func(string)) (any, error) {
				return v.Run(ctx, at(raw), p, say)
			}
		}
		s.verbs[n.Name+" "+v.Name] = wrapped
	}
	s.place.f.Made = Made{Builder: "khan", Nodes: []string{"kirk", "spock", "decker"}, Digest: s.pack.Digest}
	s.place.f.Others = []Made{{Builder: "sulu", Nodes: []string{"scotty"}, Digest: sulu.Digest}}
	return s.pack, sulu
}

func TestEachNodeGetsWhatWasBuiltForItsSystem(t *testing.T) {
	s := newShelves(t)
	khan, sulu := twoSystems(t, s, map[string]string{"Gemfile": "gems", "app/new.rb": "new", "vendor/bundle/native.so": "for debian 12"})
	for _, m := range s.place.f.all() {
		if err := (place{s.place.d.on(m.Builder), s.place.f}).bringAll(t.Context(), s.say); err != nil {
			t.Fatal(err)
		}
	}
	for host, want := range map[string]string{"kirk": khan.Digest, "spock": khan.Digest, "decker": khan.Digest, "scotty": sulu.Digest} {
		n, _ := s.place.d.Fleet.Named(host)
		found, err := n.Agent.PlaceVerify(t.Context(), node.VerifyIn{Release: "v4.5.15"}, nil)
		if err != nil || found.Digest != want || len(found.Differences) > 0 {
			t.Errorf("%s has %.12s (%v), wanted %.12s: %v", host, found.Digest, found.Differences, want, err)
		}
		if got := s.place.f.of(n).Digest; got != want {
			t.Errorf("%s is held to %.12s", host, got)
		}
		_, err = os.Stat(filepath.Join(s.homes[host], "releases/v4.5.15/vendor/bundle/native.so"))
		if (err == nil) != (host == "scotty") {
			t.Errorf("%s: %v", host, err)
		}
	}
	// One that was built again meanwhile is not this run's.
	s.place.f.Others[0].Digest = khan.Digest
	if err := (place{s.place.d.on("sulu"), s.place.f}).bringAll(t.Context(), s.say); err == nil || !strings.Contains(err.Error(), "on sulu is not the release that this run built") {
		t.Errorf("got %v", err)
	}
}

func TestEachBuilderHasStepsOfItsOwnInTheTable(t *testing.T) {
	d, f := someDeps(), someFacts(t)
	withBuilder(d.Fleet, "sulu")
	f.Made = Made{Builder: "khan", Nodes: []string{"kirk", "spock", "decker"}}
	f.Others = []Made{{Builder: "sulu", Nodes: []string{"scotty"}}}
	var made []string
	for _, s := range Upgrade("u-1", d, f).Steps {
		if strings.HasPrefix(s.Name(), "build") {
			made = append(made, s.Name()+" on "+s.Host)
			if !Prepares(s.Name()) {
				t.Errorf("%s changes what serves?", s.Name())
			}
		}
	}
	if want := []string{"build khan on khan", "build sulu on sulu"}; !slices.Equal(made, want) {
		t.Errorf("the table has %q", made)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Facts
	if err := json.Unmarshal(b, &back); err != nil || back.Builder != "khan" || len(back.Others) != 1 || back.Others[0].Nodes[0] != "scotty" {
		t.Errorf("read back: %+v, %v", back.Made, err)
	}
}

func TestBuildsWhosePagesWouldNameWhatTheOtherLacksAreNotServed(t *testing.T) {
	assets := map[string]string{"public/packs/app-33333333.js": "new!", "public/packs/app-33333333.js.map": "map of khan"}
	for name, c := range map[string]struct {
		other map[string]string
		want  string
	}{
		"the same":        {map[string]string{"public/packs/app-33333333.js": "new!", "public/packs/app-33333333.js.map": "map of sulu"}, ""},
		"another name":    {map[string]string{"public/packs/app-44444444.js": "new!"}, "differ in 2 hashed assets, public/packs/app-33333333.js first"},
		"another content": {map[string]string{"public/packs/app-33333333.js": "old!"}, "differ in 1 hashed asset, public/packs/app-33333333.js first"},
		"one more":        {map[string]string{"public/packs/app-33333333.js": "new!", "public/packs/b-55555555.js": "b"}, "differ in 1 hashed asset, public/packs/b-55555555.js first"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelves(t)
			s.pack = s.build("v4.5.15", assets)
			twoSystems(t, s, c.other)
			for i, n := range s.place.d.Fleet {
				shell := n.Agent.Shell.(hoststest.NodeShell) //nolint:forcetypeassert // newShelves made it
				shell.Verbs = append(shell.Verbs, s.listing(n.Name))
				s.place.d.Fleet[i].Agent.Shell = shell
			}
			err := bridge{s.place.d, s.place.f}.alike(t.Context(), s.say)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

func TestTheRecordNamesTheBuildOfEachNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Digest = "of khan"
		w.f.Others = []Made{{Builder: "sulu", Nodes: []string{"scotty"}, Digest: "of sulu"}}
		if err := (record{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		var r Record
		if err := json.Unmarshal(w.written, &r); err != nil {
			t.Fatal(err)
		}
		if r.of("kirk") != "of khan" || r.of("scotty") != "of sulu" {
			t.Errorf("%+v", r)
		}
	})
}
