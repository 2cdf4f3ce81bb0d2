package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

func TestASmallFileIsWrittenOnceAndItsPreviousContentTold(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	file := filepath.Join(t.TempDir(), "web.conf")
	if _, err := a.FileGet(t.Context(), file); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("no file: %v, want ErrNotFound", err)
	}
	for _, step := range []struct {
		content string
		want    node.FilePutOut
	}{
		{"one", node.FilePutOut{Changed: true}},
		{"two", node.FilePutOut{Changed: true, Existed: true, Previous: []byte("one")}},
		{"two", node.FilePutOut{Existed: true, Previous: []byte("two")}},
	} {
		got, err := a.FilePut(t.Context(), node.FilePutIn{Path: file, Content: []byte(step.content), Mode: 0o640})
		if err != nil || got.Changed != step.want.Changed || got.Existed != step.want.Existed || string(got.Previous) != string(step.want.Previous) {
			t.Errorf("writing %q: %+v, %v", step.content, got, err)
		}
	}
	got, err := a.FileGet(t.Context(), file)
	if err != nil || string(got.Content) != "two" || got.Mode != 0o640 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAFileThatItsProgramRefusesIsNotLeftInPlace(t *testing.T) {
	// Runs the real command, not systemd's.
	m := node.Machine{State: t.TempDir()}
	a := &node.Agent{Host: "sulu", Shell: hoststest.NodeShell{Machine: m}, Binary: "/proc/self/exe", Epoch: func() int64 { return 1 }}
	dir := t.TempDir()
	file := filepath.Join(dir, "web.conf")
	if err := os.WriteFile(file, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, argv := range map[string][]string{
		"before": {"grep", "-q", "good", "{}"},
		"after":  {"grep", "-q", "good", file},
	} {
		in := node.FilePutIn{Path: file, Content: []byte("bad"), Validate: argv}
		if _, err := a.FilePut(t.Context(), in); err == nil || !strings.Contains(err.Error(), "refuses") {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "good" {
			t.Errorf("%s: left %q, %v", name, b, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
