package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "vmst.io/refit"

// doors: each vendor's module enters through the folders named, and no other.
var doors = map[string][]string{
	"github.com/google/go-github":           {"hosts/github"},
	"github.com/go-git/go-git":              {"hosts/git"},
	"golang.org/x/crypto/ssh":               {"hosts/ssh", "hosts/hoststest"},
	"github.com/digitalocean/godo":          {"hosts/cloud"},
	"github.com/urfave/cli":                 {"cmd/refit", "cmd/lab"},
	"github.com/jackc/pgx":                  {"hosts/mastodon"},
	"github.com/redis/go-redis":             {"hosts/mastodon"},
	"github.com/coder/websocket":            {"hosts/mastodon", "hosts/lab"},
	"github.com/goccy/go-yaml":              {"cmd/refit", "builds", "hosts/lab"},
	"github.com/klauspost/compress":         {"hosts/node"},
	"github.com/charmbracelet":              {"pipeline/report"},
	"github.com/Masterminds/semver":         {"builds", "builds/toolchain"},
	"github.com/cenkalti/backoff":           {"hosts/ssh", "hosts/lab", "builds/upstream"},
	"github.com/hashicorp/go-retryablehttp": {"hosts/github"},
}

// leaves of hosts that its other folders, and those of builds, may import.
var leaves = []string{"hosts/ssh", "hosts/git", "hosts/github", "hosts/cloud", "hosts/node"}

// testOnly folders are imported by tests and by the lab's own command alone.
var testOnly = []string{"hosts/lab", "hosts/lab/standin", "hosts/hoststest"}

func TestImportsGoOneWayAndEachVendorHasOneDoor(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
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
			if why := forbidden(from, imp); why != "" {
				t.Errorf("%s imports %s: %s", from, imp, why)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if to, ours := strings.CutPrefix(imp, module+"/"); ours && slices.Contains(testOnly, to) {
				continue
			}
			if strings.HasPrefix(from, "pipeline") && !strings.HasPrefix(imp, module+"/pipeline") && strings.HasPrefix(imp, module) {
				t.Errorf("tests of %s import %s: the engine is tested without the rest", from, imp)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list named %d packages: the check saw too little", seen)
	}
}

// forbidden tells why package from may not import imp, or nothing.
func forbidden(from, imp string) string {
	for vendor, at := range doors {
		if imp == vendor || strings.HasPrefix(imp, vendor+"/") {
			if !slices.Contains(at, from) {
				return "that vendor's door is " + strings.Join(at, ", ")
			}
		}
	}
	to, ours := strings.CutPrefix(imp, module+"/")
	top, _, _ := strings.Cut(from, "/")
	if from == "pipeline" && strings.Contains(imp, ".") {
		return "pipeline imports the standard library alone"
	}
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
}
