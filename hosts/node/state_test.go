package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
)

// aState is a machine with a little of everything that state.read tells; tools answers its
// commands, by their first two words.
func aState(t *testing.T, tools map[string]func(argv []string) (string, error)) Machine {
	t.Helper()
	m := Machine{State: t.TempDir(), Proc: t.TempDir()}
	for name, text := range map[string]string{
		"sys/kernel/osrelease":                  "6.12.1-amd64\n",
		"sys/net/ipv4/ip_local_port_range":      "32768\t60999\n",
		"net/tcp":                               table("00000000:01BB", "0A", "77", "0100007F:18EB", "0A", "78", "15004D0A:0BB8", "01", "79"),
		"net/tcp6":                              table("00000000000000000000000000000000:01BB", "0A", "80"),
		"net/udp":                               table("00000000:007B", "07", "81", "00000000:D431", "07", "82"),
		"42/stat":                               "42 (nginx) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n",
		"42/comm":                               "nginx\n",
		"77/stat":                               "77 (nginx: worker) S 42 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n",
		"77/comm":                               "worker\n",
		"../" + filepath.Base(m.Proc) + "/note": "",
	} {
		file := m.proc(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, inode := range map[string]string{"42": "77", "77": "77"} {
		if err := os.MkdirAll(m.proc(pid, "fd"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("socket:["+inode+"]", m.proc(pid, "fd", "6")); err != nil {
			t.Fatal(err)
		}
	}
	m.Exec = func(_ context.Context, argv ...string) ([]byte, error) {
		if do := tools[strings.Join(argv[:min(2, len(argv))], " ")]; do != nil {
			out, err := do(argv)
			return []byte(out), err
		}
		return nil, &exec.Error{Name: argv[0], Err: exec.ErrNotFound}
	}
	return m
}

// table is one like /proc/net/tcp of an address, a state and an inode each.
func table(rows ...string) string {
	out := "  sl  local_address rem_address   st\n"
	for i := 0; i < len(rows); i += 3 {
		out += fmt.Sprintf("   %d: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000  0 0 %s 1\n", i, rows[i], rows[i+1], rows[i+2])
	}
	return out
}

func says(text string) func([]string) (string, error) {
	return func([]string) (string, error) { return text, nil }
}

// usual are the tools of a host on which all of them are.
func usual() map[string]func([]string) (string, error) {
	return map[string]func([]string) (string, error){
		"systemctl list-units": says("nginx.service loaded active running nginx\nmastodon-web@.service x y z\ngone.service not-found inactive dead gone.service\n"),
		"systemctl list-unit-files": func([]string) (string, error) {
			return "nginx.service enabled enabled\nstunnel@.service disabled enabled\n", nil
		},
		"systemctl show": func(argv []string) (string, error) {
			if strings.Contains(argv[2], "DropInPaths") {
				return "Id=nginx.service\nUnitFileState=enabled\nFragmentPath=/lib/systemd/system/nginx.service\nDropInPaths=/etc/b.conf /etc/a.conf\n", nil
			}
			return "LoadState=loaded\nActiveState=active\nSubState=running\nNeedDaemonReload=yes\nMainPID=0\n", nil
		},
		"dpkg-query --show": func([]string) (string, error) {
			return "openssl\tinstalled\t3.5.1\nufw\tconfig-files\t0.36\n", &hosts.ExitError{Command: "dpkg-query", Code: 1, Stderr: "no packages found matching redis"}
		},
		"nft --stateless": says("table inet filter {\n\tchain input {\n\t\ttcp dport 22 counter packets 7 bytes 9 accept\n\t}\n}\n"),
	}
}

func TestAStateIsTheUnitsPackagesPortsAndRulesOfAHost(t *testing.T) {
	m := aState(t, usual())
	s, err := m.readState(t.Context(), StateIn{Units: []string{"nginx*.service"}, Packages: []string{"openssl", "redis"}}, nil, nil)
	if err != nil || len(s.Blind) > 0 {
		t.Fatalf("%v, %v", err, s.Blind)
	}
	if len(s.Units) != 1 {
		t.Fatalf("%+v", s.Units)
	}
	u := s.Units[0]
	if u.Name != "nginx.service" || u.Enabled != "enabled" || !u.Running() || !u.NeedReload || u.File != "/lib/systemd/system/nginx.service" || strings.Join(u.DropIns, " ") != "/etc/a.conf /etc/b.conf" {
		t.Errorf("%+v", u)
	}
	if len(s.Packages) != 2 || s.Packages["openssl"] != "3.5.1" || s.Packages["kernel"] != "6.12.1-amd64" {
		t.Errorf("%v", s.Packages)
	}
	want := []Port{{"tcp", "*", 443, ""}, {"tcp", "*", 443, "nginx"}, {"tcp", "127.0.0.1", 6379, ""}, {"udp", "*", 123, ""}}
	if !slices.Equal(s.Ports, want) {
		t.Errorf("%v", s.Ports)
	}
	if s.Firewall.Tool != "nft" || s.Firewall.Text != "table inet filter {\n  chain input {\n    tcp dport 22 counter accept\n  }\n}" {
		t.Errorf("%+v", s.Firewall)
	}
}

func TestAStateSaysWhatItCouldNotReadAndTellsTheRest(t *testing.T) {
	for tool, blind := range map[string]string{"systemctl list-units": "units", "systemctl show": "units", "dpkg-query --show": "packages", "nft --stateless": "firewall"} {
		tools := usual()
		tools[tool] = func([]string) (string, error) {
			return "", &hosts.ExitError{Command: tool, Code: 4, Stderr: "not permitted"}
		}
		s, err := aState(t, tools).readState(t.Context(), StateIn{Units: []string{"nginx*.service"}, Packages: []string{"openssl"}}, nil, nil)
		if err != nil || len(s.Blind) != 1 || !strings.Contains(s.Blind[blind], "not permitted") || len(s.Ports) == 0 {
			t.Errorf("%s: %v, %+v", tool, err, s)
		}
	}
	m := aState(t, usual())
	if err := os.Remove(m.proc("net/tcp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.proc("net/tcp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := m.readState(t.Context(), StateIn{EnvFile: "/nowhere", Key: make([]byte, comparisonKey)}, nil, nil); err != nil || s.Blind["ports"] == "" || s.Blind["env"] == "" {
		t.Errorf("%v, %v", err, s.Blind)
	}
}

func TestValuesLeaveAHostOnlyAsHashesThatAnotherKeyDoesNotGive(t *testing.T) {
	m := aState(t, nil)
	const file = "/env"
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(m.root(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.root(file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, other := make([]byte, comparisonKey), append(make([]byte, comparisonKey-1), 1)
	read := func(key []byte) State {
		t.Helper()
		s, err := m.readState(t.Context(), StateIn{EnvFile: file, Key: key}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	write("# A=comment\nexport A=canary\nB=\"canary\"\nC='first\nD=second'\nE=\n")
	s := read(key)
	if len(s.Env) != 4 || s.Env["A"] == s.Env["B"] || strings.Contains(fmt.Sprint(s), "canary") {
		t.Errorf("%+v", s)
	}
	if again := read(other); again.Env["A"] == s.Env["A"] {
		t.Error("another key gives the same hash")
	}
	write("A='canary'\nB=canary\nC='first\nD=2nd'\nE=\"\"\n")
	if now := read(key); now.Env["A"] != s.Env["A"] || now.Env["B"] != s.Env["B"] || now.Env["C"] == s.Env["C"] || now.Env["E"] != s.Env["E"] {
		t.Errorf("%v, then %v", s.Env, now.Env)
	}
	write("A=x\nB='canary\n")
	if now := read(key); len(now.Env) > 0 || !strings.Contains(now.Blind["env"], "a quote that does not end") || strings.Contains(now.Blind["env"], "canary") {
		t.Errorf("%+v", now)
	}
	if now := read(key[1:]); len(now.Env) > 0 || !strings.Contains(now.Blind["env"], "32 bytes") {
		t.Errorf("%+v", now)
	}
}

func TestRulesAreComparedWithoutWhatChangesByItself(t *testing.T) {
	a := "# Warning: table ip nat is managed by iptables-nft\ntable ip filter {\n\tset bad {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\telements = { 1.2.3.4 timeout 5m expires 1m2s,\n\t\t\t     5.6.7.8 }\n\t}\n\tset good {\n\t\telements = { 10.77.0.11 }\n\t}\n\tchain in {\n\t\tip daddr 10.77.0.21 tcp dport 3000 counter packets 1 bytes 60 accept\n\t\tip saddr 10.77.0.210 drop\n\t}\n}\ntable inet f2b-table {\n\tset addr-set-sshd {\n\t\telements = { 9.9.9.9 }\n\t}\n}\ntable inet last {\n}\n"
	b := strings.NewReplacer("10.77.0.21 ", "10.77.0.22 ", "packets 1 bytes 60", "packets 3 bytes 180", "1.2.3.4", "4.3.2.1", "9.9.9.9", "8.8.8.8").Replace(a)
	x := plainRules(a, []netip.Addr{netip.MustParseAddr("10.77.0.21")})
	y := plainRules(b, []netip.Addr{netip.MustParseAddr("10.77.0.22")})
	if x != y {
		t.Errorf("%s\nis not\n%s", x, y)
	}
	for _, word := range []string{"daddr self tcp", "saddr 10.77.0.210 drop", "elements = { 10.77.0.11 }", "table inet last {"} {
		if !strings.Contains(x, word) {
			t.Errorf("%q is lost: %s", word, x)
		}
	}
	if c := plainRules(strings.Replace(a, "dport 3000", "dport 3001", 1), nil); c == x {
		t.Error("another port is not seen")
	}
}
