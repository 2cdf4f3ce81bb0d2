package drift

import "strings"

// mostLines bounds what is compared line by line; what is longer is told to differ.
const mostLines = 2000

// Diff are the lines in which two texts differ, "-" for the first's and "+" for the
// second's, by their longest common subsequence.
func Diff(a, b string) string {
	x, y := lines(a), lines(b)
	if len(x) > mostLines || len(y) > mostLines {
		return ""
	}
	// common[i][j] is the length of what x[i:] and y[j:] have in common.
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("-" + x[i] + "\n")
			i++
		default:
			out.WriteString("+" + y[j] + "\n")
			j++
		}
	}
	return out.String()
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}
