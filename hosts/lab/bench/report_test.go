package bench

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
)

// rolled is a run that went well, of so many seconds.
func rolled(contender string, round int, whole float64) Run {
	return Run{
		Contender: contender, Round: round, Whole: whole, Phases: map[string]float64{phasePlace: whole / 4, phaseRoll: whole / 2},
		Nodes:   map[string]NodeRun{"kirk": {Out: 4, Drain: 1}, "spock": {Out: 3, Drain: 1}, "scotty": {Out: 9}, "decker": {Out: 9}},
		BytesTo: map[string]int64{"kirk": 9e6}, SentTo: map[string]int64{"kirk": 8e6, "spock": 4e6, "uhura": 90e6},
		ControllerPeak: int64(whole * 1e6), HostPeak: map[string]int64{"kirk": 50e6, "uhura": 80e6}, Logins: map[string]int{"kirk": 1, "sulu": 2},
		Users: Users{Sent: 100, Failed: round - 1}, Log: "log",
	}
}

var boots = map[string]Boot{"kirk": {Seconds: 2}, "spock": {Seconds: 2}, "scotty": {Seconds: 6}, "decker": {Seconds: 6}}

func reportOf(t *testing.T, runs ...Run) *Report {
	t.Helper()
	r := newReport(Choice{Rounds: 3})
	r.Boot, r.Program = boots, Program{Bytes: 17e6, HelpSeconds: 0.03}
	r.Artifacts = map[string]Artifact{"v4.5.21": {Release: "v4.5.21", Files: 33000, Bytes: 350e6, Packed: 88e6}}
	for _, run := range runs {
		if run.Error == "" {
			if err := run.judge(theFleet(), boots); err != nil {
				t.Fatal(err)
			}
		}
		r.add(Case{"patch", Free}, run)
	}
	return r
}

func TestRatiosAreThoseOfTheMedians(t *testing.T) {
	failed := Run{Contender: Refit, Round: 3, Error: "kirk does not answer", Log: "there"}
	r := reportOf(t, rolled(Refit, 1, 20), rolled(Hand, 1, 40), rolled(Hand, 2, 20), rolled(Refit, 2, 10), rolled(Hand, 3, 24), failed, rolled(Ansible, 1, 60))
	x := r.Cases[0]
	refit := x.Contenders[Refit]
	if refit.Counted != 2 || refit.Whole != 15 || refit.Place != 3.75 || refit.Roll != 7.5 || len(refit.Runs) != 3 {
		t.Errorf("refit: %+v", refit)
	}
	if refit.SentToNode != 3e6 || refit.Connections != 3 || refit.ControllerPeak != 20e6 || refit.HostPeak != 80e6 || refit.Failed != 1 || refit.Requests != 200 {
		t.Errorf("refit: %+v", refit)
	}
	if x.RatioToHand == nil || *x.RatioToHand != 15.0/24 || x.RatioToCapistrano != nil || x.RatioToAnsible == nil || *x.RatioToAnsible != 0.25 {
		t.Errorf("ratios %v, %v, %v", x.RatioToHand, x.RatioToCapistrano, x.RatioToAnsible)
	}
	if !about(refit.ToDrainAndBoot["kirk"], 4.0/3) || !about(refit.ToDrainAndBoot["spock"], 1) || !about(refit.ToDrainAndBoot["scotty"], 1.5) {
		t.Errorf("out by drain and boot: %v", refit.ToDrainAndBoot)
	}
	met := map[string]bool{}
	for _, a := range r.Aims {
		met[a.Name] = a.Met
	}
	want := map[string]bool{
		"whole roll to the hand-written one": true, "whole roll to Ansible's": true, "kirk out of rotation to drain plus boot": false,
		"spock out of rotation to drain plus boot": true, "memory of the controller": true, "memory on a host": true,
		"failures that users met": false, "refit --help": true,
	}
	if !maps.Equal(met, want) {
		t.Errorf("aims %v, want %v", met, want)
	}
	if err := r.Failed(); err == nil || !strings.Contains(err.Error(), "kirk does not answer (there)") || !strings.Contains(err.Error(), "1 runs") {
		t.Errorf("failed: %v", err)
	}
}

