package stages

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

func stepNames(p pipeline.Plan) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, s.Name())
	}
	return out
}

func TestTheTableIsWalkedInItsOrder(t *testing.T) {
	before := []string{"preflight", "build", "place", "bridge assets", "pre-migrate"}
	after := []string{"soak", "post-migrate", "search", "record", "prune"}
	for name, test := range map[string]struct {
		sidekiqFirst bool
		rolls        []string
	}{
		"sidekiq first": {true, []string{"roll sidekiq scotty", "roll sidekiq decker", "roll web spock", "roll web kirk"}},
		"web first":     {false, []string{"roll web spock", "roll web kirk", "roll sidekiq scotty", "roll sidekiq decker"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := someFacts(t)
			f.SidekiqFirst, f.Web = test.sidekiqFirst, []string{"spock", "kirk"}
			p := Upgrade("u-1", someDeps(), f)
			if got, want := stepNames(p), slices.Concat(before, test.rolls, after); !slices.Equal(got, want) {
				t.Errorf("steps:\n  %q\nwanted:\n  %q", got, want)
			}
			if p.ID != "u-1" || p.Kind != "upgrade" || p.From != "v4.5.14" || p.To != "v4.5.15" || p.Facts != any(f) {
				t.Errorf("plan %q %q from %q to %q", p.ID, p.Kind, p.From, p.To)
			}
			seen := map[string]bool{}
			for _, s := range p.Steps {
				if seen[s.Name()] {
					t.Errorf("%s stands twice in the plan", s.Name())
				}
				seen[s.Name()] = true
				if s.Why == "" {
					t.Errorf("%s does not say why", s.Name())
				}
			}
		})
	}
}

func TestEachStepNamesItsHost(t *testing.T) {
	want := map[string]string{
		"build": "khan", "record": "uhura", "pre-migrate": "scotty", "post-migrate": "scotty",
		"roll web kirk": "kirk", "roll web spock": "spock", "roll sidekiq scotty": "scotty", "roll sidekiq decker": "decker",
	}
	for _, s := range Upgrade("u-1", someDeps(), someFacts(t)).Steps {
		if s.Host != want[s.Name()] {
			t.Errorf("%s is on %q, not %q", s.Name(), s.Host, want[s.Name()])
		}
	}
}

func TestOnlyPendingPostMigrationsAreAPointOfNoReturn(t *testing.T) {
	for name, post := range map[string][]builds.Migration{"one pending": {postMigration}, "none pending": nil} {
		t.Run(name, func(t *testing.T) {
			f := someFacts(t)
			f.Post = post
			var oneWay, switches []string
			for _, s := range Upgrade("u-1", someDeps(), f).Steps {
				if s.OneWay {
					oneWay = append(oneWay, s.Name())
				}
				if s.Switches {
					switches = append(switches, s.Name())
				}
				if said := strings.Contains(s.Why, "POINT OF NO RETURN"); said != s.OneWay {
					t.Errorf("%s, one-way %v, says %q", s.Name(), s.OneWay, s.Why)
				}
			}
			wantSwitches := []string{"roll sidekiq scotty", "roll sidekiq decker", "roll web kirk", "roll web spock"}
			var want []string
			if len(post) > 0 {
				want, wantSwitches = []string{"post-migrate"}, append(wantSwitches, "post-migrate")
			}
			if !slices.Equal(oneWay, want) {
				t.Errorf("one-way: %q", oneWay)
			}
			if !slices.Equal(switches, wantSwitches) {
				t.Errorf("switches: %q", switches)
			}
		})
	}
}

func TestPlacingTouchesNothingThatServes(t *testing.T) {
	p := Place("p-1", someDeps(), someFacts(t))
	if got := stepNames(p); p.Kind != "place" || !slices.Equal(got, []string{"build", "place"}) {
		t.Errorf("%s: %q", p.Kind, got)
	}
	for _, s := range p.Steps {
		if s.OneWay || s.Switches {
			t.Errorf("%s: one-way %v, switches %v", s.Name(), s.OneWay, s.Switches)
		}
	}
}

