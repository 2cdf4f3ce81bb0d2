package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheShippedUnitsStartWatchersThatSystemdTakes(t *testing.T) {
	files, err := filepath.Glob("../../docs/units/*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	self, err := os.Executable() // systemd-analyze wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no"}
	dir := t.TempDir()
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, filepath.Base(file))
		write(t, at, strings.ReplaceAll(string(b), "/usr/local/bin/refit", self))
		args = append(args, at)
		if strings.HasSuffix(file, ".timer") {
			continue
		}
		_, line, _ := strings.Cut(string(b), "ExecStart=/usr/local/bin/refit ")
		line, _, _ = strings.Cut(line, "\n")
		words := strings.Fields(strings.Replace(line, "/etc/refit/refit.yml", filepath.Join(dir, "none.yml"), 1))
		if code, _, errs := command(t.Context(), words...); code != exitUsage || !strings.Contains(errs, "none.yml") {
			t.Errorf("%s: %v: code %d: %s", file, words, code, errs)
		}
		for _, want := range []string{"\nKillMode=mixed\n", "\nTimeoutStopSec=1h\n"} { // a run is stopped at its next safe point
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %s", file, want)
			}
		}
	}
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd-analyze, which reads unit files as systemd does, is not on this machine: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze: %v: %s", err, out)
	}
}
