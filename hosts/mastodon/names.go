package mastodon

import (
	"path"
	"regexp"
	"strconv"
	"strings"
)

// WebUnit is Puma's unit, as upstream's dist/ names it.
const WebUnit = "mastodon-web.service"

// StreamingUnit is the streaming server's unit on a port, as upstream's dist/ names it.
func StreamingUnit(port int) string { return "mastodon-streaming@" + strconv.Itoa(port) + ".service" }

// Filled puts the default into each empty field; what lies below Home follows it.
func (l Layout) Filled() Layout { return l.filled() }

// SharedLinks are the links that stand in every release in the place of what the
// releases of a host share: its settings, its logs, and uploads where they are
// kept on the host's own disk.
func (l Layout) SharedLinks() map[string]string {
	l = l.filled()
	return map[string]string{
		".env.production": l.EnvFile,
		"log":             path.Join(l.Shared, "log"),
		"public/system":   path.Join(l.Shared, "system"),
	}
}

// LinesThatMatter picks from a unit's journal the lines that tell why it failed,
// at most max.
func LinesThatMatter(lines []string, max int) []string {
	out := FailureLines(strings.Join(lines, "\n"), max)
	for i, l := range out {
		out[i] = mask(l)
	}
	return out
}

var (
	// A job's arguments may hold tokens: Sidekiq prints whole jobs when it warns.
	jobArguments = regexp.MustCompile(`"args":.*`)
	// Of a URL with a password only the user's name is kept.
	urlPassword = regexp.MustCompile(`(://[^/\s:@]*):[^/\s@]+@`)
)

// mask takes from a line of a journal what may be secret.
func mask(line string) string {
	return urlPassword.ReplaceAllString(jobArguments.ReplaceAllString(line, `"args":[…]`), "$1:…@")
}
