package notes_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/builds/notes"
)

// pathological are bodies at which a parser of markdown, or a search in it, takes a time that grows
// faster than their length, if it lets them.
func pathological() map[string]func(n int) string {
	repeat := func(s string) func(int) string { return func(n int) string { return strings.Repeat(s, n/len(s)) } }
	both := func(a, b func(int) string) func(int) string {
		return func(n int) string { return a(n/2) + b(n/2) }
	}
	growing := func(line func(i int) string) func(int) string {
		return func(n int) string {
			var b strings.Builder
			for i := 1; b.Len() < n; i++ {
				b.WriteString(line(i))
			}
			return b.String()
		}
	}
	steps := "## Update steps\n\n"
	return map[string]func(n int) string{
		"quotes in quotes":           repeat(">"),
		"quotes that go on":          both(repeat("> "), repeat("a\n")),
		"lists in lists":             both(repeat("- "), repeat("a\n")),
		"lists and blank lines":      both(repeat("- "), repeat("\n")),
		"numbered lists":             repeat("1. "),
		"a rule that is none":        func(n int) string { return strings.Repeat("* ", n/2) + "a" },
		"lists by their margin":      growing(func(i int) string { return strings.Repeat(" ", 2*i) + "- a\n" }),
		"lists and quotes":           repeat("> - "),
		"links that do not end":      repeat("[a]("),
		"brackets":                   both(repeat("["), repeat("]")),
		"brackets and targets":       both(repeat("["), repeat("](b")),
		"pictures":                   repeat("!["),
		"emphasis that does not end": repeat("*a_ "),
		"emphasis of each kind":      repeat("*a **b _c "),
		"marks of code":              growing(func(i int) string { return strings.Repeat("`", i) + " " }),
		"comments that do not end":   repeat("a <!-- "),
		"tags that do not end":       repeat("<a b=\""),
		"definitions":                growing(func(i int) string { return fmt.Sprintf("[a%d]: x\n", i) }),
		"one long line":              repeat("a"),
		"one long paragraph":         repeat("a\n"),
		"sentences":                  func(n int) string { return steps + strings.Repeat("Do it. ", n/7) },
		"steps":                      func(n int) string { return steps + strings.Repeat("1. do `bundle exec x`\n", n/22) },
		"unlike steps": func(n int) string {
			return steps + growing(func(i int) string { return fmt.Sprintf("1. do %d\n", i) })(n)
		},
		"codes in one step":      func(n int) string { return steps + "1. do " + strings.Repeat("`yarn a` ", n/9) },
		"advisories":             growing(func(i int) string { return fmt.Sprintf("CVE-2030-%06d ", i) }),
		"advisories in brackets": repeat("critical issues (CVE-2030-1234 "),
		"dependencies": func(n int) string {
			return "## Dependencies\n\n" + growing(func(i int) string { return fmt.Sprintf("- A%d: 1 or newer\n", i) })(n)
		},
		"origins": func(n int) string {
			return steps + "The following instructions are for updating from " + strings.Repeat("1.2.3, ", n/7) + "1.2.3."
		},
		"flags":    func(n int) string { return "## Upgrade overview\n\n" + strings.Repeat("ℹ️ Requires a\n", n/18) },
		"headings": growing(func(i int) string { return fmt.Sprintf("# a%d\n", i) }),
		"html":     repeat("<div>\n<!-- \n"),
		"settings": func(n int) string { return steps + "1. `" + strings.Repeat("A=b ", n/4) + "yarn`" },
	}
}

// spent is the processor's time that reading a body takes, the least of a few tries:
// a busy machine makes it no longer.
func spent(t *testing.T, body string) time.Duration {
	t.Helper()
	least := time.Hour
	for range 2 {
		before := processor(t)
		if _, err := notes.Parse([]byte(body)); err != nil {
			t.Fatal(err)
		}
		least = min(least, processor(t)-before)
	}
	return least
}

func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestNoBodyTakesMoreThanTimeInProportionToItsLength(t *testing.T) {
	const n = 8 << 10
	for name, body := range pathological() {
		short, long := spent(t, body(n)), spent(t, body(4*n))
		t.Logf("%-28s %10s %10s", name, short, long)
		// In proportion is four times; by the square it is sixteen.
		if long > 8*short && long > 150*time.Millisecond {
			t.Errorf("%s: %d KiB take %s, %d KiB take %s", name, n>>10, short, 4*n>>10, long)
		}
	}
}

func TestTheLongestBodyIsReadInSeconds(t *testing.T) {
	// Those that took longest, of all that are tried at lesser lengths.
	for _, name := range []string{"quotes in quotes", "lists and blank lines", "links that do not end", "codes in one step", "steps"} {
		body := pathological()[name]
		b := body(notes.MaxBody - 100)
		before := processor(t)
		n := parse(t, []byte(b[:min(len(b), notes.MaxBody)]))
		took := processor(t) - before
		t.Logf("%-28s %10s", name, took)
		if took > longest {
			t.Errorf("%s takes %s", name, took)
		}
		if strings.HasPrefix(name, "quotes") && len(n.Unknown) == 0 {
			t.Errorf("%s: passes for notes that ask for nothing", name)
		}
	}
}
