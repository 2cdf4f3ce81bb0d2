package mastodon

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// MigrationEvent is one line of what a migration reports.
type MigrationEvent struct {
	// Version and Name of the migration: "20250717003848", "CreateUsernameBlocks".
	Version string
	Name    string
	// Statement is a step inside it, "create_table(:username_blocks)"; empty for
	// the migration's own begin and end.
	Statement string
	// Done: the migration has ended well, after Took.
	Done bool
	Took time.Duration
}

func (e MigrationEvent) String() string {
	switch {
	case e.Statement != "":
		return fmt.Sprintf("%s %s: %s", e.Version, e.Name, e.Statement)
	case e.Done:
		return fmt.Sprintf("%s %s: migrated in %s", e.Version, e.Name, e.Took)
	}
	return fmt.Sprintf("%s %s: begun", e.Version, e.Name)
}

// MigrationLog reads the output of "rails db:migrate" as it grows. The zero value
// is at its begin.
type MigrationLog struct {
	// Finished are the migrations that ended well, in order.
	Finished []MigrationEvent
	// Current is the one that has begun and not ended; nil between two.
	Current *MigrationEvent

	rest string // an unfinished line
}

// The lines that ActiveRecord::Migration#announce and #say write.
var (
	migrating = regexp.MustCompile(`^==\s+(\d+) (\S+): migrating =`)
	migrated  = regexp.MustCompile(`^==\s+(\d+) (\S+): migrated \(([0-9.]+)s\) =`)
	stepping  = regexp.MustCompile(`^-- (.+)$`)
)

// Feed takes the next bytes and gives the events of the lines that they end.
func (l *MigrationLog) Feed(b []byte) []MigrationEvent {
	text := l.rest + string(b)
	var out []MigrationEvent
	for {
		line, rest, ended := strings.Cut(text, "\n")
		if !ended {
			l.rest = text
			return out
		}
		text = rest
		if e, ok := l.line(strings.TrimRight(line, "\r")); ok {
			out = append(out, e)
		}
	}
}

func (l *MigrationLog) line(s string) (MigrationEvent, bool) {
	if m := migrating.FindStringSubmatch(s); m != nil {
		e := MigrationEvent{Version: m[1], Name: m[2]}
		l.Current = &e
		return e, true
	}
	if m := migrated.FindStringSubmatch(s); m != nil {
		seconds, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return MigrationEvent{}, false
		}
		e := MigrationEvent{Version: m[1], Name: m[2], Done: true, Took: time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond)}
		l.Current = nil
		l.Finished = append(l.Finished, e)
		return e, true
	}
	if m := stepping.FindStringSubmatch(s); m != nil && l.Current != nil {
		return MigrationEvent{Version: l.Current.Version, Name: l.Current.Name, Statement: m[1]}, true
	}
	return MigrationEvent{}, false
}

// PendingMigration is one that a release has and the database lacks.
type PendingMigration struct {
	Version string `json:"version"`
	Name    string `json:"name"`
}

var (
	pendingHead = regexp.MustCompile(`(?m)^You have (\d+) pending migrations?:`)
	pendingLine = regexp.MustCompile(`(?m)^\s+(\d{3,}) (\S.*)$`)
)

// ReadPending reads the output and exit status of the job Pending. It is an error
// if they do not fit together: the job failed for another reason.
func ReadPending(output string, exit int) ([]PendingMigration, error) {
	head := pendingHead.FindStringSubmatchIndex(output)
	if head == nil {
		if exit == 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot tell what is pending: exit status %d: %s", exit, strings.Join(FailureLines(output, 5), " | "))
	}
	want := output[head[2]:head[3]]
	var out []PendingMigration
	for _, m := range pendingLine.FindAllStringSubmatch(output[head[1]:], -1) {
		out = append(out, PendingMigration{m[1], strings.TrimSpace(m[2])})
	}
	if strconv.Itoa(len(out)) != want {
		return nil, fmt.Errorf("cannot tell what is pending: %s announced, %d listed", want, len(out))
	}
	return out, nil
}

// ReadBooted reads the output of the job BootSmoke: the version, "4.5.15".
func ReadBooted(output string) (string, error) {
	for line := range strings.Lines(output) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "refit.version="); ok && v != "" {
			return v, nil
		}
	}
	return "", fmt.Errorf("the release did not say its version: %s", strings.Join(FailureLines(output, 5), " | "))
}

// ChangedIndex is a search index whose definition differs from the one in use.
type ChangedIndex struct {
	// Name of its class: "AccountsIndex".
	Name string `json:"name"`
	// Parts that differ, "mappings", "analysers" (which only came), "settings"; empty
	// where that is not known.
	Parts []string `json:"parts,omitempty"`
	// Missing: the search server has no such index; "tootctl search deploy" makes it
	// and deletes nothing.
	Missing bool `json:"missing,omitempty"`
}

// InPlace tells whether the change can be made while the documents stay.
func (c ChangedIndex) InPlace() bool {
	return len(c.Parts) > 0 && !slices.ContainsFunc(c.Parts, func(p string) bool { return p != "mappings" && p != "analysers" })
}

// Only is what tootctl's option --only calls the index: "public_statuses".
func (c ChangedIndex) Only() string {
	name := strings.TrimSuffix(c.Name, "Index")
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// ReadSearchChanged reads the output of the job SearchChanged.
func ReadSearchChanged(output string) ([]ChangedIndex, error) {
	var out []ChangedIndex
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "refit.indexes=done" {
			return out, nil
		}
		if v, ok := strings.CutPrefix(line, "refit.index="); ok {
			name, parts, _ := strings.Cut(v, " ")
			c := ChangedIndex{Name: name}
			switch parts {
			case "":
			case "missing":
				c.Missing = true
			default:
				c.Parts = strings.Split(parts, ",")
			}
			out = append(out, c)
		}
	}
	return nil, fmt.Errorf("cannot tell which search indexes changed: %s", strings.Join(FailureLines(output, 5), " | "))
}
