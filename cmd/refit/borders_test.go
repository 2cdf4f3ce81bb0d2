package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "vmst.io/refit"

// doors: each module of another's enters through the folders named, and no other.
// docs/dependencies.md is the same table for people.
var doors = map[string][]string{
	"github.com/Masterminds/semver/v3":    {"builds", "builds/toolchain"},
	"github.com/aymanbagabas/go-udiff":    {"hosts/configs"},
	"github.com/cenkalti/backoff/v5":      {"builds", "hosts/cloud", "hosts/github", "hosts/ssh"},
	"github.com/charmbracelet/lipgloss":   {"pipeline/report"},
	"github.com/coder/websocket":          {"hosts/lab", "hosts/mastodon"},
	"github.com/digitalocean/godo":        {"hosts/cloud"},
	"github.com/dustin/go-humanize":       {"cmd/refit", "stages"},
	"github.com/getkin/kin-openapi":       {"hosts/cloud/cloudtest"},
	"github.com/go-git/go-git/v5":         {"hosts/git"},
	"github.com/goccy/go-yaml":            {"cmd/refit", "hosts/configs", "hosts/lab"},
	"github.com/google/go-github/v60":     {"hosts/github"},
	"github.com/hiddeco/sshsig":           {"hosts/ssh"},
	"github.com/jackc/pgx/v5":             {"hosts/mastodon"},
	"github.com/joho/godotenv":            {"hosts/mastodon"},
	"github.com/klauspost/compress":       {"hosts/node"},
	"github.com/minio/minio-go/v7":        {"builds/store"},
	"github.com/prometheus/client_golang": {"pipeline/report"},
	"github.com/redis/go-redis/v9":        {"hosts/mastodon"},
	"github.com/skeema/knownhosts":        {"hosts/ssh"},
	"github.com/slack-go/slack":           {"pipeline/report"},
	"github.com/urfave/cli/v2":            {"cmd/lab", "cmd/refit"},
	"github.com/yuin/goldmark":            {"builds/notes"},
	"golang.org/x/crypto/ssh":             {"hosts/git", "hosts/hoststest", "hosts/ssh"},
	"golang.org/x/net/html":               {"hosts/mastodon"},
	"golang.org/x/sync":                   {"builds/store", "hosts/lab", "hosts/lab/bench", "hosts/mastodon", "hosts/node", "stages"},
	"golang.org/x/sys":                    {"builds", "hosts/lab", "hosts/node"},
	"golang.org/x/term":                   {"cmd/refit", "pipeline/report"},
}

// testDoors are what tests import beyond the doors of their own folder.
var testDoors = map[string][]string{
	"github.com/alicebob/miniredis/v2":         {"hosts/mastodon"},
	"github.com/chromedp/cdproto":              {"pipeline/report/webpage"},
	"github.com/chromedp/chromedp":             {"pipeline/report/webpage"},
	"github.com/getkin/kin-openapi":            {"hosts/github/githubtest"},
	"github.com/google/go-cmp":                 {"builds", "builds/attest", "builds/notes", "builds/toolchain", "builds/upstream", "hosts/git", "hosts/mastodon", "hosts/nginx", "hosts/node"},
	"github.com/muesli/termenv":                {"pipeline/report"},
	"github.com/santhosh-tekuri/jsonschema/v6": {"builds/attest"},
	"github.com/yuin/goldmark":                 {"pipeline/report"},
	"golang.org/x/net/html":                    {"pipeline/report/webpage"},
}

// leaves of hosts that its other folders, and those of builds, may import.
var leaves = []string{"hosts/ssh", "hosts/git", "hosts/github", "hosts/cloud", "hosts/node"}

// testOnly folders are imported by tests and by the lab's own command alone.
var testOnly = []string{"hosts/lab", "hosts/lab/bench", "hosts/lab/standin", "hosts/hoststest", "hosts/cloud/cloudtest", "hosts/github/githubtest", "pipeline/report/slacktest"}

