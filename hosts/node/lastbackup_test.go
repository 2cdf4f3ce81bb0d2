package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tells(t *testing.T, script string) LastBackupIn {
	t.Helper()
	file := filepath.Join(t.TempDir(), "last-backup")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return LastBackupIn{Argv: []string{file, "majel"}, Within: 20 * time.Second}
}

func TestACommandTellsWhenTheLastBackupWasMade(t *testing.T) {
	t.Setenv("SUDO_USER", "")
	want := time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)
	for name, script := range map[string]string{
		"RFC 3339":             "echo 2026-11-22T07:30:00Z",
		"of another zone":      "echo 2026-11-22T02:30:00-05:00",
		"seconds":              "echo 1795332600",
		"noise goes elsewhere": "echo looking for $1 >&2; echo 1795332600",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := Machine{}.lastBackup(t.Context(), tells(t, script), nil, nil)
			if err != nil || !out.At.Equal(want) || time.Since(out.Clock) > time.Minute {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}

func TestACommandThatTellsNoTimeIsAnError(t *testing.T) {
	t.Setenv("SUDO_USER", "")
	for name, c := range map[string]struct{ script, want string }{
		"nothing":      {"true", "it printed nothing"},
		"words":        {"echo yesterday", `"yesterday" is no time`},
		"milliseconds": {"echo 1795332600000", "is no time"},
		"a negative":   {"echo -5", "is no time"},
		"two lines":    {"echo 1795332600; echo 1795332601", "is no time"},
		"a failure":    {"echo 1795332600; echo one; echo the bucket is away >&2; exit 3", "exit status 3: the bucket is away"},
		"too much":     {"head -c 5000 /dev/zero", "printed more than 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := (Machine{}).lastBackup(t.Context(), tells(t, c.script), nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	slow := tells(t, "exec sleep 60")
	slow.Within = 50 * time.Millisecond
	if _, err := (Machine{}).lastBackup(t.Context(), slow, nil, nil); code(err) != CodeTimeout || !strings.Contains(err.Error(), "did not end within 50ms") {
		t.Errorf("%v", err)
	}
	for _, argv := range [][]string{nil, {"last-backup"}} {
		if _, err := (Machine{}).lastBackup(t.Context(), LastBackupIn{Argv: argv, Within: time.Second}, nil, nil); err == nil {
			t.Errorf("ran %q", argv)
		}
	}
	t.Setenv("SUDO_USER", "nobody-of-that-name")
	if _, err := (Machine{}).lastBackup(t.Context(), tells(t, "echo 1795332600"), nil, nil); err == nil {
		t.Error("ran with more rights than those of the user who logged in")
	}
}
