package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

func TestLabAMinorWithPostMigrationsIsRolledUnnoticedAndThenCannotGoBack(t *testing.T) {
	f := on(t, "v4.5.2")
	var minor, post answer
	var met lab.LoadReport
	f.allJobsRun(t, func() {
		met = f.underLoad(t, func() {
			minor = f.must(t, 0, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "applied: 20251118115700", "DONE")
			post = f.must(t, 0, "", []string{"upgrade", "--to", "v4.7.0", "--yes"}, "point of no return", "DONE")
		})
	})
	f.socketsWell(t, met, minor.err+post.err)
	f.runsEverywhere(t, "v4.7.0")
	f.must(t, 3, "", []string{"rollback", "--yes"}, "cannot go back to v4.6.0", "restore point")
}

// webRoll is the beginning or the end of a web node's roll in refit's own lines.
var webRoll = regexp.MustCompile(`(?m)^(\S+) \[ *\d+/\d+\] roll web (\w+): (begun|done)`)

// socketsWell asks that a websocket was cut only while its own node was rolled, and
// was back within a second.
func (f *fleet) socketsWell(t *testing.T, met lab.LoadReport, lines string) {
	t.Helper()
	address := map[string]string{"kirk": "10.77.0.21", "spock": "10.77.0.22"}
	type window struct{ from, to time.Time }
	rolls := map[string][]window{}
	for _, m := range webRoll.FindAllStringSubmatch(lines, -1) {
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			t.Fatal(err)
		}
		a := address[m[2]]
		if m[3] == "begun" {
			rolls[a] = append(rolls[a], window{from: at.Add(-time.Second)})
		} else {
			rolls[a][len(rolls[a])-1].to = at.Add(2 * time.Second)
		}
	}
	if len(rolls) != 2 {
		t.Fatalf("refit's lines name %d web nodes that were rolled", len(rolls))
	}
	for _, d := range met.Sockets.Drops {
		host, _, _ := strings.Cut(d.From, ":")
		if !slices.ContainsFunc(rolls[host], func(w window) bool { return d.At.After(w.from) && d.At.Before(w.to) }) {
			t.Errorf("a websocket of %s was cut at %s, while that node was not rolled", d.From, d.At.UTC().Format(time.TimeOnly))
		}
		if d.Seconds > 1 {
			t.Errorf("a websocket of %s was away for %.1f s", d.From, d.Seconds)
		}
	}
	if met.Sockets.Open == 0 {
		t.Error("no websocket is open at the end")
	}
}
