package lab

import (
	"maps"
	"os/exec"
	"testing"
)

func TestTrafficIsSeenFromTheHost(t *testing.T) {
	got, err := readTraffic([]byte(`[
		{"ifname":"lo","stats64":{"rx":{"bytes":1},"tx":{"bytes":1}}},
		{"ifname":"lab0","stats64":{"rx":{"bytes":7},"tx":{"bytes":8}}},
		{"ifname":"v-kirk","link_index":2,"stats64":{"rx":{"bytes":300,"packets":2},"tx":{"bytes":4000000000,"packets":9}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]Traffic{"kirk": {To: 4000000000, From: 300}}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := readTraffic([]byte("Cannot open network namespace")); err == nil {
		t.Error("words are taken for counters")
	}
}

func TestAProgramInAGroupKeepsItsArguments(t *testing.T) {
	dir := t.TempDir()
	g := &Group{"try", dir}
	argv := g.Wrap("printf", "%s|", "a b", `$0 "c"`)
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil || string(out) != `a b|$0 "c"|` {
		t.Fatalf("%v: %s", err, out)
	}
	pids, err := g.Processes()
	if err != nil || len(pids) != 1 || pids[0] < 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
}
