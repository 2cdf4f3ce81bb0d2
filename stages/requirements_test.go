package stages

import (
	"slices"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// has makes a node's system probes tell versions; "" is a probe that failed.
func has(libvips, ffmpeg string) func(*node.Facts) {
	return func(f *node.Facts) {
		f.OS, f.OSVersion = "debian", "12"
		f.Commands = append(f.Commands, node.CommandFact{Line: libvips}, node.CommandFact{Line: ffmpeg})
		for i, line := range []string{libvips, ffmpeg} {
			if line == "" {
				f.Commands[len(f.Commands)-2+i].Error = "exit status 1"
			}
		}
	}
}

func TestWhatTheSystemLacksIsRefusedWithItsRemedy(t *testing.T) {
	for name, test := range map[string]struct {
		kirk          func(*node.Facts)
		refused, said []string
	}{
		"all is there":                     {has("vips-8.14.1", "ffmpeg version 5.1.9-0+deb12u1 Copyright"), nil, nil},
		"by the package alone":             {has("8.14.1-3+deb12u2", "ffmpeg version 7.1.5"), nil, nil},
		"an old libvips":                   {has("vips-8.12.2", "ffmpeg version 5.1.9"), []string{"kirk has libvips 8.12.2 (debian 12), and v4.6.0 needs 8.13 (vips.rb): on that node, apt-get update && apt-get install libvips-tools"}, nil},
		"an old system":                    {func(f *node.Facts) { has("vips-8.10.5", "ffmpeg version 5.1.9")(f); f.OSVersion = "11" }, []string{"kirk has libvips 8.10.5 (debian 11)…its system has no newer one: put the node on a newer image"}, nil},
		"an old system that tells none":    {func(f *node.Facts) { has("", "ffmpeg version 5.1.9")(f); f.OSVersion = "11" }, []string{"kirk runs debian 11, which has libvips 8.10, and v4.6.0 needs 8.13 (vips.rb): its system has no newer one: put the node on a newer image"}, nil},
		"an old ffmpeg":                    {has("vips-8.14.1", "ffmpeg version 4.3.9-0+deb11u1"), []string{"kirk has ffmpeg 4.3.9 (debian 12), and v4.6.0 needs 5.1 (notes): on that node, apt-get update && apt-get install ffmpeg"}, nil},
		"an old system with an old ffmpeg": {func(f *node.Facts) { has("vips-8.14.1", "ffmpeg version 4.3.9")(f); f.OSVersion = "11" }, []string{"kirk has ffmpeg 4.3.9 (debian 11)…put the node on a newer image"}, nil},
		"nothing can be found out":         {has("", ""), nil, []string{"kirk: it could not be found out which libvips", "kirk: it could not be found out which ffmpeg"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			for _, n := range l.d.Fleet.Apps() {
				l.host(n.Name, has("vips-8.16.0", "ffmpeg version 7.1.5"))
			}
			l.host("kirk", func(f *node.Facts) { f.Commands = nil })
			l.host("kirk", test.kirk)
			l.f.To.Version = version(t, "v4.6.0")
			refused, said := l.d.Requires(l.v, l.f,
				map[string]builds.Minimum{"libvips": {Min: "8.13", By: "vips.rb"}, "ffmpeg": {Min: "5.1", By: "notes"}, "ruby": {Min: "3.3"}},
				builds.Changes{})
			compareLines(t, "refused", refused, test.refused)
			compareLines(t, "said", said, test.said)
		})
	}
}

func TestWhatAReleaseDoesNotAskForIsNotJudged(t *testing.T) {
	l := goodLook(t)
	if refused, said := l.d.Requires(l.v, l.f, nil, builds.Changes{}); len(refused)+len(said) > 0 {
		t.Errorf("%q, %q", refused, said)
	}
}

// Mastodon 4.4 and 4.5 do without libvips where MASTODON_USE_LIBVIPS is false, as on Debian 11.
func TestWhatAFleetDoesWithoutIsNotRefused(t *testing.T) {
	for name, test := range map[string]struct {
		env     map[string]string
		refused []string
		said    []string
	}{
		"it says so":  {map[string]string{"MASTODON_USE_LIBVIPS": "a hash"}, nil, []string{"kirk has no libvips from 8.13 on, which v4.5.15 wants unless MASTODON_USE_LIBVIPS says"}},
		"it does not": {nil, []string{"kirk has libvips 8.10.5 (debian 11)…its system has no newer one"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			for _, n := range l.d.Fleet.Apps() {
				l.host(n.Name, has("vips-8.16.0", "ffmpeg version 7.1.5"))
			}
			l.host("kirk", func(f *node.Facts) {
				f.Commands = nil
				has("vips-8.10.5", "ffmpeg version 5.1.9")(f)
				f.OSVersion, f.Env = "11", test.env
			})
			refused, said := l.d.Requires(l.v, l.f,
				map[string]builds.Minimum{"libvips": {Min: "8.13", By: "vips.rb, where libvips is used", Unless: "MASTODON_USE_LIBVIPS"}}, builds.Changes{})
			compareLines(t, "refused", refused, test.refused)
			compareLines(t, "said", said, test.said)
		})
	}
}

func TestANameThatIsReadNoMoreIsDroppedWhereANodeSetsIt(t *testing.T) {
	l := goodLook(t)
	for _, n := range l.d.Fleet.Apps() {
		l.host(n.Name, func(f *node.Facts) { f.Env = map[string]string{"LOCAL_DOMAIN": "x", "OLD": "x"} })
	}
	l.host("kirk", func(f *node.Facts) { f.Env["STATSD_ADDR"] = "x" })
	got := l.d.Dropped(l.v, builds.EnvChanges{Removed: []string{"NOBODYS", "OLD", "STATSD_ADDR"}, Comments: []string{"OLD"}, Added: []string{"LOCAL_DOMAIN"}})
	if len(got) != 1 || len(got["STATSD_ADDR"]) != 1 || got["STATSD_ADDR"][0] != "kirk" {
		t.Errorf("%v", got)
	}
}

func TestWhatTheSourceAsksForBeyondItsSeriesIsRefused(t *testing.T) {
	l := goodLook(t)
	for name, test := range map[string]struct {
		least   map[string]builds.Minimum
		queues  []string
		refused []string
	}{
		"nothing":             {},
		"what is there":       {map[string]builds.Minimum{"postgresql": {Min: "17.6"}, "redis": {Min: "7.0.0"}}, []string{"default"}, nil},
		"a newer PostgreSQL":  {map[string]builds.Minimum{"postgresql": {Min: "18.0", By: "db.rake"}}, nil, []string{"PostgreSQL is 17.6, and v4.5.15 needs 18.0 or newer (db.rake): upgrade the database first"}},
		"a newer Redis":       {map[string]builds.Minimum{"redis": {Min: "7.4.0", By: "Sidekiq 9"}}, nil, slices.Repeat([]string{"127.0.0.1:6379 is 7.2.4, and v4.5.15 needs 7.4.0 or newer (Sidekiq 9)"}, len(l.d.Fleet.Apps()))},
		"a queue of the code": {nil, []string{"fresh"}, []string{"v4.5.15 brings the queue fresh, which no unit of refit.yml serves"}},
	} {
		t.Run(name, func(t *testing.T) {
			refused, said := l.d.Requires(l.v, l.f, test.least, builds.Changes{Queues: builds.QueueChanges{Added: test.queues}})
			compareLines(t, "refused", refused, test.refused)
			compareLines(t, "said", said, nil)
		})
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"8.10", "8.13"}: true, {"8.9", "8.13"}: true, {"8.13", "8.13"}: false, {"8.13.0", "8.13"}: false, {"9", "8.13"}: false, {"8", "8.13"}: true, {"5.1.9", "5.1"}: false,
	} {
		if got := older(pair[0], pair[1]); got != want {
			t.Errorf("%s older than %s: %v", pair[0], pair[1], got)
		}
	}
}
