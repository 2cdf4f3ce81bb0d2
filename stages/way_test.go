package stages

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/node"
)

// served are the ways, "v4.5.14: kirk spock".
func (s *shelves) served() []string {
	var out []string
	for _, w := range s.place.ways(s.t.Context()) {
		from := "none"
		if w.base != nil {
			from = w.base.Release
		}
		out = append(out, from+": "+strings.Join(names(w.to), " "))
	}
	return out
}

func TestNodesAreServedFromTheReleaseThatTheyHaveAndTheOthersWhole(t *testing.T) {
	s := newShelves(t)
	if got := s.served(); !slices.Equal(got, []string{"v4.5.14: kirk spock scotty decker"}) {
		t.Errorf("ways: %q", got)
	}
	// One lost its release, one has another build of it, one cannot be asked.
	if err := os.RemoveAll(filepath.Join(s.homes["spock"], "releases/v4.5.14")); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(s.homes["scotty"], "releases/v4.5.14")
	m, _, err := node.ReadManifest(other)
	if err != nil {
		t.Fatal(err)
	}
	m.Commit = "another"
	if _, err := m.Write(other); err != nil {
		t.Fatal(err)
	}
	s.fails["decker facts"] = errors.New("too busy to say")
	if got := s.served(); !slices.Equal(got, []string{"v4.5.14: kirk", "none: spock scotty decker"}) {
		t.Errorf("ways: %q", got)
	}
	if err := s.deliver(); err != nil {
		t.Fatal(err)
	}
	s.wholeOn("kirk", "spock", "scotty", "decker")
	s.fails[s.place.d.builder().Name+" facts"] = errors.New("too busy to say")
	if got := s.served(); !slices.Equal(got, []string{"none: kirk spock scotty decker"}) {
		t.Errorf("ways: %q", got)
	}
}

func TestTheReleaseThatRunsIsTheFirstToBeginFromThenTheNewest(t *testing.T) {
	s := newShelves(t)
	for _, name := range []string{"v4.5.9", "v4.5.10", "v4.5.8-rc.1"} {
		s.build(name, map[string]string{"Gemfile": name})
	}
	if err := os.MkdirAll(filepath.Join(s.homes[s.place.d.builder().Name], "releases/v4.5.11"), 0o755); err != nil { // half built
		t.Fatal(err)
	}
	var got []string
	for _, b := range s.place.bases(t.Context()) {
		got = append(got, b.Release)
	}
	if want := []string{"v4.5.14", "v4.5.10", "v4.5.9", "v4.5.8-rc.1"}; !slices.Equal(got, want) {
		t.Errorf("bases: %q, want %q", got, want)
	}
}

func TestANodeThatLosesTheReleaseItIsServedFromGetsTheWholeAllTheSame(t *testing.T) {
	s := newShelves(t)
	ways := s.place.ways(t.Context())
	if len(ways) != 1 || ways[0].base == nil {
		t.Fatalf("ways: %+v", ways)
	}
	if err := os.RemoveAll(filepath.Join(s.homes["kirk"], "releases/v4.5.14")); err != nil {
		t.Fatal(err)
	}
	if err := s.place.bring(t.Context(), s.place.release(), ways[0], s.pack, s.say); err != nil {
		t.Fatal(err)
	}
	s.wholeOn("kirk", "spock", "scotty", "decker")
}

func TestOneWayThatFailsDoesNotKeepTheOthersFromTheRelease(t *testing.T) {
	s := newShelves(t)
	for _, name := range []string{"scotty", "decker"} {
		if err := os.RemoveAll(filepath.Join(s.homes[name], "releases/v4.5.14")); err != nil {
			t.Fatal(err)
		}
	}
	s.fails["kirk place.put"] = node.Failf(node.CodeNoSpace, "the disk is full")
	failsWith(t, s.deliver(), "kirk", "the disk is full")
	s.wholeOn("spock", "scotty", "decker")
}
