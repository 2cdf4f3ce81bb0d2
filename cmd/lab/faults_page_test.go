package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	faultsPage  = "../../docs/faults.md"
	tableBegins = "<!-- the table: written from cmd/lab/faults_table_test.go by REFIT_WRITE_DOCS=1 go test ./cmd/lab -run TestTheFaultsPage -->\n"
	tableEnds   = "<!-- the table ends -->\n"
)

// TestTheFaultsPageShowsTheTableThatTheTestsRun compares docs/faults.md with the
// table in code.
func TestTheFaultsPageShowsTheTableThatTheTestsRun(t *testing.T) {
	b, err := os.ReadFile(faultsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), tableBegins)
	shown, after, ended := strings.Cut(rest, tableEnds)
	if !ok || !ended {
		t.Fatalf("docs/faults.md has no place for the table between %q and %q", tableBegins, tableEnds)
	}
	want := renderTable(faultTable())
	if shown == want {
		return
	}
	if os.Getenv("REFIT_WRITE_DOCS") == "" {
		t.Fatalf("docs/faults.md shows another table than the tests run; write it anew with REFIT_WRITE_DOCS=1. It should be:\n%s", want)
	}
	if err := os.WriteFile(faultsPage, []byte(before+tableBegins+want+tableEnds+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTheFaultsTableSaysWhatEveryCellMeans asks that the table is whole: each stage
// of the plan, each kind of host, and no word that the legend lacks.
func TestTheFaultsTableSaysWhatEveryCellMeans(t *testing.T) {
	known := map[string]bool{}
	for _, l := range legend() {
		known[l[0]] = true
	}
	check := func(at string, c cell) {
		for _, o := range []outcome{c.passes, c.stays} {
			for _, word := range strings.Split(string(o), either) {
				if !known[word] {
					t.Errorf("%s: the legend lacks %q", at, word)
				}
			}
		}
	}
	var stages []string
	for _, s := range faultTable() {
		stages = append(stages, s.name)
		var rows []string
		for _, r := range s.rows {
			rows = append(rows, string(r.where))
			if (r.none == "") == (r.host == "") {
				t.Errorf("%s, %s: names a host of the lab, or says why there is none", s.name, r.where)
			}
			for i, c := range r.cells {
				if r.none == "" {
					check(fmt.Sprintf("%s, %s, %s", s.name, r.where, hostFaults()[i]), c)
				}
			}
		}
		if got := strings.Join(rows, ", "); got != "its host, its peer, the keeper, a proxy" {
			t.Errorf("%s has rows for %s", s.name, got)
		}
		check(s.name+", the database", s.database)
		check(s.name+", Redis", s.redis)
	}
	if got := strings.Join(stages, ", "); got != "preflight, build, place, bridge, pre-migrate, roll sidekiq, roll web, soak, post-migrate, search, record, prune" {
		t.Errorf("the table has the stages %s", got)
	}
}

func renderTable(all []stageFaults) string {
	var b strings.Builder
	b.WriteString("\n## Legend\n\n| | |\n|---|---|\n")
	for _, l := range legend() {
		fmt.Fprintf(&b, "| **%s** | %s |\n", l[0], l[1])
	}
	b.WriteString("\nA cell is \"if it passes / if it stays\"; `a|b` is one of the two, by the moment at which the fault hits.\n")
	for _, s := range all {
		fmt.Fprintf(&b, "\n## %s\n\n|", s.name)
		for _, f := range hostFaults() {
			fmt.Fprintf(&b, " | %s", f)
		}
		b.WriteString(" |\n|---|---|---|---|---|---|---|\n")
		for _, r := range s.rows {
			fmt.Fprintf(&b, "| %s", r.where)
			if r.none != "" {
				fmt.Fprintf(&b, " | – %s | | | | | |\n", r.none)
				continue
			}
			for _, c := range r.cells {
				fmt.Fprintf(&b, " | %s", c)
			}
			b.WriteString(" |\n")
		}
		fmt.Fprintf(&b, "\nDatabase promoted / gone: %s. Redis moved / gone: %s.", s.database, s.redis)
		if s.why != "" {
			b.WriteString(" " + s.why)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}

// String is the cell as the page shows it.
func (c cell) String() string {
	// A stroke would end the table's cell.
	return strings.ReplaceAll(fmt.Sprintf("%s / %s", c.passes, c.stays), either, "\\|")
}
