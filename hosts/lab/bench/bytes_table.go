package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// BytesTable shows the middle of each way's rounds, and how refit stands beside the best.
func BytesTable(all []Passage) string {
	var out strings.Builder
	for _, rate := range rates(all) {
		fmt.Fprintf(&out, "%s\n  %-12s %12s %9s %11s %13s %16s\n", rateWords(rate), "way", "to a node", "time", "sender cpu", "receiver cpu", "receiver memory")
		rows := middles(all, rate)
		for _, p := range rows {
			fmt.Fprintf(&out, "  %-12s %12s %7.1f s %9.1f s %11.1f s %16s\n", p.Way, mib(p.Bytes), p.Seconds, p.Sender, p.Receiver, mib(p.Memory))
		}
		out.WriteString(beside(rows))
	}
	return out.String()
}

func rates(all []Passage) []int64 {
	var out []int64
	for _, p := range all {
		if !slices.Contains(out, p.Rate) {
			out = append(out, p.Rate)
		}
	}
	return out
}

// middles is, for each way at a rate, the round of the middle time.
func middles(all []Passage, rate int64) []Passage {
	by := map[string][]Passage{}
	var ways []string
	for _, p := range all {
		if p.Rate != rate {
			continue
		}
		if len(by[p.Way]) == 0 {
			ways = append(ways, p.Way)
		}
		by[p.Way] = append(by[p.Way], p)
	}
	var out []Passage
	for _, way := range ways {
		rounds := by[way]
		slices.SortFunc(rounds, func(a, b Passage) int { return cmp.Compare(a.Seconds, b.Seconds) })
		out = append(out, rounds[len(rounds)/2])
	}
	return out
}

// beside says how many times the bytes and the time of the best other way refit takes.
func beside(rows []Passage) string {
	at := slices.IndexFunc(rows, func(p Passage) bool { return p.Way == "refit" })
	if at < 0 || len(rows) < 2 {
		return ""
	}
	others := slices.Delete(slices.Clone(rows), at, at+1)
	least := slices.MinFunc(others, func(a, b Passage) int { return cmp.Compare(a.Bytes, b.Bytes) })
	fastest := slices.MinFunc(others, func(a, b Passage) int { return cmp.Compare(a.Seconds, b.Seconds) })
	return fmt.Sprintf("  refit: %.2f times the bytes of %s (aim: at most 1.2), %.2f times the time of %s (aim: at most 1)\n",
		float64(rows[at].Bytes)/float64(max(1, least.Bytes)), least.Way, rows[at].Seconds/max(fastest.Seconds, 1e-9), fastest.Way)
}
