package mastodon

import (
	"regexp"
	"slices"
	"strings"
)

// What names a cause in the output of Rails' tools. The first group that matches
// decides how much a line matters: errors themselves, then the words around them.
var causes = []*regexp.Regexp{
	regexp.MustCompile(`PG::\w+|ERROR: |DETAIL: |HINT: |^\s*FATAL|ConcurrentMigrationError|[Ff]ailed to release advisory lock|you don't own a lock`),
	regexp.MustCompile(`\b[A-Z]\w*(::[A-Z]\w*)*(Error|Exception|NotFound|Invalid)\b|^Caused by|cannot open shared object|[Cc]ould not find|requires (Redis|Ruby)|Mastodon requires|is not supported|Out of memory|Killed`),
	regexp.MustCompile(`^rails aborted!|^bundler: |^== .*: migrating|[Aa]bort|[Ee]rror`),
}

// frame is a line of a backtrace, Ruby's or Node's. Ruby tells of an error that nobody
// caught behind the place of its first frame, on the same line: that is none.
var frame = regexp.MustCompile(`^\s*(from )?[\w./@+~-]+\.(rb|rake|ru|js|mjs|cjs|ts):\d+(:\d+)?(:in ['` + "`" + `][^']*')?$|^\s+at .*[(:]\S*:\d+|^\(See full trace|^Tasks: TOP|:in ['` + "`" + `][^']+'$`)

// FailureLines picks from a tool's output the lines that tell why it failed, at
// most max, in their order and without repetitions; the last lines where none
// does. Passwords of connection strings are cut out: a client that cannot connect
// may quote the address it was given.
func FailureLines(output string, max int) []string {
	var lines []string
	for l := range strings.Lines(output) {
		l = scrub(strings.TrimRight(l, " \t\r\n"), nil)
		if strings.TrimSpace(l) == "" || frame.MatchString(l) || slices.Contains(lines, l) {
			continue
		}
		lines = append(lines, l)
	}
	rank := make([]int, len(lines))
	matched := false
	for i, l := range lines {
		rank[i] = len(causes)
		for r, re := range causes {
			if re.MatchString(l) {
				rank[i], matched = r, true
				break
			}
		}
	}
	if !matched {
		return lines[len(lines)-min(max, len(lines)):]
	}
	var keep []int
	for r := range causes {
		for i := range lines {
			if rank[i] == r && len(keep) < max {
				keep = append(keep, i)
			}
		}
	}
	slices.Sort(keep)
	out := make([]string, len(keep))
	for i, k := range keep {
		out[i] = lines[k]
	}
	return out
}

// MigrationHint says what to do about a failed migration, where its output tells;
// empty where it does not.
func MigrationHint(output string) string {
	switch {
	case strings.Contains(output, "ailed to release advisory lock"), strings.Contains(output, "you don't own a lock"):
		return "the migration went through a transaction pooler; some or all of it may be applied; give the direct address of the database in refit.yml and run it again"
	case strings.Contains(output, "ConcurrentMigrationError"):
		return "another migration holds the lock; wait for its end, or find the session that kept it"
	case strings.Contains(output, "PG::LockNotAvailable"):
		return "a lock was not free in time; look at what held it and run it again"
	case strings.Contains(output, "already exists") && strings.Contains(output, "elation"):
		return "an interrupted earlier run left its work behind; look for INVALID indexes and drop or reindex them"
	case strings.Contains(output, "PG::ConnectionBad"), strings.Contains(output, "ConnectionNotEstablished"), strings.Contains(output, "PG::AdminShutdown"):
		return "the connection to the database broke; each finished migration is recorded, so it can be run again once the database answers"
	case strings.Contains(output, "PG::ReadOnlySqlTransaction"):
		return "the database takes no writes: a standby answers at the direct address"
	}
	return ""
}