func TestTheReleaseBeforeAndTheNewestOthersStay(t *testing.T) {
	have := func(names ...string) []node.ReleaseFact {
		var out []node.ReleaseFact
		for _, n := range names {
			out = append(out, node.ReleaseFact{Name: n})
		}
		return out
	}
	for name, test := range map[string]struct {
		keep int
		have []node.ReleaseFact
		want []string
	}{
		"the newest by version, not by name": {2, have("v4.5.9", "v4.5.15", "v4.5.10", "v4.5.14", "v4.5.2"), []string{"v4.5.15", "v4.5.14", "v4.5.10"}},
		"the one before is never removed":    {1, have("v4.5.13", "v4.5.14", "v4.5.15"), []string{"v4.5.15", "v4.5.14"}},
		"nor if nothing shall be kept":       {0, have("v4.5.13", "v4.5.14", "v4.5.15"), []string{"v4.5.15", "v4.5.14"}},
		"fewer there than may stay":          {5, have("v4.5.15", "v4.5.13"), []string{"v4.5.15", "v4.5.14", "v4.5.13"}},
		"what refit did not put there":       {1, have("v4.5.13", "by-hand", "v4.5.14"), []string{"v4.5.15", "v4.5.14", "by-hand"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := someDeps()
			d.Keep = test.keep
			got := prune{d, someFacts(t)}.keep(d.webs()[0], test.have)
			if !slices.Equal(got, test.want) {
				t.Errorf("%q; wanted %q", got, test.want)
			}
		})
	}
	d := someDeps()
	got := prune{d, someFacts(t)}.keep(d.builder(), have("v4.5.9", "v4.5.13", "v4.5.14", "v4.5.16", "by-hand"))
	if want := []string{"v4.5.15", "v4.5.14", "v4.5.16", "by-hand"}; !slices.Equal(got, want) {
		t.Errorf("a builder keeps %q; wanted %q", got, want)
	}
}

func TestTheDatabaseSaysWhichMigrationsRemain(t *testing.T) {
	to := someFacts(t).To.Contents
	for name, test := range map[string]struct {
		applied   []string
		post      bool
		pre, left []builds.Migration
	}{
		"both phases":           {[]string{oldMigration.Version}, true, []builds.Migration{preMigration}, []builds.Migration{postMigration}},
		"the first phase":       {[]string{oldMigration.Version}, false, []builds.Migration{preMigration}, nil},
		"the first is through":  {[]string{oldMigration.Version, preMigration.Version}, true, nil, []builds.Migration{postMigration}},
		"the second alone is":   {[]string{oldMigration.Version, postMigration.Version}, true, []builds.Migration{preMigration}, nil},
		"an old one never was":  {nil, false, []builds.Migration{oldMigration, preMigration}, nil},
		"all is through":        {[]string{oldMigration.Version, preMigration.Version, postMigration.Version}, true, nil, nil},
		"of a release long ago": {[]string{oldMigration.Version, preMigration.Version, postMigration.Version, "20990101000000"}, true, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pre, post := split(lacking(to, mastodon.Database{Applied: test.applied}, test.post))
			if !slices.Equal(pre, test.pre) || !slices.Equal(post, test.left) {
				t.Errorf("pre %v, post %v", pre, post)
			}
		})
	}
	all := []builds.Migration{oldMigration, preMigration, postMigration}
	if got := without(all, []builds.Migration{{Version: preMigration.Version}}); !slices.Equal(got, []builds.Migration{oldMigration, postMigration}) {
		t.Errorf("without one: %v", got)
	}
	if got := migrations(all[:2]); got != "20251001000000 create_accounts, 20251101000000 add_a_column" {
		t.Errorf("%q", got)
	}
}

func TestAFailedJobSaysHowItEndedAndShowsTheLines(t *testing.T) {
	n := aFleet()[4]
	for name, test := range map[string]struct {
		job  node.Job
		want string
	}{
		"a status":             {node.Job{State: node.JobDone, Result: "exit-code", Code: 3}, "x.service on scotty failed: exit status 3"},
		"a signal":             {node.Job{State: node.JobDone, Result: "signal", Code: -1, Signal: "KILL"}, "x.service on scotty failed: killed by KILL"},
		"out of memory":        {node.Job{State: node.JobDone, Result: "oom-kill", Code: 1}, "x.service on scotty failed: oom-kill"},
		"an end nobody saw":    {node.Job{State: node.JobUnknown, Text: "the host was restarted while it ran"}, "x.service on scotty failed: its end was not seen: the host was restarted while it ran"},
		"a good unit's status": {node.Job{State: node.JobDone, Result: "success", Code: 1}, "x.service on scotty failed: exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			test.job.Unit = "x.service"
			err := jobError(n, test.job, "")
			if err.Error() != test.want {
				t.Errorf("%q", err)
			}
			err = jobError(n, test.job, "booting\nrails aborted!\nPG::UndefinedTable: ERROR:  relation \"x\" does not exist\n")
			e, ok := errors.AsType[*pipeline.Evidence](err)
			if !ok || err.Error() != test.want || e.From != "x.service on scotty" || !slices.ContainsFunc(e.Lines, func(l string) bool { return strings.Contains(l, "UndefinedTable") }) {
				t.Errorf("%q with %+v", err, e)
			}
		})
	}
}

