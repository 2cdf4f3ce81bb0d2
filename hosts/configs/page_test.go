package configs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"vmst.io/refit/hosts/configs"
)

// The example of docs/configs.md is rendered, and gives what the page says.
func TestThePagesExampleIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/configs.md")
	if err != nil {
		t.Fatal(err)
	}
	// A block follows a line with the file's name in it; the one below "## files.yml" is that file.
	files := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)([^\n]*)\n\n```\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if name := regexp.MustCompile("`((?:templates|rendered)/[^`]+)`").FindStringSubmatch(m[1]); name != nil {
			files[name[1]] = m[2]
		}
		if m[1] == "## files.yml" {
			files["templates/files.yml"] = m[2]
		}
	}
	if len(files) != 5 {
		t.Fatalf("the page has %d files, want 5", len(files))
	}
	from := folder()
	for name, content := range files {
		if below, ok := strings.CutPrefix(name, configs.Templates+"/"); ok {
			from[below] = folder("x", content)["x"]
		}
	}
	tree, err := configs.Tree(render(t, from), release())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if strings.HasPrefix(name, configs.Rendered) && string(tree[name]) != want {
			t.Errorf("%s is\n%s\nthe page says\n%s", name, tree[name], want)
		}
	}
	lock := string(tree[configs.LockFile])
	for _, want := range []string{"owner: mastodon\n", "mode: \"0640\"\n", "- mastodon-web.service\n", "- DB_PASS\n"} {
		if !strings.Contains(lock, want) {
			t.Errorf("the lock lacks %q", want)
		}
	}
}
