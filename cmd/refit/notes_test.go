package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/builds/notes"
)

const ownNotes = "../../testdata/notes/"

func TestNotesAreToldWithWhatIsLeftToPeopleFirst(t *testing.T) {
	for name, want := range map[string][]string{
		"restart-only":   {"v9.7.2: nothing is left to you\nwritten for an upgrade from v9.7.0; ", "\nneeds        Node 22\n", "\nrefit does   checkout, restart\n"},
		"system-program": {"v9.6.2: 2 things are left to you\nsecurity: CVE-2030-7777 (critical), GHSA-8888-9999-2345 (critical)\n", "\nffmpeg: refit does not change programs"},
		"topics":         {"\n    $ sudo systemctl daemon-reload\n", "\nstatsd: "},
		"bold-headings":  {"security: CVE-2030-1111 (critical), ", "… and 1 more: --json has them whole\n"},
		"nested":         {"a release that is not named: 1 thing is left to you\n", "\ncache-clear: ", "    $ RAILS_ENV=production bin/tootctl cache clear\n"},
		"strange":        {"\npaint-the-shed-paint-a4836f3d: ", "\n    $ bundle install && rm -rf public/packs\n"},
		"minor":          {"\nbrings       Requires assets recompilation; Requires streaming server restart\n"},
	} {
		code, out, errs := command(t.Context(), "notes", "--file", ownNotes+name+".md")
		for _, w := range want {
			if code != exitDone || errs != "" || !strings.Contains(out, w) {
				t.Errorf("%s: code %d, %s\nwant %q in\n%s", name, code, errs, w, out)
			}
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "    ") && !strings.ContainsRune(">$…", []rune(strings.TrimSpace(line))[0]) {
				t.Errorf("%s: words of others without a mark of ours: %s", name, line)
			}
			if strings.HasPrefix(line, "    ") && len([]rune(line)) > 170 {
				t.Errorf("%s: a line of %d characters: %s", name, len([]rune(line)), line)
			}
		}
	}
}

func TestNotesAreOneObjectForPrograms(t *testing.T) {
	code, out, errs := command(t.Context(), "notes", "--json", "--file", ownNotes+"no-last-newline.md")
	var got map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone || errs != "" {
		t.Fatalf("code %d, %v, %s\n%s", code, err, errs, out)
	}
	for field, want := range map[string]string{
		"schema": `"refit.notes/v1"`, "version": `"v9.7.2"`, "flags": "[]", "advisories": "[]", "warnings": "[]", "unknown": "[]",
		"from": `["v9.7.0"]`, "dependencies": `[{"name":"Node","min":"22"}]`,
		"steps": `[{"phase":"before","target":"both","text":"To get the code for v9.7.2, use git fetch \u0026\u0026 git checkout v9.7.2.","command":"git fetch \u0026\u0026 git checkout v9.7.2"},` +
			`{"phase":"during","target":"both","text":"Restart all Mastodon processes","command":""}]`,
	} {
		var b bytes.Buffer
		if err := json.Compact(&b, got[field]); err != nil || b.String() != want {
			t.Errorf("%s is %s (%v), want %s", field, b.String(), err, want)
		}
		delete(got, field)
	}
	if len(got) > 0 {
		t.Errorf("fields that the schema does not have: %v", got)
	}
}

func TestAFileThatIsNoNotesIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, body []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	big := file("big.md", []byte("## Upgrade notes\n"))
	if err := os.Truncate(big, 50<<20); err != nil {
		t.Fatal(err)
	}
	long := file("long.md", bytes.Repeat([]byte("## Upgrade notes\n\n"), 3<<20))
	for _, test := range []struct{ path, says string }{
		{"", "notes needs either --file"},
		{filepath.Join(dir, "none.md"), "no such file"},
		{dir, "is a directory"},
		{file("empty.md", nil), "empty"},
		{file("latin.md", []byte("caf\xe9")), "not UTF-8"},
		{file("program", []byte("\x7fELF\x02\x01\x01\x00")), "control character"},
		{file("colour.md", []byte("## Upgrade notes\n\n\x1b[31mred")), "control character (U+001B) on line 3"},
		{big, "longer than 512 KiB"},
		{long, "longer than 512 KiB"},
	} {
		code, out, errs := command(t.Context(), "notes", "--json", "--file", test.path)
		var r refusalJSON
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitUsage || r.Schema != "refit.refusal/v1" || r.Command != "notes" || !strings.Contains(errs, test.says) {
			t.Errorf("%s: code %d, %v, want %q in\n%s%s", test.path, code, err, test.says, errs, out)
		}
	}
	// A device has no end.
	if code, _, errs := command(t.Context(), "notes", "--file", "/dev/zero"); code != exitUsage || !strings.Contains(errs, notes.ErrUnreadable.Error()) {
		t.Errorf("code %d, %s", code, errs)
	}
}
