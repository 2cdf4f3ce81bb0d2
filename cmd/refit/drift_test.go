package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"vmst.io/refit/stages/drift"
)

func TestDriftEndsWithThreeWhereThereIsAnyAndWithNothingElse(t *testing.T) {
	finding := drift.Finding{
		Kind: drift.Firewall, Hosts: []string{"kirk", "spock"}, What: "rules", Expected: "as sulu has rules", Found: "has other rules",
		Difference: "-tcp dport 22 accept\n+tcp dport 23 accept\n", Remedy: "bring them together",
	}
	for name, test := range map[string]struct {
		found []drift.Finding
		code  int
		words []string
	}{
		"none": {nil, exitDone, []string{"8 hosts are what they should be", "not compared: files"}},
		"one": {[]drift.Finding{finding}, exitRefused, []string{
			"kirk, spock: firewall rules", "found     has other rules", "expected  as sulu has rules", "remedy    bring them together", "    -tcp dport 22 accept\n    +tcp dport 23 accept\n", "1 findings on 8 hosts",
		}},
	} {
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			s := streams{out: &out}
			err := s.showDrift(test.found, driftJSON{Schema: "refit.drift/v1", Hosts: 8, NotCompared: []string{"files: none"}, Findings: []drift.Finding{}}, asJSON)
			if got := exitCode(err); got != test.code {
				t.Errorf("%s: exit %d", name, got)
			}
			if asJSON {
				var back struct {
					Schema   string
					Hosts    int
					Findings []drift.Finding
				}
				if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Schema != "refit.drift/v1" || back.Findings == nil || len(back.Findings) != len(test.found) {
					t.Errorf("%s: %v, %s", name, err, out.String())
				}
				continue
			}
			for _, w := range test.words {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%s: no %q in %s", name, w, out.String())
				}
			}
		}
	}
}
