package node

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileIsHeldAgainstWhatItIsToBeWithTheHostsOwnSecrets(t *testing.T) {
	m := Machine{State: t.TempDir()}
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		file := m.root(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(stateSecrets, "# theirs\nDB_PASS=canary-one\nTINY=ab\n", 0o600)
	const want = "HOST=a\nDB_PASS=@refit-secret(DB_PASS)@\n"
	for name, test := range map[string]struct {
		text  string
		mode  fs.FileMode
		state FileState
		found string
		hid   int
	}{
		"as it is to be":           {"HOST=a\nDB_PASS=canary-one\n", 0o640, FileSame, "", 0},
		"another mode":             {"HOST=a\nDB_PASS=canary-one\n", 0o644, FileRights, "", 0},
		"another line":             {"HOST=b\nDB_PASS=canary-one\n", 0o640, FileOther, "HOST=b\nDB_PASS=@refit-secret(DB_PASS)@\n", 0},
		"another secret":           {"HOST=a\nDB_PASS=canary-two\n", 0o640, FileOther, "HOST=a\nDB_PASS=[hidden]\n", 1},
		"a secret nobody knows of": {"HOST=a\nSMTP_PASSWORD=canary-two\n", 0o640, FileOther, "HOST=a\nSMTP_PASSWORD=[hidden]\n", 1},
		"one in a header":          {"proxy_set_header X-Auth-Token canary-two;\n", 0o640, FileOther, "proxy_set_header X-Auth-Token [hidden];\n", 1},
		"one in an address":        {"URL=redis://u:canary-two@10.0.0.1/0\n", 0o640, FileOther, "URL=redis://u:[hidden]@10.0.0.1/0\n", 1},
		"one by its looks":         {"X=canaryCANARY0123456789abcdEF\n", 0o640, FileOther, "X=[hidden]\n", 1},
		"a key":                    {"-----BEGIN RSA PRIVATE KEY-----\ncanary\n", 0o640, FileOther, "[hidden]\n", 1},
		"paths of keys are none":   {"ssl_certificate_key /etc/ssl/private/a.key;\nssl_session_tickets off;\n", 0o640, FileOther, "ssl_certificate_key /etc/ssl/private/a.key;\nssl_session_tickets off;\n", 0},
	} {
		write("/etc/env", test.text, test.mode)
		out, err := m.stateFiles(t.Context(), StateFilesIn{Files: []StateFile{{Path: "/etc/env", Content: []byte(want), Mode: 0o640}}, Contents: true}, nil, nil)
		if err != nil || len(out.Files) != 1 {
			t.Fatalf("%s: %v, %+v", name, err, out)
		}
		l := out.Files[0]
		if l.State != test.state || string(l.Content) != test.found || l.Hidden != test.hid || l.Error != "" {
			t.Errorf("%s: %s %q, %d hidden, %s", name, l.State, l.Content, l.Hidden, l.Error)
		}
		if strings.Contains(string(l.Content), "canary") {
			t.Errorf("%s: a secret left the host: %q", name, l.Content)
		}
	}
}

func TestAFileThatCannotBeComparedIsUnknownWithTheReasonAndNotTheSame(t *testing.T) {
	m := Machine{State: t.TempDir()}
	if err := os.MkdirAll(m.root("etc/dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.root("etc/a"), []byte("x="), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", m.root("etc/link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/etc/a":    "unknown: " + stateSecrets + " on this host lacks GONE",
		"/etc/dir":  "unknown: it is no plain file",
		"/etc/link": "unknown: it is no plain file",
		"/etc/none": "missing: ",
	} {
		out, err := m.stateFiles(t.Context(), StateFilesIn{Files: []StateFile{{Path: path, Content: []byte("x=@refit-secret(GONE)@"), Mode: 0o600}}}, nil, nil)
		if err != nil || len(out.Files) != 1 {
			t.Fatalf("%s: %v", path, err)
		}
		if got := string(out.Files[0].State) + ": " + out.Files[0].Error; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"etc/a", "/etc/../a", "/etc//a"} {
		if _, err := m.stateFiles(t.Context(), StateFilesIn{Files: []StateFile{{Path: path}}}, nil, nil); err == nil {
			t.Errorf("%s is taken for a path", path)
		}
	}
}

func TestTheValueOfANameThatHasAReferenceIsHiddenWhateverTheNameSays(t *testing.T) {
	got, hidden := withoutSecrets([]byte("HOST=a\nPLACE=canary\n"), []byte("HOST=b\nPLACE=@refit-secret(PLACE)@\n"), nil)
	if string(got) != "HOST=a\nPLACE=[hidden]\n" || hidden != 1 {
		t.Errorf("%q, %d hidden", got, hidden)
	}
}