func TestImportsGoOneWayAndEachVendorHasOneDoor(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	used := map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imp := range p.Imports {
			used["doors "+behind(doors, imp)+" "+from] = true
			if why := forbidden(from, imp); why != "" {
				t.Errorf("%s imports %s: %s", from, imp, why)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			used["testDoors "+behind(testDoors, imp)+" "+from] = true
			if why := forbiddenInTests(from, imp); why != "" {
				t.Errorf("tests of %s import %s: %s", from, imp, why)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list named %d packages: the check saw too little", seen)
	}
	for name, table := range map[string]map[string][]string{"doors": doors, "testDoors": testDoors} {
		for vendor, at := range table {
			for _, from := range at {
				if !used[name+" "+vendor+" "+from] {
					t.Errorf("%s lets %s in at %s, and nobody comes", name, vendor, from)
				}
			}
		}
	}
}

// behind is the module of a table that an import belongs to, "" if none.
func behind(table map[string][]string, imp string) string {
	for vendor := range table {
		if imp == vendor || strings.HasPrefix(imp, vendor+"/") {
			return vendor
		}
	}
	return ""
}

// another tells whether an import is neither the standard library's nor ours:
// only paths of the standard library have no dot in their first part.
func another(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".") && imp != module && !strings.HasPrefix(imp, module+"/")
}

// atDoor tells why a package may not import another's module, or nothing.
func atDoor(from, imp string) string {
	vendor := behind(doors, imp)
	switch {
	case vendor == "":
		return "no door is named for it: name one here and in docs/dependencies.md, with the reason"
	case !slices.Contains(doors[vendor], from):
		return "that vendor's door is " + strings.Join(doors[vendor], ", ")
	}
	return ""
}

// forbiddenInTests tells why the tests of a package may not import imp, or nothing.
func forbiddenInTests(from, imp string) string {
	if another(imp) {
		if slices.Contains(testDoors[behind(testDoors, imp)], from) {
			return ""
		}
		return atDoor(from, imp)
	}
	to, ours := strings.CutPrefix(imp, module+"/")
	if ours && slices.Contains(testOnly, to) {
		return ""
	}
	if ours && strings.HasPrefix(from, "pipeline") && !strings.HasPrefix(to, "pipeline") {
		return "the engine is tested without the rest"
	}
	return ""
}

// forbidden tells why package from may not import imp, or nothing.
func forbidden(from, imp string) string {
	if another(imp) {
		return atDoor(from, imp)
	}
	to, ours := strings.CutPrefix(imp, module+"/")
	top, _, _ := strings.Cut(from, "/")
	if !ours {
		return ""
	}
	toTop, _, _ := strings.Cut(to, "/")
	if slices.Contains(testOnly, to) && from != "cmd/lab" && !slices.Contains(testOnly, from) {
		return "it is for tests and the lab"
	}
	isParent := strings.HasPrefix(from, to+"/")
	switch top {
	case "cmd":
		return ""
	case "stages":
		if toTop == "cmd" {
			return "stages stand below cmd"
		}
	case "builds":
		if toTop == "hosts" || isParent || (from == "builds" && strings.HasPrefix(to, "builds/")) {
			return ""
		}
		if strings.HasPrefix(to, "builds/") || to == "builds" {
			return "a folder of builds imports builds and hosts, no sibling"
		}
		return "builds stands on hosts alone"
	case "hosts":
		if isParent || (slices.Contains(leaves, to) && !slices.Contains(leaves, from)) || (slices.Contains(testOnly, from) && toTop == "hosts") {
			return ""
		}
		return "a folder of hosts imports hosts and the leaves " + strings.Join(leaves, ", ")
	case "pipeline":
		if !isParent {
			return "pipeline knows nothing of the rest"
		}
	}
	return ""
}

func TestTheBorderCheckRefusesWhatItMust(t *testing.T) {
	for _, wrong := range [][2]string{
		{"pipeline", module + "/hosts"},
		{"pipeline", "github.com/goccy/go-yaml"},
		{"hosts/nginx", module + "/hosts/mastodon"},
		{"hosts/ssh", module + "/hosts/node"},
		{"hosts/mastodon", module + "/stages"},
		{"stages", module + "/hosts/lab"},
		{"stages", "github.com/go-git/go-git/v5"},
		{"builds", module + "/pipeline"},
		{"stages", module + "/cmd/refit"},
		{"stages", "github.com/nobody/asked"},
		{"hosts/node", "gopkg.in/yaml.v3"},
		{"hosts/nginx", "github.com/google/go-cmp/cmp"},
		{"cmd/refit", "github.com/digitalocean/godo"},
		{"hosts/node", "golang.org/x/crypto/sha3"},
	} {
		if forbidden(wrong[0], wrong[1]) == "" {
			t.Errorf("%s may import %s, and must not", wrong[0], wrong[1])
		}
	}
	for _, right := range [][2]string{
		{"stages", module + "/pipeline"},
		{"hosts/nginx", module + "/hosts/node"},
		{"builds/upstream", module + "/hosts/git"},
		{"cmd/lab", module + "/hosts/lab"},
	} {
		if why := forbidden(right[0], right[1]); why != "" {
			t.Errorf("%s may not import %s: %s", right[0], right[1], why)
		}
	}
	for _, wrong := range [][2]string{
		{"hosts/ssh", "github.com/stretchr/testify/assert"},
		{"stages", "github.com/alicebob/miniredis/v2"},
		{"pipeline", module + "/stages"},
		{"cmd/refit", "github.com/muesli/termenv"},
	} {
		if forbiddenInTests(wrong[0], wrong[1]) == "" {
			t.Errorf("tests of %s may import %s, and must not", wrong[0], wrong[1])
		}
	}
	for _, right := range [][2]string{
		{"hosts/nginx", "github.com/google/go-cmp/cmp"},
		{"hosts/ssh", "golang.org/x/crypto/ssh/agent"},
		{"cmd/refit", module + "/hosts/lab"},
	} {
		if why := forbiddenInTests(right[0], right[1]); why != "" {
			t.Errorf("tests of %s may not import %s: %s", right[0], right[1], why)
		}
	}
}

// The page for people says what go.mod requires and what the tables let in.
func TestThePageOfDependenciesIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	if len(direct) < 10 {
		t.Fatalf("go.mod requires %d modules directly: the check saw too little", len(direct))
	}
	for _, fault := range pageFaults(string(text), direct) {
		t.Error(fault)
	}
	for name, change := range map[string]func(string) (string, []string){
		"a requirement that the page lacks": func(s string) (string, []string) { return s, append(slices.Clone(direct), "example.com/new") },
		"a row that go.mod lacks": func(s string) (string, []string) {
			return s, slices.DeleteFunc(slices.Clone(direct), func(m string) bool { return m == "github.com/joho/godotenv" })
		},
		"another door": func(s string) (string, []string) { return strings.Replace(s, "| hosts/node |", "| hosts |", 1), direct },
		"a lost row": func(s string) (string, []string) {
			return strings.Replace(s, "| github.com/joho/godotenv |", "| x |", 1), direct
		},
		"no reason": func(s string) (string, []string) {
			return strings.Replace(s, "| zstd for what is sent to nodes |", "| |", 1), direct
		},
	} {
		if page, required := change(string(text)); len(pageFaults(page, required)) == 0 {
			t.Errorf("%s is not noticed", name)
		}
	}
}

