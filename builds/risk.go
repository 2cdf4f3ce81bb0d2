package builds

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Risky is a migration that a person should know of before it runs.
type Risky struct {
	// Name is the file's name without .rb.
	Name string `json:"name"`
	// Reasons, a sentence's part each; never empty.
	Reasons []string `json:"reasons"`
}

// bigTables grow with every post, follow, delivery or remote account: on an
// instance of some years they hold millions of rows, so that an index on one
// takes minutes to hours and a lock on one stops the site. (Upstream's own
// migrations take the same care of them: their indexes are built concurrently.)
var bigTables = []string{
	"account_conversations", "account_stats", "accounts", "accounts_tags", "bookmarks", "conversations", "custom_emojis", "favourites", "follows",
	"media_attachments", "mentions", "notifications", "poll_votes", "polls", "preview_cards", "preview_cards_statuses", "quotes", "status_edits",
	"status_pins", "status_stats", "statuses", "statuses_tags", "tagged_objects", "tags", "tombstones", "users",
}

var (
	trailingComment = regexp.MustCompile(`(?m)(?:^\s*#|\s#\s).*$`)
	createsTable    = regexp.MustCompile(`\bcreate_table[\s(]+[:'"](\w+)`)

	rewrites = regexp.MustCompile(`\.(update_all|update_columns?|update_attributes?!?|update!?|save!?|delete_all|delete_by|destroy_all|destroy_by|destroy!?|insert_all!?|insert!?|upsert_all|upsert|create!?)(?:[^:\w!?]|$)` +
		`|\b(update_column_in_batches|exec_(?:update|delete|insert))\b|\b(Setting\.\w+\s*=)[^=]`)
	rewritesSQL = regexp.MustCompile(`(?i)\b(UPDATE)\s+[\w".]+\s+(?:AS\s+\w+\s+|\w+\s+)?SET\b|\b(DELETE\s+FROM|INSERT\s+INTO|TRUNCATE|MERGE\s+INTO)\b`)
	emptyBody   = regexp.MustCompile(`^(?:nil|true|;|\s)*$`)
	saysOneWay  = regexp.MustCompile(`\bIrreversibleMigration\b`)
	goesBack    = regexp.MustCompile(`\b(?:\w+\.down|reversible|revert)\b`)

	indexes    = regexp.MustCompile(`\b(add_index|add_concurrent_index|add_reference|add_belongs_to)[\s(]+(?:[:'"](\w+)|([\w.@]+))`)
	indexSQL   = regexp.MustCompile(`(?i)\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(CONCURRENTLY\s+)?[^;]*?\bON\s+(?:ONLY\s+)?"?(\w+)`)
	concurrent = regexp.MustCompile(`(?:\balgorithm:|:algorithm\s*=>)\s*:concurrently\b`)
	noIndex    = regexp.MustCompile(`\bindex:\s*false\b`)

	takesAway = regexp.MustCompile(`\b(drop_table|drop_join_table|drop_view|remove_columns?|remove_reference|remove_belongs_to|remove_timestamps|rename_column|rename_table|change_column)[\s(]+[:'"](\w+)`)
	holds     = regexp.MustCompile(`\b(change_column_null|change_column|add_foreign_key|add_check_constraint|add_exclusion_constraint|validate_constraint)[\s(]+[:'"](\w+)`)
	notYet    = regexp.MustCompile(`\bvalidate:\s*false\b`)
	nullable  = regexp.MustCompile(`^change_column_null[\s(]+[^,]+,[^,]+,\s*true\b`)
	validated = regexp.MustCompile(`\bvalidate_check_constraint\b|\bvalidate_not_null_constraint\b`)
)

// risks tells what a person should know of a migration, from its text. It is a
// reading of words, not a proof: it names what is known to hurt, and what it
// does not know it does not clear.
func risks(m Migration, text string) []string {
	text = trailingComment.ReplaceAllString(text, "")
	down, hasDown := method(text, "down")
	forward := strings.Replace(text, down, "", 1)
	var created []string
	for _, t := range createsTable.FindAllStringSubmatch(forward, -1) {
		created = append(created, t[1])
	}
	r := reasons{text: forward, created: created}
	r.data(down, hasDown)
	r.indexes()
	if !m.Post {
		r.takenAway()
	}
	r.locks()
	r.long()
	return r.list
}

// reasons gathers what is found in the text that runs on the way forward.
type reasons struct {
	text    string
	created []string
	list    []string
}

func (r *reasons) say(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(r.list, line) {
		r.list = append(r.list, line)
	}
}

// big tells whether a table is large when the migration comes to it.
func (r *reasons) big(table string) bool {
	return slices.Contains(bigTables, table) && !slices.Contains(r.created, table)
}

// data: a rewrite that the way down does not take back.
func (r *reasons) data(down string, hasDown bool) {
	oneWay := saysOneWay.MatchString(down) || saysOneWay.MatchString(r.text)
	what := r.rewrite()
	switch {
	case what != "" && oneWay:
		r.say("rewrites data (%s) and says itself that it cannot be reversed", what)
	case what != "" && hasDown && emptyBody.MatchString(bodyOf(down)):
		r.say("rewrites data (%s) and its down is empty: what stood there before is gone", what)
	case what != "" && !hasDown && !goesBack.MatchString(r.text):
		r.say("rewrites data (%s) and has no down: what stood there before is gone", what)
	case oneWay:
		r.say("says itself that it cannot be reversed")
	}
}

