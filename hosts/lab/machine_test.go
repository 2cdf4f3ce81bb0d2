package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAHostIsToldItsInstanceAgainAfterAReboot lets the supervisor run a program in the
// place of nspawn that reboots once and then ends.
func TestAHostIsToldItsInstanceAgainAfterAReboot(t *testing.T) {
	for uuid, want := range map[string]string{
		"0123": "--uuid=0123 --set-credential=refit.instance:1004 --link",
		// It makes a machine-id by itself.
		"": "--capability=CAP_NET_ADMIN --set-credential=refit.instance:1004 --link",
	} {
		dir := t.TempDir()
		nspawn := `#!/bin/sh
echo "$@" >> "$DIR/started"
[ $(wc -l < "$DIR/started") -gt 1 ] || exit 133
`
		must(t, os.WriteFile(filepath.Join(dir, "systemd-nspawn"), []byte(nspawn), 0o755))
		c := exec.CommandContext(t.Context(), "sh", "-c", supervise)
		c.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "GROUPS_OF_HOST=", "DIR=" + dir, "HOST=kirk", "NETNS=/none", "UUID=" + uuid, "INSTANCE=1004"}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "started"))
		must(t, err)
		if starts := strings.Split(strings.TrimSpace(string(b)), "\n"); len(starts) != 2 || starts[0] != starts[1] || !strings.Contains(starts[0], want) {
			t.Errorf("machine-id %q: started as %q, want %q in each of two", uuid, starts, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
			t.Error("a host that has ended is still noted as up")
		}
	}
}
