package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

// job is a job of GitHub Actions with its files; asked again, the step's outputs by name.
func job(t *testing.T) (a *actions, log *bytes.Buffer, summary func() string, outputs func() map[string]string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("GITHUB_ACTIONS", "true")
	t.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(dir, "summary"))
	t.Setenv("GITHUB_OUTPUT", filepath.Join(dir, "output"))
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
	log = &bytes.Buffer{}
	return inActions(os.Getenv, log), log, func() string { return text("summary") }, func() map[string]string { return parseOutputs(t, text("output")) }
}

// parseOutputs reads a file of outputs as a runner does (FileCommandManager.cs).
func parseOutputs(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines) && text != ""; i++ {
		name, end, ok := strings.Cut(lines[i], "<<")
		if !ok {
			t.Fatalf("%q is no output", lines[i])
		}
		var value []string
		for i++; i < len(lines) && lines[i] != end; i++ {
			value = append(value, lines[i])
		}
		if i == len(lines) {
			t.Fatalf("%s has no end", name)
		}
		if _, twice := out[name]; twice {
			t.Errorf("%s stands there twice", name)
		}
		out[name] = strings.Join(value, "\n")
	}
	return out
}

func TestOutsideOfActionsNothingIsWrittenAndNothingBrokenUp(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	summary := filepath.Join(t.TempDir(), "summary")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	_, _, errs := command(t.Context(), "plan", "--to", "::x")
	if strings.Contains(errs, "::error") {
		t.Errorf("%q", errs)
	}
	if _, err := os.Stat(summary); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a summary was written: %v", err)
	}
	var none *actions
	none.plan(planJSON{})
	none.nothing("x")
	none.report(report.Report{})
	none.status(status{}, true)
	none.sight("x")
	none.end("plan", exitRefused, errors.New("x"))
}

func TestInActionsARefusalIsAnAnnotationASummaryAndOutputs(t *testing.T) {
	_, _, summary, outputs := job(t)
	code, out, errs := command(t.Context(), "plan", "--to", "v4.5.15", "-c", "/nowhere\n::set-output name=plan::owned", "--json")
	if code != exitUsage || !strings.Contains(out, `"refit.refusal/v1"`) {
		t.Errorf("code %d, %s", code, out)
	}
	var told []string
	for _, line := range strings.Split(out+errs, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			told = append(told, line)
		}
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "::error title=refit plan%3A usage::") || !strings.Contains(told[0], "%0A::set-output") {
		t.Errorf("commands to the runner: %q", told)
	}
	if got := outputs(); got["outcome"] != "usage" || got["exit"] != "2" || len(got) != 2 {
		t.Errorf("%v", got)
	}
	if got := summary(); !strings.HasPrefix(got, "### ❌ refit plan") || !strings.Contains(got, "/nowhere") {
		t.Errorf("%s", got)
	}
}

