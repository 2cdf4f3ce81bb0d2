package hosts_test

import (
	"os/exec"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
)

func FuzzQuoteIsReadBackByAShell(f *testing.F) {
	for _, s := range []string{"", "plain", "it's", "a b", "$HOME `id` \\ \"", "new\nline", "-n", "*", "\x01\xff", "'", "''", `\'`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return // no argument can hold it
		}
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+hosts.Quote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	})
}

func TestAShellLineKeepsEveryWordEnvironmentAndDirectory(t *testing.T) {
	c := hosts.Command{Argv: []string{"sh", "-c", `printf '%s|' "$A" "$PWD" "$@"`, "x", "it's", "", "$HOME"}, Env: []string{"A=1 2"}, Dir: "/usr"}
	out, err := exec.Command("/bin/sh", "-c", hosts.ShellLine(c)).Output()
	if want := "1 2|/usr|it's||$HOME|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}
