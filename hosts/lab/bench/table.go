package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// String is the report for a person: a table for each case, then the aims.
func (r *Report) String() string {
	var b strings.Builder
	for _, x := range r.Cases {
		x.table(&b)
	}
	fmt.Fprintf(&b, "artifact:")
	for _, name := range slices.Sorted(maps.Keys(r.Artifacts)) {
		a := r.Artifacts[name]
		fmt.Fprintf(&b, " %s %d files, %.0f MB, %.1f MB packed;", name, a.Files, float64(a.Bytes)/1e6, float64(a.Packed)/1e6)
	}
	fmt.Fprintf(&b, " on %d CPUs\nbare boot:", r.CPUs)
	for _, name := range slices.Sorted(maps.Keys(r.Boot)) {
		fmt.Fprintf(&b, " %s %.2f s;", name, r.Boot[name].Seconds)
	}
	fmt.Fprintf(&b, "\nrefit: %.1f MB, --help in %.0f ms\n\n", float64(r.Program.Bytes)/1e6, r.Program.HelpSeconds*1000)
	r.aims(&b)
	return b.String()
}

func (x *CaseReport) table(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n", x.Case)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\twhole\tplace\troll\tkirk out\tspock out\tsent/node\tcontroller\thost\tssh\tfailed\truns\t")
	for _, name := range contenders {
		m := x.Contenders[name]
		if m == nil {
			continue
		}
		if m.Counted == 0 {
			fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\t\t\t\t0/%d\t\n", name, len(m.Runs))
			continue
		}
		fmt.Fprintf(t, "%s\t%.1f s\t%.1f s\t%.1f s\t%s\t%s\t%.1f MB\t%.0f MB\t%.0f MB\t%.0f\t%d/%d\t%d/%d\t\n", name, m.Whole, m.Place, m.Roll,
			out(m, "kirk"), out(m, "spock"), m.SentToNode/1e6, float64(m.ControllerPeak)/1e6, float64(m.HostPeak)/1e6, m.Connections, m.Failed, m.Requests, m.Counted, len(m.Runs))
	}
	for _, q := range []struct {
		name  string
		ratio *float64
	}{{Hand, x.RatioToHand}, {Capistrano, x.RatioToCapistrano}, {Ansible, x.RatioToAnsible}} {
		if q.ratio != nil {
			fmt.Fprintf(t, "refit/%s\t%.2f\t%.2f\t%.2f\t\n", q.name, *q.ratio, x.PlaceRatios[q.name], x.RollRatios[q.name])
		}
	}
	// A builder never refuses what is written to it.
	if err := t.Flush(); err != nil {
		fmt.Fprintln(b, err)
	}
	fmt.Fprintln(b)
}

// out is how long a web node was out, and that by drain plus boot.
func out(m *Median, node string) string {
	return fmt.Sprintf("%.1f s (%.2f)", m.Out[node], m.ToDrainAndBoot[node])
}

func (r *Report) aims(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	where := "none yet"
	for _, a := range r.Aims {
		if a.Case != where {
			where = a.Case
			fmt.Fprintf(t, "aims, %s\n", cmp.Or(where, "of refit itself"))
		}
		word := "met"
		if !a.Met {
			word = "MISSED"
		}
		fmt.Fprintf(t, "  %s\t%s\tat most %s\t%s\n", a.Name, figure(a.Value, a.Unit), figure(a.Most, a.Unit), word)
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintln(b, err)
	}
}

func figure(v float64, unit string) string {
	if unit == "" {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}
