package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// trial is a release that workflows of tests pin.
const trial = "vmst/refit@0123456789abcdef0123456789abcdef01234567"

func TestTheCallersPinOneCommitAndNeverReplaceAFile(t *testing.T) {
	dir := t.TempDir()
	init := func() (int, string) {
		code, out, errs := command(t.Context(), "init", "--github", "--dir", dir, "--refit", trial, "--release", "v1.2.3")
		return code, out + errs
	}
	if code, out := init(); code != exitDone || strings.Count(out, "written: ") != 2 {
		t.Fatalf("code %d: %s", code, out)
	}
	upgrade := filepath.Join(dir, ".github", "workflows", "upgrade.yml")
	for _, name := range []string{upgrade, filepath.Join(dir, ".github", "workflows", "watch.yml")} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, base := string(b), filepath.Base(name)
		for _, left := range []string{"OWNER", "000000", "v0.0.0"} {
			if strings.Contains(text, left) {
				t.Errorf("%s has %s left", base, left)
			}
		}
		for _, want := range []string{
			"uses: vmst/refit/.github/workflows/" + base + "@0123456789abcdef0123456789abcdef01234567 # v1.2.3\n", "\n      version: v1.2.3\n",
			"\n      commit: 0123456789abcdef0123456789abcdef01234567\n", "\npermissions: {}\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", base, want)
			}
		}
	}
	write(t, upgrade, "mine")
	if code, out := init(); code != exitDone || strings.Count(out, "left as it is: ") != 2 || strings.Contains(out, "written") {
		t.Errorf("code %d: %s", code, out)
	}
	if b, err := os.ReadFile(upgrade); err != nil || string(b) != "mine" {
		t.Errorf("%v, %q", err, b)
	}
}

func TestARefitThatIsNoReleasePinsNothingByGuess(t *testing.T) {
	dir := t.TempDir()
	for line, says := range map[string]string{
		"":                                       "--refit OWNER/NAME@COMMIT",
		"--refit vmst/refit":                     "--refit OWNER/NAME@COMMIT",
		"--refit vmst/refit@v1.2.3":              "--refit OWNER/NAME@COMMIT",
		"--refit x\ny/refit@" + trial[11:]:       "--refit OWNER/NAME@COMMIT",
		"--refit " + trial:                       "--release",
		"--refit " + trial + " --release latest": "--release",
	} {
		args := []string{"init", "--github", "--dir", dir}
		if line != "" {
			args = append(args, strings.Split(line, " ")...)
		}
		if code, _, errs := command(t.Context(), args...); code != exitUsage || !strings.Contains(errs, says) {
			t.Errorf("%q: code %d: %s", line, code, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".github")); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// The workflows and their callers as actionlint reads them. .ci/lint runs it always.
func TestActionlintTakesTheWorkflowsAndTheCallers(t *testing.T) {
	program := os.Getenv("REFIT_ACTIONLINT")
	if program == "" {
		t.Skip("REFIT_ACTIONLINT does not name an actionlint, so the workflows were not read here; .ci/lint reads them")
	}
	dir := t.TempDir()
	if code, _, errs := command(t.Context(), "init", "--github", "--dir", dir, "--refit", trial, "--release", "v1.2.3"); code != exitDone {
		t.Fatal(errs)
	}
	var files []string
	for _, pattern := range []string{"../../.github/workflows/*.yml", filepath.Join(dir, ".github/workflows/*.yml")} {
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) < 2 {
			t.Fatalf("%s: %v, %v", pattern, list, err)
		}
		files = append(files, list...)
	}
	if out, err := exec.CommandContext(t.Context(), program, files...).CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, out)
	}
}
