package configs

import (
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// change is one run of bytes of the old text that a side replaced. Both ends lie at
// ends of lines.
type change struct {
	start, end int
	text       string
}

// Merge brings upstream's changes, from oldUpstream to newUpstream, into theirs: the
// three ways of diff3, by whole lines. Changes that overlap or touch are a conflict,
// unless both sides made the same. With conflicts merged is theirs, untouched.
func Merge(oldUpstream, newUpstream, theirs []byte) (merged []byte, conflicts []Conflict) {
	base := string(oldUpstream)
	a, b := changes(base, string(newUpstream)), changes(base, string(theirs))
	var out strings.Builder
	at, line := 0, 1 // where we are in base; the line of theirs that this is
	pass := func(text string) {
		out.WriteString(text)
		line += strings.Count(text, "\n")
	}
	for len(a) > 0 || len(b) > 0 {
		start, end, n, m := chunk(a, b)
		pass(base[at:start])
		upstream, own := replaced(base, start, end, a[:n]), replaced(base, start, end, b[:m])
		old := base[start:end]
		switch {
		case upstream == own, m == 0:
			out.WriteString(upstream)
		case n == 0:
			out.WriteString(own)
		default:
			conflicts = append(conflicts, Conflict{Line: line, Old: old, New: upstream, Theirs: own})
		}
		line += strings.Count(own, "\n")
		at, a, b = end, a[n:], b[m:]
	}
	if len(conflicts) > 0 {
		return slices.Clone(theirs), conflicts
	}
	out.WriteString(base[at:])
	return []byte(out.String()), nil
}

// changes are what makes after of before, by lines, in order; those that touch are one.
func changes(before, after string) []change {
	var out []change
	for _, e := range udiff.Lines(before, after) {
		if n := len(out); n > 0 && out[n-1].end == e.Start {
			out[n-1].end, out[n-1].text = e.End, out[n-1].text+e.New
			continue
		}
		out = append(out, change{e.Start, e.End, e.New})
	}
	return out
}

// chunk is the first run of base in which changes of either side overlap or touch: how
// many of each it takes.
func chunk(a, b []change) (start, end, n, m int) {
	switch {
	case len(b) == 0 || (len(a) > 0 && a[0].start <= b[0].start):
		start, end, n = a[0].start, a[0].end, 1
	default:
		start, end, m = b[0].start, b[0].end, 1
	}
	for {
		switch {
		case n < len(a) && a[n].start <= end:
			end, n = max(end, a[n].end), n+1
		case m < len(b) && b[m].start <= end:
			end, m = max(end, b[m].end), m+1
		default:
			return start, end, n, m
		}
	}
}

// replaced is base[start:end] with the changes made.
func replaced(base string, start, end int, made []change) string {
	var out strings.Builder
	for _, c := range made {
		out.WriteString(base[start:c.start])
		out.WriteString(c.text)
		start = c.end
	}
	out.WriteString(base[start:end])
	return out.String()
}
