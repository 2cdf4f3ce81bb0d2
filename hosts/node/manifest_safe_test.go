package node_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

var sum = strings.Repeat("ab", 32)

func of(files ...node.Entry) node.Manifest {
	return node.Manifest{Format: node.ManifestFormat, Release: "v1.0.0", Files: files}
}

func dir(path string) node.Entry { return node.Entry{Path: path, Dir: true, Mode: 0o755} }

func file(path string) node.Entry { return node.Entry{Path: path, Mode: 0o644, SHA256: sum} }

func link(path, to string) node.Entry                       { return node.Entry{Path: path, Link: to} }
func changed(e node.Entry, do func(*node.Entry)) node.Entry { do(&e); return e }

func TestAManifestOfWhatCannotBePlacedSafelyIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		m    node.Manifest
		want string
	}{
		"the release itself":                  {of(link(".", "x")), "not a clean relative path"},
		"a link to a place outside":           {of(link("a", "/etc")), "leads out"},
		"a link upwards":                      {of(link("a", "../x")), "leads out"},
		"a link that goes out and comes in":   {of(link("a", "../v1.0.0/x")), "leads out"},
		"a link over another":                 {of(dir("a"), dir("a/b"), link("a/b/root", "../.."), link("a/b/up", "root/..")), `"a/b/up" leads out`},
		"a link over two others":              {of(dir("a"), link("a/here", "."), link("a/root", "here/.."), link("out", "a/root/../x")), `"out" leads out`},
		"a link over the runtime":             {of(dir(".refit"), link(".refit/ruby", "/opt/ruby"), link("a", ".refit/ruby/../../etc")), `"a" leads out`},
		"a link into the runtime":             {of(dir(".refit"), link(".refit/ruby", "/opt/ruby"), link("a", ".refit/ruby/bin")), `"a" leads out`},
		"a runtime that is no clean path":     {of(dir(".refit"), link(".refit/ruby", "/opt/../etc")), "leads out"},
		"a runtime that is everything":        {of(dir(".refit"), link(".refit/ruby", "/")), "leads out"},
		"a file below a link":                 {of(dir("a"), link("b", "a"), file("b/c")), "lies below the link"},
		"a file below a file":                 {of(file("b"), file("b/c")), "lies below the file"},
		"a file of root's that all can write": {of(changed(file("a"), func(e *node.Entry) { e.Mode = 0o666 })), "can be written by others than root"},
		"a folder that a group can write to":  {of(changed(dir("a"), func(e *node.Entry) { e.Mode = 0o775 })), "can be written by others than root"},
		"a setuid file":                       {of(changed(file("a"), func(e *node.Entry) { e.Mode = 0o4755 })), "has mode"},
		"a device's mode":                     {of(changed(file("a"), func(e *node.Entry) { e.Mode = 1<<26 | 0o644 })), "has mode"},
		"a negative size":                     {of(changed(file("a"), func(e *node.Entry) { e.Size = -1 })), "has -1 bytes"},
		"a folder with content":               {of(changed(dir("a"), func(e *node.Entry) { e.SHA256 = sum })), "has content and is no file"},
		"a link with content":                 {of(changed(link("a", "b"), func(e *node.Entry) { e.Size = 3 })), "has content and is no file"},
		"a link with a mode":                  {of(changed(link("a", "b"), func(e *node.Entry) { e.Mode = 0o777 })), "a link with a mode"},
		"a folder that is a link":             {of(changed(link("a", "b"), func(e *node.Entry) { e.Dir = true })), "a directory and a link"},
		"a hash in capitals":                  {of(changed(file("a"), func(e *node.Entry) { e.SHA256 = strings.ToUpper(sum) })), "a hash that is none"},
		"a hash of other letters":             {of(changed(file("a"), func(e *node.Entry) { e.SHA256 = strings.Repeat("zz", 32) })), "a hash that is none"},
		"a short hash":                        {of(changed(file("a"), func(e *node.Entry) { e.SHA256 = "ab" })), "has no hash"},
		"its own manifest":                    {of(dir(".refit"), file(".refit/manifest.json")), "keeps for itself"},
		"its own signature":                   {of(dir(".refit"), file(".refit/manifest.json.sig")), "keeps for itself"},
		"the record of its placing":           {of(dir(".refit"), file(".refit/placed.json")), "keeps for itself"},
		"the record of what was added":        {of(dir(".refit"), file(".refit/bridged.json")), "keeps for itself"},
		"proof of what was added":             {of(dir(".refit"), dir(".refit/bridged"), file(".refit/bridged/x")), "keeps for itself"},
		"a temporary file of refit's":         {of(dir(".refit"), file(".refit/.refit-tmp-3")), "keeps for itself"},
		"refit's folder as a link":            {of(link(".refit", "a"), dir("a")), "is no directory"},
		"a name with a NUL":                   {of(file("a\x00b")), "not a clean relative path"},
		"a link to a name with a NUL":         {of(link("a", "b\x00c")), "a name that cannot be"},
		"out of order":                        {of(file("b"), file("a")), "out of order"},
		"twice":                               {of(file("a"), file("a")), "out of order"},
	} {
		err := c.m.Check()
		// Entries must be in order for what is tried, and .refit comes first.
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, wanted %q", name, err, c.want)
		}
	}
}

