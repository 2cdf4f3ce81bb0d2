package bench

import (
	"slices"
	"testing"
	"time"
)

func TestATimeOutOfRotationLastsFromTheFirstProxyToTheLast(t *testing.T) {
	const kirk, spock = "10.77.0.21", "10.77.0.22"
	r := &rotation{proxies: 2, out: map[string][]outOf{}}
	began := time.Unix(100, 0)
	see := func(ms, down, requests int) {
		r.see(began.Add(time.Duration(ms)*time.Millisecond), map[string]int{kirk: down, spock: 0}, func(a string) int {
			if a != kirk {
				t.Errorf("asked for the requests of %s, which is in rotation", a)
			}
			return requests
		})
	}
	for _, look := range [][3]int{{0, 0, 9}, {100, 1, 0}, {200, 2, 3}, {300, 2, 1}, {700, 2, 0}, {900, 2, 4}, {2000, 1, 0}, {2100, 0, 0}, {2200, 0, 0}} {
		see(look[0], look[1], look[2])
	}
	out, drain, err := r.of(kirk)
	if err != nil || out != 2*time.Second || drain != 600*time.Millisecond {
		t.Errorf("out %s, drain %s, %v", out, drain, err)
	}
	// Once more, as when a node is rolled back.
	see(3000, 2, 0)
	if _, _, err := r.of(kirk); err == nil {
		t.Error("a node that is still out counts as back")
	}
	see(3500, 0, 0)
	if out, drain, err := r.of(kirk); err != nil || out != 2500*time.Millisecond || drain != 600*time.Millisecond {
		t.Errorf("twice: out %s, drain %s, %v", out, drain, err)
	}
	if _, _, err := r.of(spock); err == nil {
		t.Error("a node that was never out has a time")
	}
}

func TestOnlyServersThatAreDownAreOut(t *testing.T) {
	file := "server 10.77.0.21:3000 max_fails=0 down;\nserver 10.77.0.22:3000 max_fails=0;\n# server 10.77.0.22:3000 down;\nserver 10.77.0.23:3000 down;\n"
	if got := downIn(file, []string{"10.77.0.21", "10.77.0.22"}); !slices.Equal(got, []string{"10.77.0.21"}) {
		t.Errorf("got %v", got)
	}
}

func TestRequestsAreTheProxiesOpenConnections(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: 15004D0A:0BB8 0B004D0A:C001 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 0 10 -1
   2: 15004D0A:0BB8 0C004D0A:C002 06 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 20 4 0 10 -1
   3: 15004D0A:0BB8 3D004D0A:C003 01 00000000:00000000 00:00000000 00000000  1000        0 4 1 0 20 4 0 10 -1
   4: 15004D0A:0FA0 0B004D0A:C004 01 00000000:00000000 00:00000000 00000000  1000        0 5 1 0 20 4 0 10 -1
   5: 15004D0A:0BB8 0C004D0A:C005 01 00000000:00000000 00:00000000 00000000  1000        0 6 1 0 20 4 0 10 -1
`
	if n := established(table, 3000, []string{"10.77.0.11", "10.77.0.12"}); n != 2 {
		t.Errorf("%d connections, want those of lines 1 and 5", n)
	}
	if n := established("", 3000, []string{"10.77.0.11"}); n != 0 {
		t.Errorf("%d connections in an empty table", n)
	}
}
