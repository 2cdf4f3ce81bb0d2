package nginx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// target makes the agent of a node with as many connections to its port 3000
// from 10.77.0.11 as the kernel's table says that connect writes.
func target(t *testing.T) (a *node.Agent, connect func(n int)) {
	t.Helper()
	a, m := hoststest.NewNode(t, nil)
	m.Proc = t.TempDir()
	a.Shell = hoststest.NodeShell{Machine: m}
	table := filepath.Join(m.Proc, "net", "tcp")
	if err := os.MkdirAll(filepath.Dir(table), 0o755); err != nil {
		t.Fatal(err)
	}
	connect = func(n int) {
		var b strings.Builder
		b.WriteString("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n")
		for i := range n {
			fmt.Fprintf(&b, "%4d: 15004D0A:0BB8 0B004D0A:%04X 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n", i, 40000+i)
		}
		temp := table + ".new"
		if err := os.WriteFile(temp, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
		if err := os.Rename(temp, table); err != nil {
			t.Error(err)
		}
	}
	connect(0)
	return a, connect
}

// drainAll makes the agents of proxies, sulu and chekov, with these nginx.
func drainAll(t *testing.T, fakes ...*fake) ([]*node.Agent, DrainOptions) {
	t.Helper()
	var agents []*node.Agent
	for i, f := range fakes {
		a, _ := hoststest.NewNode(t, nil, f.verbs(t)...)
		a.Host = []string{"sulu", "chekov"}[i]
		agents = append(agents, a)
	}
	return agents, DrainOptions{Address: theNode, Ports: []int{theNodePort}, Peers: []string{"10.77.0.11"}, Within: time.Minute, Every: time.Microsecond}
}

// verbs are the real ones, but for the files: each fake has its own, while a
// request names the same ones for all proxies.
func (f *fake) verbs(t *testing.T) []node.Verb {
	t.Helper()
	p := f.proxy(t)
	return []node.Verb{
		{Name: "upstream.get", Run: serve(func(ctx context.Context, in UpstreamIn, say func(string)) (UpstreamOut, error) {
			in.Files = f.files
			return p.get(ctx, in, say)
		})},
		{Name: "upstream.set", Changes: true, Run: serve(func(ctx context.Context, in SetIn, say func(string)) (SetOut, error) {
			in.Files = f.files
			return p.set(ctx, in, say)
		})},
	}
}

func TestADrainTakesTheNodeOutEverywhereAndWaitsForItsRequests(t *testing.T) {
	sulu, chekov := newFake(t), newFake(t)
	proxies, o := drainAll(t, sulu, chekov)
	kirk, connect := target(t)
	connect(2)
	d, err := Drain(context.Background(), proxies, kirk, o, func(s string) {
		if strings.Contains(s, "waits for 2 connections") {
			connect(1)
		}
		if strings.Contains(s, "waits for 1 connections") {
			connect(0)
		}
	})
	if err != nil || d.Left != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if diff := cmp.Diff([]string{"sulu", "chekov"}, d.Changed); diff != "" {
		t.Error(diff)
	}
	for _, f := range []*fake{sulu, chekov} {
		if f.loaded != webDown+streamDown {
			t.Errorf("loaded %q", f.loaded)
		}
	}
	if err := Undrain(context.Background(), proxies, o, nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*fake{sulu, chekov} {
		if f.loaded != webUp+streamUp || f.reloads != 2 {
			t.Errorf("loaded %q after %d reloads", f.loaded, f.reloads)
		}
	}
}

func TestWhenTheTimeIsUpADrainTellsHowManyAreLeft(t *testing.T) {
	proxies, o := drainAll(t, newFake(t), newFake(t))
	kirk, connect := target(t)
	connect(3)
	o.Within = time.Nanosecond
	var said []string
	d, err := Drain(context.Background(), proxies, kirk, o, func(s string) { said = append(said, s) })
	if err != nil || d.Left != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	if len(said) == 0 || !strings.Contains(said[len(said)-1], "3 connections are still open") {
		t.Errorf("said %q", said)
	}
}

func TestADrainThatFailsOnOneProxyIsTakenBackOnTheOther(t *testing.T) {
	sulu, chekov := newFake(t), newFake(t)
	chekov.refuse = "nginx: [emerg] no such luck"
	proxies, o := drainAll(t, sulu, chekov)
	kirk, _ := target(t)
	d, err := Drain(context.Background(), proxies, kirk, o, nil)
	if err == nil || !strings.Contains(err.Error(), "chekov: ") || !strings.Contains(err.Error(), chekov.refuse) {
		t.Errorf("%+v, %v", d, err)
	}
	if sulu.loaded != webUp+streamUp || chekov.loaded != webUp+streamUp {
		t.Errorf("sulu %q, chekov %q", sulu.loaded, chekov.loaded)
	}
}

func TestWhatWasDownBeforeAFailedDrainStaysDown(t *testing.T) {
	sulu, chekov := newFake(t), newFake(t)
	proxies, o := drainAll(t, sulu, chekov)
	if _, err := setAll(context.Background(), proxies[:1], o, true, nil); err != nil {
		t.Fatal(err)
	}
	chekov.refuse = "nginx: [emerg] no such luck"
	kirk, _ := target(t)
	if _, err := Drain(context.Background(), proxies, kirk, o, nil); err == nil {
		t.Error("no error")
	}
	if sulu.loaded != webDown+streamDown {
		t.Errorf("sulu %q", sulu.loaded)
	}
}

func TestAProxyThatSomebodyElseWritesIsFoundOut(t *testing.T) {
	sulu, chekov := newFake(t), newFake(t)
	proxies, o := drainAll(t, sulu, chekov)
	// A configuration management system puts the file back while nginx reloads.
	chekov.onReload = func() {
		if err := os.WriteFile(chekov.files[0], []byte(webUp), 0o644); err != nil {
			t.Error(err)
		}
		chekov.onReload = nil
	}
	kirk, _ := target(t)
	_, err := Drain(context.Background(), proxies, kirk, o, nil)
	if err == nil || !strings.Contains(err.Error(), "chekov changed its include files back") {
		t.Errorf("got %v", err)
	}
	if sulu.loaded != webUp+streamUp || chekov.loaded != webUp+streamUp {
		t.Errorf("sulu %q, chekov %q", sulu.loaded, chekov.loaded)
	}
}

func TestANodeIsNeverDrainedWhileItsPeerIsOut(t *testing.T) {
	sulu, chekov := newFake(t), newFake(t)
	proxies, o := drainAll(t, sulu, chekov)
	kirk, _ := target(t)
	if _, err := Drain(context.Background(), proxies, kirk, o, nil); err != nil {
		t.Fatal(err)
	}
	o.Address = "10.77.0.22"
	if _, err := Drain(context.Background(), proxies, kirk, o, nil); err == nil || !strings.Contains(err.Error(), "bring another server up first") {
		t.Errorf("got %v", err)
	}
}

func TestADrainEndsWithItsContextAndSaysWhy(t *testing.T) {
	proxies, o := drainAll(t, newFake(t), newFake(t))
	kirk, connect := target(t)
	connect(1)
	o.Every = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Drain(ctx, proxies, kirk, o, func(s string) {
		if strings.Contains(s, "waits for") {
			cancel()
		}
	})
	if err == nil || !strings.Contains(err.Error(), "requests in flight on kirk") {
		t.Errorf("got %v", err)
	}
}

func TestADrainWithoutProxiesIsRefused(t *testing.T) {
	kirk, _ := target(t)
	if _, err := Drain(context.Background(), nil, kirk, DrainOptions{Address: theNode}, nil); err == nil {
		t.Error("no error")
	}
}
