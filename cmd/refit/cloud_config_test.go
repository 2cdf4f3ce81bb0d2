package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// withCloud is the example with its block of the cloud as it stands there.
func withCloud(t *testing.T) config {
	t.Helper()
	before, rest, ok := strings.Cut(string(exampleYML), "# cloud:\n")
	if !ok {
		t.Fatal("the example shows no cloud")
	}
	block, after, _ := strings.Cut(rest, "\n\n")
	block = regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(block, "")
	c, err := parseConfig("example.yml", []byte(before+"cloud:\n"+block+"\n\n"+after))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheExamplesCloudShowsTheDefaults(t *testing.T) {
	c := withCloud(t)
	var d cloudConfig
	if err := d.UnmarshalYAML(func(any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	got := *c.Cloud
	if got.API != d.API || got.Golden != d.Golden || got.Snapshots.Keep != d.Snapshots.Keep || got.Snapshots.Days != d.Snapshots.Days ||
		!slices.Equal(got.Snapshots.Tiers, d.Snapshots.Tiers) || len(got.Snapshots.PowerOff) > 0 {
		t.Errorf("the example shows other defaults than the code has:\n%+v\n%+v", got, d)
	}
	if got.Token == nil || got.Token.Env != "DIGITALOCEAN_ACCESS_TOKEN" || got.Balancer == "" || got.Database == "" {
		t.Errorf("%+v", got)
	}
}

func TestTheFileHasTheLastWordOnTheCloud(t *testing.T) {
	text := strings.Replace(string(exampleYML), "# cloud:", "cloud: {token: {env: A}, snapshots: {tiers: []}, golden: {days: 3}}\n#", 1)
	text = strings.Replace(text, "    address: 10.10.0.21", "    address: 10.10.0.21\n    droplet: 4711", 1)
	c, err := parseConfig("example.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := c.account(nil)
	want := &stages.Cloud{
		Fleet: "vmst.io", Tiers: []string{}, Snapshots: stages.Retention{Keep: 2, Age: 14 * day}, Golden: stages.Retention{Keep: 2, Age: 3 * day},
		Droplets: map[string]int{"kirk": 4711},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestTwoHostsCannotBeOneDroplet(t *testing.T) {
	text := strings.Replace(string(exampleYML), "    address: 10.10.0.21", "    address: 10.10.0.21\n    droplet: 7", 1)
	text = strings.Replace(text, "    address: 10.10.0.22", "    address: 10.10.0.22\n    droplet: 7", 1)
	if _, err := parseConfig("example.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), "hosts[3].droplet: 7 stands at hosts[2] already") {
		t.Error(err)
	}
}

func TestATokenThatIsNotThereIsNamedAndASecretIsNot(t *testing.T) {
	x := &session{config: withCloud(t), say: t.Logf}
	t.Setenv("DIGITALOCEAN_ACCESS_TOKEN", "")
	x.wireCloud()
	if x.deps.Cloud == nil || x.deps.Cloud.API == nil || x.deps.Cloud.Runs == nil {
		t.Fatal("no account")
	}
	for what, ask := range map[string]func() error{
		"droplets": func() error { _, err := x.deps.Cloud.API.Droplets(t.Context(), ""); return err },
		"pending":  func() error { _, _, err := x.deps.Cloud.API.Pending(t.Context(), 1); return err },
		"power":    func() error { return x.deps.Cloud.API.Power(t.Context(), 1, cloud.PowerOn) },
		"backups":  func() error { _, err := x.cloud.Backups(t.Context(), "majel"); return err },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "cloud.token: the environment has no DIGITALOCEAN_ACCESS_TOKEN") {
			t.Errorf("%s: %v", what, err)
		}
	}
	x = &session{config: withCloud(t), say: t.Logf}
	t.Setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_0123456789")
	if x.wireCloud(); x.canKeep(&stages.Facts{Snapshots: []stages.Kept{{Host: "kirk"}}}) != nil {
		t.Error("the token is there")
	}
	without := &session{say: t.Logf}
	if without.wireCloud(); without.deps.Cloud != nil || without.canKeep(&stages.Facts{}) != nil {
		t.Error("a fleet without an account has one")
	}
}

// At night, on another machine, status and the way back have to do without the token.
func TestASessionOpensWithoutTheTokenOfTheAccount(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("DIGITALOCEAN_ACCESS_TOKEN", "")
	path := filepath.Join(t.TempDir(), "refit.yml")
	text := strings.Replace(string(exampleYML), "# cloud:", "cloud: {token: {env: DIGITALOCEAN_ACCESS_TOKEN}, database: majel, balancer: pike}\nbackups: {max_age: 26h}\n#", 1)
	write(t, path, text)
	x, err := openOver(path, "", "rollback", t.Logf, noWay)
	if err != nil {
		t.Fatal(err)
	}
	if x.deps.Cloud == nil || x.deps.Front == nil || x.deps.Backups.Provider == nil {
		t.Errorf("%+v", x.deps)
	}
	done := &stages.Facts{Snapshots: []stages.Kept{{Host: "kirk", Image: 7}}}
	if err := x.canKeep(done); err != nil {
		t.Error(err)
	}
	for what, k := range map[string]stages.Kept{"not made yet": {Host: "kirk"}, "switched off": {Host: "kirk", Image: 7, Down: true}} {
		if err := x.canKeep(&stages.Facts{Snapshots: []stages.Kept{k}}); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "cloud.token") || !strings.Contains(err.Error(), "`refit rollback`") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestARunWhoseJournalCannotBeReadCountsAsLeftHalfWay(t *testing.T) {
	dir := t.TempDir()
	shelf := &keeper.Dir{Path: dir}
	asked := time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)
	save := func(id string, status pipeline.Status, facts any) {
		t.Helper()
		p := pipeline.Plan{ID: id, Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: facts, Steps: []pipeline.Step{{Stage: timed{"build"}}}}
		j := pipeline.NewJournal(p, shelf, 1, asked)
		if res := pipeline.Execute(t.Context(), p, j, pipeline.Options{}); res.Status != pipeline.Done {
			t.Fatal(res.Err)
		}
		b, err := shelf.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var raw map[string]any
		if err := json.Unmarshal(b, &raw); err != nil {
			t.Fatal(err)
		}
		raw["outcome"] = status
		if b, err = json.Marshal(raw); err != nil {
			t.Fatal(err)
		}
		if err := shelf.Save(t.Context(), id, 1, 99, b); err != nil {
			t.Fatal(err)
		}
	}
	save("20261122-073000-aaaaa", pipeline.Undone, &stages.Facts{Snapshots: []stages.Kept{{Tier: "web", Host: "kirk", Name: "x", Asked: asked}}})
	save("20261122-083000-bbbbb", pipeline.Person, &stages.Facts{})
	save("20261122-093000-ccccc", pipeline.Done, &struct {
		Golden []stages.Kept `json:"golden"`
		New    string        `json:"of_a_newer_refit"`
	}{[]stages.Kept{{Tier: "web"}}, "x"})
	runs, err := runsOn(t.Context(), shelf)
	if err != nil || len(runs) != 3 {
		t.Fatalf("%+v, %v", runs, err)
	}
	by := map[string]stages.CloudRun{}
	for _, r := range runs {
		by[r.ID[16:]] = r
	}
	if a := by["aaaaa"]; a.Open || len(a.Snapshots) != 1 || !a.Snapshots[0].Asked.Equal(asked) {
		t.Errorf("undone: %+v", a)
	}
	if b, c := by["bbbbb"], by["ccccc"]; !b.Open || c.Open || len(c.Golden) != 1 {
		t.Errorf("half way: %+v; done: %+v", b, c)
	}
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "aaaaa") {
			return err
		}
		return os.WriteFile(dir+"/"+path, []byte("{"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs, err = runsOn(t.Context(), shelf); err != nil || !slices.ContainsFunc(runs, func(r stages.CloudRun) bool { return strings.HasSuffix(r.ID, "aaaaa") && r.Open }) {
		t.Errorf("%+v, %v", runs, err)
	}
	if _, err := runsOn(t.Context(), mute{shelf}); err == nil {
		t.Error("a shelf that cannot be read has no runs")
	}
}

// mute is a shelf that cannot be read.
type mute struct{ keeper.Shelf }

func (mute) List(context.Context) ([]keeper.Entry, error) { return nil, errors.New("no answer") }

func TestStatusNamesTheImagesOfTheRun(t *testing.T) {
	st := status{Run: &runStatus{ID: "u-1", Images: []string{"snapshot of the web node kirk with v4.5.14: image 7"}}}
	var b strings.Builder
	if err := st.text(&b); err != nil || !strings.Contains(b.String(), "\n  snapshot of the web node kirk with v4.5.14: image 7\n") {
		t.Errorf("%v: %s", err, b.String())
	}
}
