package report

import (
	"fmt"
	"strings"
	"time"
)

// FirstLine is a text's first line.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// Printable keeps what a host sent from steering the reader's terminal, and from standing
// there in another order than it was written. Line breaks and tabs stay.
func Printable(text string) string { return printable(text) }

// fmtUnits writes a time in two units.
func fmtUnits(d, large time.Duration, many string, small time.Duration, few string) string {
	s := fmt.Sprintf("%d %s", d/large, many)
	if rest := d % large / small; rest > 0 {
		s += fmt.Sprintf(" %d %s", rest, few)
	}
	return s
}
