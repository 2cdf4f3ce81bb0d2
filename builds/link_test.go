package builds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEachProgramIsTakenFromItsOwnRuntime(t *testing.T) {
	for name, c := range map[string]struct {
		ruby, node []string // what lies in each folder
		first      string   // "" for a refusal
	}{
		"a folder each":                 {[]string{"ruby"}, []string{"node"}, "ruby"},
		"Ruby's folder has a Node too":  {[]string{"ruby", "node"}, []string{"node"}, "node"},
		"Node's folder has a Ruby too":  {[]string{"ruby"}, []string{"node", "ruby"}, "ruby"},
		"both folders have both":        {[]string{"ruby", "node"}, []string{"node", "ruby"}, ""},
		"one folder for both, like usr": {[]string{"ruby", "node"}, nil, "ruby"},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := func(programs []string) string {
				dir := t.TempDir()
				for _, p := range programs {
					if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(dir, "bin", p), nil, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				return dir
			}
			var tools Toolchain
			tools.Ruby.Prefix = prefix(c.ruby)
			tools.Node.Prefix = tools.Ruby.Prefix
			if c.node != nil {
				tools.Node.Prefix = prefix(c.node)
			}
			order, err := lookup(tools)
			if c.first == "" {
				if err == nil || !strings.Contains(err.Error(), "a folder of its own") {
					t.Errorf("got %v, %v", order, err)
				}
				return
			}
			if err != nil || order[0] != c.first {
				t.Fatalf("got %v, %v; want %s first", order, err, c.first)
			}
			if text := wrapper("/r", "exec node", order, false); !strings.Contains(text, "PATH=/r/.refit/"+c.first+"/bin:/r/.refit/") {
				t.Errorf("got %s", text)
			}
		})
	}
}
