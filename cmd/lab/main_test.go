package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
)

func TestWrongWordsAreUsageErrors(t *testing.T) {
	for _, words := range [][]string{
		{"cut"},
		{"cut", "kirk", "spock"},
		{"kill", "kirk"},
		{"limit", "kirk"},
		{"snapshot", "kirk"},
		{"move-redis", "now"},
		{"ssh"},
		{"exec"},
		{"cloud"},
		{"cloud", "trouble"},
		{"cloud", "backup-age", "soon", "er"},
		{"up", "--colour"},
	} {
		err := app().Run(append([]string{"lab", "--dir", t.TempDir()}, words...))
		if code(err) != exitUsage {
			t.Errorf("%v: got %v", words, err)
		}
	}
}

func TestWordsForARunningLabSayThatNoneRuns(t *testing.T) {
	for _, words := range [][]string{{"status"}, {"cut", "kirk"}, {"load"}, {"cloud", "restart"}, {"cloud", "backup-age", "1h"}, {"exec", "--", "true"}, {"ssh", "kirk"}} {
		err := app().Run(append([]string{"lab", "--dir", t.TempDir()}, words...))
		if !errors.Is(err, lab.ErrNotUp) || code(err) != exitFailed {
			t.Errorf("%v: got %v", words, err)
		}
	}
}

func TestATakenMachineHasItsOwnExitCode(t *testing.T) {
	if got := code(fmt.Errorf("cannot: %w", lab.ErrTaken)); got != exitTaken {
		t.Errorf("got %d", got)
	}
}

func TestATreesKeyFollowsContentNamesAndModes(t *testing.T) {
	dir := t.TempDir()
	key := func(word string) string {
		t.Helper()
		k, err := treeKey(dir, word)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seen := map[string]string{}
	differs := func(what, k string) {
		t.Helper()
		if other, ok := seen[k]; ok {
			t.Errorf("%s gives the key of %s", what, other)
		}
		seen[k] = what
	}
	differs("empty", key("w"))
	differs("another word", key("v"))
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	differs("a file", key("w"))
	if again := key("w"); seen[again] != "a file" {
		t.Error("the same tree gives two keys")
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	differs("an executable file", key("w"))
	if err := os.Rename(path, path+"b"); err != nil {
		t.Fatal(err)
	}
	differs("another name", key("w"))
	if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	differs("a link", key("w"))
}

func TestTheHelpNamesEveryFaultAndHidesWhatTheLabRunsItself(t *testing.T) {
	var out strings.Builder
	a := app()
	a.Writer = &out
	if err := a.Run([]string{"lab", "--help"}); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{
		"check", "up", "down", "status", "exec", "ssh", "load", "cut", "heal", "freeze", "thaw", "reboot", "poweroff", "start", "kill",
		"stop-service", "fill", "free", "limit", "unlimit", "snapshot", "restore", "promote-standby", "rebuild-standby", "move-redis", "cloud",
	} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("no word %s", word)
		}
	}
	for _, hidden := range []string{"mirrors ", "opensearch", "git-http"} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("%s is shown", hidden)
		}
	}
}
