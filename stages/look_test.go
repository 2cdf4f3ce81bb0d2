package stages

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// look is what the rules judge.
type look struct {
	*testing.T
	d Deps
	f *Facts
	v *View
}

func goodLook(t *testing.T) *look {
	d, f := someDeps(), someFacts(t)
	return &look{t, d, f, aView(d, f)}
}

// host changes what a host said of itself; the maps and lists are the host's own.
func (l *look) host(name string, change func(*node.Facts)) {
	f, ok := l.v.Facts[name]
	if !ok {
		l.Fatalf("no host %s", name)
	}
	change(&f)
	l.v.Facts[name] = f
}

func (l *look) unit(host, name string, change func(*node.UnitState)) {
	l.host(host, func(f *node.Facts) {
		i := slices.IndexFunc(f.Units, func(u node.UnitState) bool { return u.Name == name })
		change(&f.Units[i])
	})
}

func (l *look) redis(host string, change func(*mastodon.RedisServer)) {
	change(&l.v.Redis[host].Servers[0])
}

func (l *look) proxy(name string, change func(*nginx.Facts)) {
	f := l.v.Proxies[name]
	change(&f)
	l.v.Proxies[name] = f
}

func (l *look) worker(i int, change func(*mastodon.Process)) { change(&l.v.Sidekiq.Processes[i]) }

func compareLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		for part := range strings.SplitSeq(want[i], "…") {
			ok = ok && strings.Contains(got[i], part)
		}
	}
	if !ok {
		t.Errorf("%s:\n  %s\nwanted:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestAHostThatDoesNotAnswerIsRefusedByItsOwnError(t *testing.T) {
	l := goodLook(t)
	delete(l.v.Facts, "decker")
	l.v.Unreachable["decker"] = errors.New("decker: no route to host")
	compareLines(t, "refused", unreachable(l.d, l.v), []string{"decker: no route to host"})
	refused, said := l.d.Fleetwide(l.v)
	compareLines(t, "doctor", append(refused, said...), []string{"decker: no route to host"})
}

func TestALoneWebNodeThatIsUnhealthyIsRefused(t *testing.T) {
	l := goodLook(t)
	l.d.Fleet = l.d.Fleet.But("spock")
	l.v.Web = map[string]error{"kirk": errors.New("kirk: health: no answer")}
	j := &judgement{d: l.d, f: l.f, v: l.v}
	j.web()
	compareLines(t, "refused", j.refused, []string{"kirk: health: no answer"})
}

func TestAFleetThatRunsTwoReleasesIsNotUpgraded(t *testing.T) {
	l := goodLook(t)
	if release, refusal := runs(l.d, l.v); release != "v4.5.14" || refusal != "" {
		t.Errorf("%q, %q", release, refusal)
	}
	l.host("kirk", func(f *node.Facts) { f.Live = "v4.5.15" })
	_, refusal := runs(l.d, l.v)
	compareLines(t, "refused", []string{refusal}, []string{"the nodes do not run one release (v4.5.14 on decker, scotty, spock; v4.5.15 on kirk)…`refit resume` or `refit rollback`"})
	for _, n := range l.d.Fleet.Apps() {
		l.host(n.Name, func(f *node.Facts) { f.Live = "" })
	}
	_, refusal = runs(l.d, l.v)
	compareLines(t, "refused", []string{refusal}, []string{"/home/mastodon/live is no link to a release on any node"})
}

func TestWhatAReleaseNeedsFollowsItsLine(t *testing.T) {
	for v, want := range map[string][2]int{
		"v4.3.0-beta.1": {12, 4}, "v4.3.22": {12, 4}, "v4.4.0-rc.1": {13, 6}, "v4.4.9": {13, 6}, "v4.5.0-alpha.1": {14, 7}, "v4.5.14": {14, 7}, "v4.6.1": {14, 7}, "v5.0.0": {14, 7}, "v4.2.27": {0, 0},
	} {
		if got := needs(version(t, v)); got.postgres != want[0] || got.redis != want[1] {
			t.Errorf("%s: PostgreSQL %d, Redis %d", v, got.postgres, got.redis)
		}
	}
	if got := needs(builds.Version{}); got != (floor{}) {
		t.Errorf("no version needs %v", got)
	}
}

func TestEveryMandatorySettingIsComparedAcrossNodes(t *testing.T) {
	for _, key := range same {
		l := goodLook(t)
		l.host("spock", func(f *node.Facts) {
			f.Env = maps.Clone(f.Env)
			f.Env[key] = "other"
		})
		refused, _ := rules(l.d, l.f, l.v)
		compareLines(t, key, refused, []string{"kirk and spock do not agree on " + key})
	}
}
