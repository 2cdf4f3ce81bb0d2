package mastodon

import "strings"

// Scrub cuts out of a text what may be secret by its form alone: passwords in
// connection strings, and the arguments of jobs. What is secret by its name is cut out
// on the host, where it is known.
func Scrub(text string) string {
	lines := strings.Split(scrub(text, nil), "\n")
	for i, l := range lines {
		lines[i] = mask(l)
	}
	return strings.Join(lines, "\n")
}