func TestANodeKnowsItsUnitsAndQueues(t *testing.T) {
	both := Node{Host: hosts.Host{Roles: []hosts.Role{hosts.Web, hosts.Sidekiq}}, Streaming: []int{4000, 4001}, Workers: []Worker{{"b.service", []string{"push", "default"}}, {"a.service", []string{"pull", "default"}}}}
	if got := both.Units(); !slices.Equal(got, []string{"mastodon-web.service", "mastodon-streaming@4000.service", "mastodon-streaming@4001.service", "b.service", "a.service"}) {
		t.Errorf("units: %q", got)
	}
	if got := both.Queues(); !slices.Equal(got, []string{"default", "pull", "push"}) || both.Schedules() {
		t.Errorf("queues: %q, schedules %v", got, both.Schedules())
	}
	f := aFleet()
	decker, ok := f.Named("decker")
	if !ok || !decker.Schedules() || !slices.Equal(decker.Units(), []string{"mastodon-sidekiq-b.service", "mastodon-sidekiq-scheduler.service"}) {
		t.Errorf("decker: %v, %q", decker.Schedules(), decker.Units())
	}
	if khan, _ := f.Named("khan"); len(khan.Units()) > 0 || khan.Schedules() {
		t.Errorf("khan: %q", khan.Units())
	}
	if got := names(f.Apps()); !slices.Equal(got, []string{"kirk", "spock", "scotty", "decker"}) {
		t.Errorf("apps: %q", got)
	}
	if _, ok := f.Named("picard"); ok || len(f.But("kirk")) != len(f)-1 || len(f) != 8 {
		t.Error("a fleet without a node is another fleet")
	}
}

// oneShelf keeps the last journal.
type oneShelf struct{ last []byte }

func (s *oneShelf) Save(_ context.Context, _ string, _, _ int64, b []byte) error {
	s.last = slices.Clone(b)
	return nil
}
func (s *oneShelf) Load(context.Context, string) ([]byte, error) { return s.last, nil }

// idle does nothing.
type idle struct{}

func (idle) Name() string                              { return "idle" }
func (idle) Check(context.Context, pipeline.Say) error { return nil }
func (idle) Run(context.Context, pipeline.Say) error   { return nil }
func (idle) Undo(context.Context, pipeline.Say) error  { return nil }

func TestWhatARunKnowsIsReadBackFromItsJournal(t *testing.T) {
	f := someFacts(t)
	fill(t, reflect.ValueOf(f).Elem(), "facts")
	shelf := &oneShelf{}
	p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: f, Steps: []pipeline.Step{{Stage: idle{}}}}
	j := pipeline.NewJournal(p, shelf, 3, morning)
	if r := pipeline.Execute(t.Context(), p, j, pipeline.Options{}); r.Status != pipeline.Done {
		t.Fatalf("%s: %v", r.Status, r.Err)
	}
	back, err := pipeline.LoadJournal(t.Context(), shelf, "u-1")
	if err != nil {
		t.Fatal(err)
	}
	got := &Facts{}
	if err := back.LoadFacts(got); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(want) || !reflect.DeepEqual(got.To, f.To) || !got.Baseline.At.Equal(f.Baseline.At) {
		t.Errorf("read back:\n  %s\nwritten:\n  %s", again, want)
	}
	if a, b := stepNames(Upgrade("u-1", someDeps(), got)), stepNames(Upgrade("u-1", someDeps(), f)); !slices.Equal(a, b) {
		t.Errorf("the plan made from the journal: %q, not %q", a, b)
	}
}

// fill gives every field that is empty a value, so that one which JSON drops shows.
func fill(t *testing.T, v reflect.Value, where string) {
	switch v.Interface().(type) {
	case builds.Version:
		if v.IsZero() {
			v.Set(reflect.ValueOf(version(t, "v4.5.1")))
		}
		return
	case time.Time:
		if v.IsZero() {
			v.Set(reflect.ValueOf(morning))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(t, v.Elem(), where)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), where+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fill(t, v.Index(i), where)
		}
	case reflect.Map:
		if v.Len() == 0 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, k, where)
			fill(t, e, where)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(k, e)
		}
	case reflect.String:
		if v.Len() == 0 {
			v.SetString(where)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		if v.IsZero() {
			v.SetInt(7)
		}
	case reflect.Float64:
		v.SetFloat(0.25)
	default:
		t.Fatalf("%s is a %s", where, v.Type())
	}
}