// pageFaults tells where docs/dependencies.md, the tables here and the direct
// requirements of go.mod differ.
func pageFaults(page string, direct []string) []string {
	var out []string
	rows := map[string]map[string][]string{}
	var table string
	for line := range strings.Lines(page) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			table = strings.TrimSpace(heading)
		}
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "module" {
			continue
		}
		name, at := strings.TrimSpace(cells[1]), strings.Split(strings.ReplaceAll(cells[2], " ", ""), ",")
		if strings.TrimSpace(cells[3]) == "" {
			out = append(out, name+" stands on the page without a reason")
		}
		if rows[table] == nil {
			rows[table] = map[string][]string{}
		}
		slices.Sort(at)
		rows[table][name] = at
	}
	for heading, want := range map[string]map[string][]string{"In the program": doors, "In tests": testDoors} {
		for name, at := range want {
			if got, ok := rows[heading][name]; !ok || !slices.Equal(got, slices.Sorted(slices.Values(at))) {
				out = append(out, fmt.Sprintf("%s, %q: the page says %v, the table %v", name, heading, got, at))
			}
		}
		for name := range rows[heading] {
			if _, ok := want[name]; !ok {
				out = append(out, fmt.Sprintf("%s stands on the page under %q, and in no table", name, heading))
			}
			isIt := func(m string) bool { return name == m || strings.HasPrefix(name, m+"/") }
			if !slices.ContainsFunc(direct, isIt) {
				out = append(out, name+" stands on the page, and go.mod does not require it")
			}
		}
	}
	for _, m := range direct {
		if !slices.ContainsFunc(slices.Concat(slices.Collect(maps.Keys(rows["In the program"])), slices.Collect(maps.Keys(rows["In tests"]))),
			func(name string) bool { return name == m || strings.HasPrefix(name, m+"/") }) {
			out = append(out, m+" is required by go.mod and does not stand on the page")
		}
	}
	return out
}