func TestTheFileSaysWhatItsFiguresAre(t *testing.T) {
	dir := t.TempDir()
	r := reportOf(t, rolled(Refit, 1, 20), rolled(Hand, 1, 40), rolled(Capistrano, 1, 50), rolled(Ansible, 1, 80))
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "roll.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema string
		Cases  []struct {
			Kind, Link, From, To string
			Hand                 float64 `json:"ratio_to_hand"`
			Capistrano           float64 `json:"ratio_to_capistrano"`
			Ansible              float64 `json:"ratio_to_ansible"`
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	x := got.Cases[0]
	if got.Schema != "refit.bench/v1" || x.Kind != "patch" || x.Link != "free" || x.From != "v4.5.20" || x.To != "v4.5.21" {
		t.Errorf("%+v", got)
	}
	if x.Hand != 0.5 || x.Capistrano != 0.4 || x.Ansible != 0.25 {
		t.Errorf("%+v", x)
	}
}

func TestTheTableShowsEveryContenderAndWhetherTheAimsAreMet(t *testing.T) {
	text := reportOf(t, rolled(Refit, 1, 20), rolled(Hand, 1, 20), Run{Contender: Ansible, Round: 1, Error: "no python"}).String()
	for _, want := range []string{
		"patch v4.5.20 → v4.5.21, link free", "refit/hand    1.00   1.00", "0/1", "v4.5.21 33000 files, 350 MB, 88.0 MB packed",
		"bare boot: decker 6.00 s", "refit: 17.0 MB, --help in 30 ms", "aims, patch v4.5.20",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "whole roll to the hand-written one") && !strings.HasSuffix(line, "MISSED") {
			t.Errorf("a ratio of 1 meets the aim of 0.9: %s", line)
		}
		if strings.Contains(line, "memory of the controller") && (!strings.HasSuffix(line, "met") || !strings.Contains(line, "20 MB")) {
			t.Errorf("20 MB are not at most 60: %s", line)
		}
	}
}

func TestTrafficOfUsersIsTakenOff(t *testing.T) {
	var r Run
	r.traffic(map[string]lab.Traffic{"kirk": {To: 1000}, "spock": {To: 10}}, map[string]lab.Traffic{"kirk": {To: 51000}, "spock": {To: 20}}, map[string]float64{"kirk": 1000, "spock": 50}, 10)
	if r.BytesTo["kirk"] != 50000 || r.SentTo["kirk"] != 40000 || r.SentTo["spock"] != 0 {
		t.Errorf("%v, %v", r.BytesTo, r.SentTo)
	}
}

func TestARunThatWasNotMeasuredWholeDoesNotCount(t *testing.T) {
	lost := rolled(Hand, 1, 10)
	delete(lost.Nodes, "decker")
	if err := lost.judge(theFleet(), boots); err == nil {
		t.Error("a run without decker counts")
	}
	whole := rolled(Hand, 1, 10)
	if err := whole.judge(theFleet(), map[string]Boot{}); err == nil {
		t.Error("a run counts without the nodes' bare boot")
	}
	said := &listener{}
	silent := Run{Contender: Hand, Whole: 3}
	if err := silent.times(said, at(t, "01:00:00"), at(t, "01:00:03")); err == nil || !strings.Contains(err.Error(), "place") {
		t.Errorf("a tool that tells no phase counts: %v", err)
	}
}

func TestMedianOfEvenAndOddNumbers(t *testing.T) {
	for _, test := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 3}, 3}, {[]float64{4, 1, 9, 2}, 3}} {
		if got := median(test.of); got != test.want {
			t.Errorf("median of %v is %v, want %v", test.of, got, test.want)
		}
	}
}

func TestTheEndOfWhatAToolSaidIsInTheError(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(os.WriteFile(filepath.Join(dir, "stderr"), nil, 0o600), os.WriteFile(filepath.Join(dir, "stdout"), []byte("1\n2\n3\n4\n5\n6\n7\nfatal: no\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if got := lastLines(dir, "stderr", "stdout"); got != "3; 4; 5; 6; 7; fatal: no" {
		t.Errorf("got %q", got)
	}
	if got := lastLines(dir, "stderr"); got != "it said nothing" {
		t.Errorf("got %q", got)
	}
}

func TestAProgramIsWeighedAndStarted(t *testing.T) {
	p, err := measureProgram(t.Context(), "/bin/true")
	if err != nil || p.Bytes == 0 || p.HelpSeconds <= 0 || p.HelpSeconds > 5 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := measureProgram(t.Context(), "/bin/false"); err == nil {
		t.Error("a program that fails is measured")
	}
}
