package node_test

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// As sudo 1.9.16 prints them.
const (
	sudoHead = `Matching Defaults entries for refit on kirk:
    env_reset, mail_badpass,
    secure_path=/usr/local/sbin\:/usr/local/bin\:/usr/sbin\:/usr/bin\:/sbin\:/bin,
    use_pty

User refit may run the following commands on kirk:
`
	sudoDigest = sudoHead + `    (root) NOPASSWD:
        sha256:3648c0696abd9f4f87e083aa408db3223e3a8fe0b676627b36b3485c7bf43ca9
        /var/lib/refit/bin/refit-3648c0696abd9f4f node *
`
	sudoNone = "User refit is not allowed to run sudo on kirk.\n"
)

// withSudo is a host whose sudo says so and allows the agent or not.
func withSudo(t *testing.T, list string, allowed bool) (*node.Agent, node.Machine) {
	t.Helper()
	systemd := &hoststest.Systemd{}
	a, m := hoststest.NewNode(t, systemd)
	m.Agent = filepath.Join(m.State, "bin", "refit-0123456789abcdef")
	if err := os.MkdirAll(filepath.Dir(m.Agent), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Agent, []byte("agent"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	m.Exec = func(ctx context.Context, argv ...string) ([]byte, error) {
		line := strings.Join(argv, " ")
		switch {
		case line == "sudo -n -l -U refit":
			return []byte(list), nil
		case line == "sudo -n -l -U refit "+m.Agent+" node units" && allowed:
			return []byte(m.Agent + " node units\n"), nil
		case argv[0] == "sudo":
			return nil, &hosts.ExitError{Command: "sudo", Code: 1}
		}
		return systemd.Exec(ctx, argv...)
	}
	a.Shell = hoststest.NodeShell{Machine: m, Verbs: m.Verbs()}
	t.Setenv("SUDO_USER", "refit")
	return a, m
}

func TestWhatSudoAllowsIsReadAsItMeansIt(t *testing.T) {
	for name, test := range map[string]struct {
		list     string
		allowed  bool
		commands []string
		anything bool
	}{
		"one agent":         {sudoHead + "    (root) NOPASSWD: /var/lib/refit/bin/refit-1 node *\n", true, []string{"(root) NOPASSWD: /var/lib/refit/bin/refit-1 node *"}, false},
		"a digest":          {sudoDigest, true, []string{"(root) NOPASSWD: sha256:3648c0696abd9f4f87e083aa408db3223e3a8fe0b676627b36b3485c7bf43ca9 /var/lib/refit/bin/refit-3648c0696abd9f4f node *"}, false},
		"everything":        {sudoHead + "    (ALL : ALL) NOPASSWD: ALL\n", true, []string{"(ALL : ALL) NOPASSWD: ALL"}, true},
		"everything beside": {sudoHead + "    (root) NOPASSWD: /bin/true, ALL\n", true, []string{"(root) NOPASSWD: /bin/true, ALL"}, true},
		"as somebody else":  {sudoHead + "    (postgres) NOPASSWD: ALL\n", false, []string{"(postgres) NOPASSWD: ALL"}, false},
		"nothing":           {sudoNone, false, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := withSudo(t, test.list, test.allowed)
			f, err := a.Facts(t.Context(), node.FactsIn{Rights: true})
			if err != nil {
				t.Fatal(err)
			}
			r := f.Rights
			if r.User != "refit" || r.Error != "" || !slices.Equal(r.Commands, test.commands) || r.Anything != test.anything || (len(r.Refused) == 0) != test.allowed {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestACallerThatIsRootIsNotAskedAbout(t *testing.T) {
	a, _ := withSudo(t, sudoNone, false)
	t.Setenv("SUDO_USER", "")
	f, err := a.Facts(t.Context(), node.FactsIn{Rights: true})
	if err != nil || f.Rights.User != "" || f.Rights.Replaceable() || len(f.Rights.Refused) > 0 {
		t.Errorf("got %+v, %v", f.Rights, err)
	}
}

func TestAnAgentThatTheUserCanReplaceIsTold(t *testing.T) {
	a, m := withSudo(t, sudoDigest, true)
	ask := func() node.Rights {
		t.Helper()
		f, err := a.Facts(t.Context(), node.FactsIn{Rights: true})
		if err != nil {
			t.Fatal(err)
		}
		return f.Rights
	}
	if ask().Uploads {
		t.Error("a folder of this user's own counts as another's")
	}
	dir := filepath.Dir(m.Agent)
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is what is told
		t.Fatal(err)
	}
	if r := ask(); !r.Uploads || !r.Replaceable() {
		t.Errorf("got %+v", r)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as it should be
		t.Fatal(err)
	}
	// The caller's own folder, whoever runs this test.
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SUDO_USER", me.Username)
	m.Exec = func(context.Context, ...string) ([]byte, error) { return []byte(sudoHead), nil }
	a.Shell = hoststest.NodeShell{Machine: m, Verbs: m.Verbs()}
	if r := ask(); !r.Uploads {
		t.Errorf("got %+v", r)
	}
}

func TestWhatOthersCanChangeInRefitsFolderIsTold(t *testing.T) {
	a, m := withSudo(t, sudoDigest, true)
	if _, err := a.FenceRaise(t.Context(), node.RaiseIn{Epoch: 3, Holder: "anna"}); err != nil {
		t.Fatal(err)
	}
	loose := func() []node.FileFact {
		t.Helper()
		f, err := a.Facts(t.Context(), node.FactsIn{Rights: true})
		if err != nil {
			t.Fatal(err)
		}
		return f.Loose
	}
	if got := loose(); len(got) > 0 {
		t.Fatalf("refit's own files: %+v", got)
	}
	fence := filepath.Join(m.State, "fence")
	if err := os.Chmod(fence, 0o666); err != nil { //nolint:gosec // that is what is told
		t.Fatal(err)
	}
	if got := loose(); len(got) != 1 || got[0].Path != fence || got[0].Mode != 0o666 || !got[0].Writable {
		t.Errorf("got %+v", got)
	}
	if err := os.Chmod(fence, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return // the rest gives files away
	}
	for path, want := range map[string]int{fence: 1, m.Agent: 1} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if got := loose(); len(got) != want || got[0].Path != path {
			t.Errorf("%s of nobody's: got %+v", path, got)
		}
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
}
