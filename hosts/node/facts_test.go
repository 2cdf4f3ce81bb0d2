package node_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

func TestOneExchangeTellsEverythingAboutAHost(t *testing.T) {
	a, _ := hoststest.NewNode(t, &hoststest.Systemd{})
	home := t.TempDir()
	root, m := build(t, "v1.0.0", v1)
	if _, _, err := place(t, a, home, root); err != nil {
		t.Fatal(err)
	}
	tree(t, home, map[string]string{"releases/v0.9.0/": "", "live": "-> releases/v1.0.0", "env": "# c\nA=1\nexport B=\"two\"\nC='two'\n\n"})
	in := node.FactsIn{
		Home: home, Paths: []string{filepath.Join(home, "not/yet/there")}, EnvFile: filepath.Join(home, "env"), Salt: []byte("0123456789abcdef"),
		Files:    []node.FileCheck{{Path: filepath.Join(home, "env")}, {Path: filepath.Join(home, "none")}},
		Commands: []node.FactCommand{{Argv: []string{"sh", "-c", "echo; echo version 1 >&2; echo more"}}, {Argv: []string{"/no/such"}}},
	}
	f, err := a.Facts(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := f.Release("v1.0.0")
	old, ok := f.Release("v0.9.0")
	for what, good := range map[string]bool{
		"os":          f.OS != "" && f.Arch == runtime.GOARCH && f.CPUs > 0 && f.Hostname != "",
		"memory":      f.MemoryTotal > f.MemoryAvailable && f.MemoryAvailable > 0,
		"disk":        len(f.Disks) == 1 && f.Disks[0].Total > f.Disks[0].Free,
		"live":        f.Live == "v1.0.0",
		"release":     r.Complete && r.Digest == headOf(t, root).Digest && r.Commit == m.Commit,
		"old release": ok && !old.Complete,
		"env":         len(f.Env) == 3 && f.Env["B"] == f.Env["C"] && f.Env["A"] != f.Env["B"] && !strings.Contains(f.Env["B"], "two"),
		"file":        f.Files[0].Exists && f.Files[0].Readable && f.Files[0].Size > 0,
		"no file":     !f.Files[1].Exists && !f.Files[1].Readable,
		"command":     f.Commands[0].Line == "version 1" && f.Commands[0].Error == "",
		"no command":  f.Commands[1].Error != "",
		"clock":       !f.Clock.IsZero() && f.Started.Before(f.Clock),
		"agent":       f.Agent == "refit-0123456789abcdef",
	} {
		if !good {
			t.Errorf("%s: %+v", what, f)
		}
	}
	in.Salt = []byte("0123456789abcdeX")
	if g, err := a.Facts(t.Context(), in); err != nil || g.Env["A"] == f.Env["A"] {
		t.Errorf("another salt gives the same hash: %v", err)
	}
	in.Salt, in.EnvFile = []byte("short"), filepath.Join(home, "none")
	if g, err := a.Facts(t.Context(), in); err != nil || g.EnvError == "" {
		t.Errorf("a short salt: %q, %v", g.EnvError, err)
	}
}

func TestAFileIsCheckedWithTheUsersOwnRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can ask for another user")
		return
	}
	a, _ := hoststest.NewNode(t, nil)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := a.Facts(t.Context(), node.FactsIn{Files: []node.FileCheck{{Path: secret}, {Path: secret, User: "nobody"}, {Path: secret, User: "no-such-user"}}})
	if err != nil || !f.Files[0].Writable || f.Files[1].Readable || f.Files[1].Owner != "root" || f.Files[2].Error == "" {
		t.Errorf("got %+v, %v", f.Files, err)
	}
}

func TestConnectionsInFlightAreCountedByPortAndPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	a, _ := hoststest.NewNode(t, nil)
	out, err := a.Inflight(t.Context(), node.InflightIn{Ports: []int{port, 1}})
	if err != nil || out.Total != 2 || out.Ports[port] != 2 || out.Ports[1] != 0 || out.Peers["127.0.0.1"] != 2 {
		t.Errorf("got %+v, %v", out, err)
	}
	out, err = a.Inflight(t.Context(), node.InflightIn{Ports: []int{port}, Peers: []string{"10.77.0.11"}})
	if err != nil || out.Total != 0 {
		t.Errorf("another peer: %+v, %v", out, err)
	}
}

func TestIPv6AndMappedConnectionsAreReadAsTheKernelWritesThem(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	head := "  sl  local_address rem_address   st\n"
	// 10.77.0.21:3000 from 10.77.0.11 (01 established, 06 time-wait), and the same mapped into IPv6.
	tree(t, proc, map[string]string{
		"net/tcp":  head + "   0: 15004D0A:0BB8 0B004D0A:C001 01\n   1: 15004D0A:0BB8 0B004D0A:C002 06\n",
		"net/tcp6": head + "   0: 0000000000000000FFFF000015004D0A:0BB8 0000000000000000FFFF00000B004D0A:C003 01\n",
	})
	a := &node.Agent{Host: "kirk", Shell: hoststest.NodeShell{Machine: node.Machine{Proc: proc, State: t.TempDir()}}, Binary: "/proc/self/exe"}
	out, err := a.Inflight(t.Context(), node.InflightIn{Ports: []int{3000}, Peers: []string{"10.77.0.11"}})
	if err != nil || out.Total != 2 {
		t.Errorf("got %+v, %v", out, err)
	}
}
