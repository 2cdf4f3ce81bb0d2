package notes

import (
	"regexp"
	"strings"
)

var (
	warning = regexp.MustCompile(`(?m)^(?:⚠️?|:warning:)\s*`)
	sign    = regexp.MustCompile(`(?m)^(?:⚠️?|ℹ️?|:warning:|:information_source:)\s*`)
	// box is a task list's.
	box = regexp.MustCompile(`^\[([ xX])\] `)
	// worded is how a flag begins that lost its sign.
	worded   = regexp.MustCompile(`^(?i)(?:requires|the minim(?:al|um) supported)\b`)
	lettered = regexp.MustCompile(`^\p{L}`)
	// breaking are words of the changelog that an admin must hear of.
	breaking = regexp.MustCompile(`(?i)\bbreaking change|\bmanual(?:ly)? (?:step|migration|intervention|action)|\brequir(?:es?|ing) (?:you|a manual|manual)\b|\byou (?:will |now )?(?:need|have) to\b|\b(?:disable|drop)[sd]? (?:\S+ ){0,3}support\b`)
	// tools are words of what admins run or set up, for what a release drops.
	tools = regexp.MustCompile(`(?i)support for (?:\S+ )?(?:ruby|node|postgresql|redis|elasticsearch|opensearch|imagemagick|libvips|docker|systemd)\b|\b(?:statsd|pghero|opentelemetry|prometheus|ldap|pam|saml|cas|oidc|swift|s3|azure|nginx|systemd|puma|sidekiq|streaming|cookies?|integration|environment variables?|rake|tootctl|script)\b|(?:^| )bin/|(?-i:\b[A-Z][A-Z0-9]+_[A-Z0-9_]+\b)`)
	// credits are the pull requests and authors behind an entry.
	credits = regexp.MustCompile(` \(#\d[^()]*\)$`)
)

func warns(s string) bool  { return warning.MatchString(s) }
func marked(s string) bool { return sign.MatchString(s) }

func unsigned(s string) string { return strings.TrimSpace(sign.ReplaceAllString(s, "")) }

// overview reads a block of "Upgrade overview": a line is a flag.
func (r *reader) overview(b block) {
	switch b.kind {
	case quote:
		r.quote(b)
	case list:
		for _, it := range b.kids {
			text := flat(seenOf(it))
			m := box.FindStringSubmatch(text)
			if first(m) == "[ ] " { // named, but not brought
				continue
			}
			r.flag(strings.TrimPrefix(text, first(m)), true)
		}
	default:
		if r.allStanding(b.text) {
			return
		}
		for line := range strings.SplitSeq(b.text, "\n") {
			r.flag(line, false)
		}
	}
}

// flag reads a line of the overview. Without a sign it is one if it is worded as one;
// listed tells that it stands in a list, which is as good as a sign.
func (r *reader) flag(line string, listed bool) {
	text := strings.TrimSpace(strings.TrimSuffix(unsigned(line), `\`)) // a line break with no line after it
	known := subject(text) != nil
	if !marked(line) && !worded.MatchString(text) && !(listed && lettered.MatchString(text)) {
		if !r.allStanding(line) {
			r.unknown(line)
		}
		return
	}
	r.n.Flags = r.add("flag", r.n.Flags, text)
	if warns(line) {
		r.warn(text)
	}
	if !known {
		r.unknown(text)
	}
}

func (r *reader) allStanding(text string) bool {
	for _, s := range split(flat(text)) {
		if !r.standing(s) {
			return false
		}
	}
	return true
}

// changelog reads a block of the changelog: what it calls breaking, and what it drops
// of that which admins use, are warnings.
func (r *reader) changelog(b block) {
	if b.kind == quote {
		r.quote(b)
		return
	}
	if len(b.kids) == 0 && warns(b.text) {
		r.warn(unsigned(b.text))
		return
	}
	for _, k := range b.kids {
		r.changelog(k)
	}
	gone := r.entry == "removed" || r.entry == "deprecated"
	for i, line := range strings.Split(b.text, "\n") {
		if len(line) > longest || breaking.MatchString(line) || (gone && i == 0 && tools.MatchString(line)) {
			r.warn(credits.ReplaceAllString(line, ""))
		}
	}
}