func TestLinksWithinAReleaseAndToItsRuntimesAreWhatReleasesHave(t *testing.T) {
	m := of(
		dir(".refit"), link(".refit/node", "/usr"), link(".refit/ruby", "/opt/refit/ruby-3.4.7"),
		link("circle", "circle"), dir("node_modules"), dir("node_modules/.bin"), link("node_modules/.bin/ws", "../ws/bin/ws"),
		dir("node_modules/@mastodon"), link("node_modules/@mastodon/mastodon", "../.."), link("node_modules/@mastodon/streaming", "../../streaming"),
		dir("public"), link("public/500.html", "assets/500.html"), link("public/gone", "packs//./nothing"), link("round", "round2"), link("round2", "round"),
	)
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

func TestAManifestInOtherWordsThanRefitsIsRefused(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, _ := build(t, "v1.0.0", map[string]string{"app/a.rb": "a"})
	b, err := os.ReadFile(root + "/.refit/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(string(b), "\n")
	for name, other := range map[string]string{
		"a name that it does not know": strings.Replace(text, `{"format"`, `{"note":"x","format"`, 1),
		"a name twice":                 strings.Replace(text, `"release":"v1.0.0"`, `"release":"v0.9.0","release":"v1.0.0"`, 1),
		"a name in capitals":           strings.Replace(text, `"release"`, `"Release"`, 1),
		"a name behind the files":      strings.TrimSuffix(text, "}") + `,"commit":"other"}`,
		"another order":                strings.Replace(strings.Replace(text, `"format":1,`, "", 1), `"release":"v1.0.0"`, `"release":"v1.0.0","format":1`, 1),
		"spaces":                       strings.Replace(text, `:`, `: `, 1),
		"a space at the end":           text + " ",
		"two line ends":                text + "\n",
		"an escape":                    strings.Replace(text, "app/a.rb", `app\u002fa.rb`, 1),
		"a second value":               text + "{}",
	} {
		t.Run(name, func(t *testing.T) {
			if other == text {
				t.Fatal("the test changes nothing")
			}
			h := sha256.Sum256([]byte(other))
			in := node.WantIn{Home: t.TempDir(), Release: "v1.0.0", Digest: hex.EncodeToString(h[:])}
			pack := tarOf(t, part{"manifest.json", other + "\n"}, part{"manifest.sig", ""})
			if _, err := a.PlaceWant(t.Context(), in, bytes.NewReader(compressed(t, pack)), nil); err == nil {
				t.Error("it was taken")
			} else if errors.Is(err, node.ErrPayload) && strings.Contains(err.Error(), "digest") {
				t.Errorf("the test did not reach the manifest's text: %v", err)
			}
		})
	}
}
