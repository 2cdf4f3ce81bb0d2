package toolchain

import (
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
)

func TestWhatRefitYmlAloneDecidesIsSaidInThePlan(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, in *PlanIn)
		says   string
	}{
		"a Node without a list": {func(w *world, in *PlanIn) {
			delete(w.served, "/node/v24.10.2/SHASUMS256.txt")
			in.Sources.Checksums = map[string]string{"node-v24.10.2-linux-x64.tar.gz": sum([]byte("x")), "node-v24.10.2-linux-arm64.tar.gz": sum([]byte("x"))}
		}, "node-v24.10.2-linux-"},
		"a Bundler without a checksum": {func(w *world, in *PlanIn) {
			w.served["/info/bundler"] = []byte("2.7.2 |ruby:>= 3.2.0\n")
			in.Sources.Checksums = map[string]string{"bundler-2.7.2.gem": sum([]byte("a gem"))}
		}, "bundler-2.7.2.gem is held to a checksum that refit.yml alone gives"},
		"other options": {func(_ *world, in *PlanIn) {
			in.Sources.Configure = []string{"--enable-yjit", "--with-jemalloc"}
		}, "ruby 3.4.7 is compiled with --enable-yjit --with-jemalloc instead of --with-jemalloc --disable-install-doc"},
		"no options": {func(_ *world, in *PlanIn) { in.Sources.Configure = []string{} }, "ruby 3.4.7 is compiled with no options instead of"},
	} {
		w := newWorld(t)
		in := w.planIn()
		c.change(w, &in)
		p, err := w.plan(in)
		if err != nil || len(p.Refused) > 0 || len(p.Said) != 1 || !strings.Contains(p.Said[0], c.says) {
			t.Errorf("%s: said %q, refused %q, %v", name, p.Said, p.Refused, err)
		}
		d, err := Decide(builds.Pins{Ruby: "3.4.7", Node: "24.10", Bundler: "2.7.2", Yarn: "4.10.3"}, Overrides{}, "uhura", nil, p)
		if err != nil || !slices.Contains(d.Said, p.Said[0]) {
			t.Errorf("%s: decided %q, %v", name, d.Said, err)
		}
	}
	// What upstream vouches for as well needs no word.
	w := newWorld(t)
	in := w.planIn()
	in.Sources.Checksums = map[string]string{"bundler-2.7.2.gem": sum([]byte("a gem"))}
	if p, err := w.plan(in); err != nil || len(p.Said) > 0 {
		t.Errorf("said %q, %v", p.Said, err)
	}
}

func TestWhatOnlyItsOwnServerVouchesForIsNotVerified(t *testing.T) {
	w := newWorld(t)
	got := w.tools().Unverified()
	if len(got) != 2 || !strings.HasPrefix(got[0], "bundler-2.7.2.gem: ") || !strings.HasPrefix(got[1], "node-v24.10.2-linux-") || !strings.Contains(got[1], "/node/v24.10.2/SHASUMS256.txt") {
		t.Errorf("%q", got)
	}
	in := w.planIn()
	in.Sources.Checksums = map[string]string{"bundler-2.7.2.gem": sum([]byte("a gem"))}
	p, err := w.plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := (builds.Toolchain{Artifacts: p.Artifacts}).Unverified(); len(got) != 1 || !strings.HasPrefix(got[0], "node-") {
		t.Errorf("with a checksum in refit.yml: %q", got)
	}
}