// rewrite names what changes rows, empty for nothing.
func (r *reasons) rewrite() string {
	for _, form := range []*regexp.Regexp{rewrites, rewritesSQL} {
		if m := form.FindStringSubmatch(r.text); m != nil {
			return strings.Join(strings.Fields(strings.Join(m[1:], "")), " ")
		}
	}
	return ""
}

// indexes: those on big tables take long; those that are not built concurrently
// keep all writers waiting meanwhile.
func (r *reasons) indexes() {
	for _, at := range indexes.FindAllStringSubmatchIndex(r.text, -1) {
		statement := statementAt(r.text, at[0])
		word, table, variable := group(r.text, at, 1), group(r.text, at, 2), group(r.text, at, 3)
		slowly := concurrent.MatchString(statement) || word == "add_concurrent_index"
		switch {
		case noIndex.MatchString(statement):
		case table == "" && !slowly:
			r.say("builds an index that is not concurrent on a table that only running code knows (%s)", variable)
		case r.big(table):
			r.index(table, slowly)
		}
	}
	for _, m := range indexSQL.FindAllStringSubmatch(r.text, -1) {
		if r.big(m[2]) {
			r.index(m[2], m[1] != "")
		}
	}
	for table, body := range changedTables(r.text) {
		if r.big(table) && strings.Contains(body, ".index") {
			r.index(table, concurrent.MatchString(body))
		}
	}
}

func (r *reasons) index(table string, slowly bool) {
	if slowly {
		r.say("builds an index on %s, a big table: it takes long, and an interruption leaves an INVALID index", table)
	} else {
		r.say("builds an index on %s, a big table, that is not concurrent: nothing can be written there until it is built", table)
	}
}

var changeTable = regexp.MustCompile(`(?m)^(\s*)change_table[\s(]+[:'"](\w+)[^\n]*\n`)

// changedTables are the bodies of change_table blocks, by table.
func changedTables(text string) map[string]string {
	out := map[string]string{}
	for _, at := range changeTable.FindAllStringSubmatchIndex(text, -1) {
		rest := text[at[1]:]
		if end := strings.Index(rest, "\n"+group(text, at, 1)+"end"); end >= 0 {
			rest = rest[:end]
		}
		out[group(text, at, 2)] += rest
	}
	return out
}

// takenAway: what the old release may still read, since it serves meanwhile.
func (r *reasons) takenAway() {
	var what []string
	for _, m := range takesAway.FindAllStringSubmatch(r.text, -1) {
		if word := m[1] + " " + m[2]; !slices.Contains(r.created, m[2]) && !slices.Contains(what, word) {
			what = append(what, word)
		}
	}
	if what != nil {
		r.say("takes away or changes what the old release may read while it serves (%s)", strings.Join(what, ", "))
	}
}

// walks are loops over a model's rows.
var walks = regexp.MustCompile(`\b([A-Z]\w*)(?:\.\w+(?:\([^\n]*?\))?)*?\.(find_each|in_batches|find_in_batches)\b`)

// long: a walk over a big table's rows, which holds no lock and takes its time.
func (r *reasons) long() {
	for _, m := range walks.FindAllStringSubmatch(r.text, -1) {
		if table := tableOf(m[1]); r.big(table) {
			r.say("goes through %s, a big table, row by row (%s): it may take long", table, m[2])
		}
	}
}

var capital = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// tableOf is the table of a model by Rails' convention: "MediaAttachment" is
// media_attachments, "Status" statuses.
func tableOf(model string) string {
	name := strings.ToLower(capital.ReplaceAllString(model, "${1}_${2}"))
	if strings.HasSuffix(name, "s") {
		return name + "es"
	}
	return name + "s"
}

// locks: checks of every row of a big table while nothing can be written there.
func (r *reasons) locks() {
	for _, at := range holds.FindAllStringSubmatchIndex(r.text, -1) {
		word, table, statement := group(r.text, at, 1), group(r.text, at, 2), statementAt(r.text, at[0])
		switch {
		case !r.big(table), notYet.MatchString(statement), nullable.MatchString(statement):
		case word == "validate_constraint":
		case word == "change_column_null" && validated.MatchString(r.text):
		default:
			r.say("checks or rewrites every row of %s, a big table, under a lock (%s)", table, word)
		}
	}
}

var methodHead = regexp.MustCompile(`(?m)^([ \t]*)def (?:self\.)?(\w+)[^\n]*(?:\n|$)`)

// method is a method's whole text, its head and its end with it.
func method(text, name string) (string, bool) {
	for _, at := range methodHead.FindAllStringSubmatchIndex(text, -1) {
		if group(text, at, 2) != name {
			continue
		}
		head := strings.TrimSpace(text[at[0]:at[1]])
		if oneLine.MatchString(head) || strings.Contains(head, "=") {
			return text[at[0]:at[1]], true
		}
		end := strings.Index(text[at[1]-1:], "\n"+group(text, at, 1)+"end")
		if end < 0 {
			return text[at[0]:], true
		}
		return text[at[0] : at[1]-1+end+1+len(group(text, at, 1)+"end")], true
	}
	return "", false
}

var (
	defLine = regexp.MustCompile(`^\s*def (?:self\.)?\w+(?:\(\))?\s*=?`)
	endLine = regexp.MustCompile(`\bend\s*$`)
)

// bodyOf is a method's text without its head and its end.
func bodyOf(method string) string {
	return endLine.ReplaceAllString(defLine.ReplaceAllString(method, ""), "")
}