func TestInActionsAPlanStandsInTheSummaryAndItsHashInTheOutputs(t *testing.T) {
	a, log, summary, outputs := job(t)
	p := fleetPlan(t, way{})
	p.facts.Said = []string{"kirk says </details>\n\n<img src=x>", "password=hunter22"}
	a.plan(p.json())
	a.end("plan", exitDone, nil)
	if got := outputs(); got["plan"] != "0123456789abcdef" || got["from"] != "v4.5.15" || got["to"] != "v4.6.0" || got["outcome"] != "planned" || got["exit"] != "0" {
		t.Errorf("%v", got)
	}
	got := summary()
	for _, want := range []string{"### 🟢 v4&#46;5&#46;15 → v4&#46;6&#46;0&#58; the way is open", "Plan **0123456789abcdef**", "<summary>The plan in full</summary>", "&lt;img src=x&gt;"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if log.Len() > 0 || strings.Contains(got, "<img") || strings.Contains(got, "hunter22") {
		t.Errorf("%s\n%s", log, got)
	}
}

func TestAPlanThatIsRefusedNamesWhatStandsAgainstIt(t *testing.T) {
	a, log, summary, outputs := job(t)
	p := fleetPlan(t, way{})
	p.refused = []string{"kirk is down\n::error::owned", "no space"}
	a.plan(p.json())
	a.end("plan", exitRefused, p.refusal())
	if got := outputs(); got["outcome"] != "refused" || got["exit"] != "3" {
		t.Errorf("%v", got)
	}
	if got := strings.Count(log.String(), "\n"); got != 1 || !strings.HasPrefix(log.String(), "::error title=refit plan%3A refused::") {
		t.Errorf("%q", log)
	}
	if got := summary(); !strings.Contains(got, "### ⛔") || !strings.Contains(got, "- no space\n") {
		t.Errorf("%s", got)
	}
}

func TestARunsEndTakesThePlansPlaceInTheOutputs(t *testing.T) {
	a, log, summary, outputs := job(t)
	a.plan(fleetPlan(t, way{}).json())
	a.report(report.Summarise(pipeline.Plan{ID: "run-1", Kind: "upgrade", From: "v4.5.15", To: "v4.6.0"},
		pipeline.Result{Status: pipeline.Undone, Touched: true, Step: "roll web kirk", Err: errors.New("502 for 90 s, token=abcdefgh")}, report.Extra{Exit: exitUndone}))
	a.end("upgrade", exitUndone, silent{})
	if got := outputs(); got["outcome"] != "undone" || got["exit"] != "6" || got["run"] != "run-1" || got["plan"] == "" {
		t.Errorf("%v", got)
	}
	if !strings.Contains(log.String(), "::error title=refit upgrade%3A undone::the step's summary") {
		t.Errorf("%q", log)
	}
	if got := summary(); !strings.Contains(got, "FAILED AND TAKEN BACK") || !strings.Contains(got, "502 for 90 s") || strings.Contains(got, "abcdefgh") {
		t.Errorf("%s", got)
	}
	b, _, _, again := job(t)
	b.plan(fleetPlan(t, way{}).json())
	b.report(report.Summarise(pipeline.Plan{ID: "run-2", Kind: "upgrade", To: "v4.6.0"}, pipeline.Result{Status: pipeline.Done}, report.Extra{}))
	b.end("upgrade", exitDone, nil)
	if got := again(); got["outcome"] != "done" || got["exit"] != "0" {
		t.Errorf("%v", got)
	}
}

func TestARunThatAnEndedJobLeftIsSaidByTheNext(t *testing.T) {
	for half, want := range map[bool]string{true: "true", false: "false"} {
		a, log, summary, outputs := job(t)
		a.status(status{
			Fleet: "lab", Hosts: []report.HostRow{{Name: "kirk", Roles: "web", Release: "v4.6.0", State: "running | <b>"}}, Lease: &keeper.Lease{},
			Run: &runStatus{ID: "run-1", From: "v4.5.15", To: "v4.6.0", Stands: "interrupted in roll web kirk"}, Next: "`refit resume` to go on,\nor `refit rollback` to go back",
		}, half)
		a.end("status", exitDone, nil)
		if got := outputs(); got["half-way"] != want || got["run"] != "run-1" || got["next"] != "`refit resume` to go on, or `refit rollback` to go back" {
			t.Errorf("%v", got)
		}
		if marked := strings.HasPrefix(log.String(), "::warning title=refit%3A a run was left half way::run run-1"); marked != half {
			t.Errorf("half way %v: %q", half, log)
		}
		if got := summary(); !strings.Contains(got, "| kirk | web | v4&#46;6&#46;0 | running &#124; &#60;b&#62; |") {
			t.Errorf("%s", got)
		}
	}
}

func TestASummaryThatIsTooLargeSaysSoInsteadOfVanishing(t *testing.T) {
	a, _, summary, _ := job(t)
	for i := range 40 {
		a.sight(fmt.Sprint(i) + strings.Repeat("x", 59_000))
	}
	a.end("releases", exitDone, nil)
	if got := summary(); len(got) > 1000 || !strings.Contains(got, "larger than GitHub shows") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestWhatAJobCannotBeShownIsSaidAndChangesNothingElse(t *testing.T) {
	a, log, _, _ := job(t)
	a.summary, a.output = "/nowhere/summary", "/nowhere/output"
	a.nothing("nothing to do")
	a.end("upgrade", exitDone, nil)
	if !regexp.MustCompile(`^::warning title=refit::cannot write what the job shows: .*summary.*%0A.*output`).MatchString(log.String()) {
		t.Errorf("%q", log)
	}
}

func TestAnUpgradeThatExpectsAPlanRunsNoOther(t *testing.T) {
	p := fleetPlan(t, way{})
	for hash, want := range map[string]int{"": exitDone, p.hash: exitDone, "fedcba9876543210": exitRefused, p.hash[:8]: exitRefused} {
		if err := p.expected(hash); exitCode(err) != want {
			t.Errorf("%q: %v", hash, err)
		}
	}
	p.hash = "" // it stands so badly that there is no plan
	if err := p.expected("0123456789abcdef"); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "the plan is none now") {
		t.Errorf("%v", err)
	}
}
