package notes

import (
	"regexp"
	"strings"
)

const (
	idForm   = `GHSA(?:-[23456789cfghjmpqrvwx]{4}){3}|CVE-\d{4}-\d{4,}`
	severity = `critical|major|severe|high|moderate|medium|low`
)

var (
	advisoryID = regexp.MustCompile(`\b(?:` + idForm + `)\b`)
	// gathered: "several critical security issues (CVE-1, CVE-2)".
	gathered = regexp.MustCompile(`(?i)\b(` + severity + `) (?:severity )?(?:security )?(?:issues?|vulnerabilit(?:y|ies)|flaws?|bugs?) \(([^()]*)\)`)
	// rated: "CVE-1 (critical severity)", "CVE-1, high severity".
	rated = regexp.MustCompile(`\b(` + idForm + `)[ ,(:]{1,3}(?i:(` + severity + `) severity)\b`)
)

// idsOf are the ids that stand in the source letter by letter. A CVE's number has no
// fixed length: one that ends with a body that is cut may be half of another.
func idsOf(src []byte, whole bool) map[string]bool {
	out := map[string]bool{}
	for _, at := range advisoryID.FindAllIndex(src, -1) {
		id := string(src[at[0]:at[1]])
		if whole || at[1] < len(src) || !strings.HasPrefix(id, "CVE") {
			out[id] = true
		}
	}
	return out
}

// advisories notes the ids that a reader sees in a block, or follows a link to.
func (r *reader) advisories(b block) {
	for _, k := range b.kids {
		r.advisories(k)
	}
	text := flat(b.text)
	how := map[string]string{}
	for _, m := range gathered.FindAllStringSubmatch(text, -1) {
		for _, id := range advisoryID.FindAllString(m[2], -1) {
			how[id] = strings.ToLower(m[1])
		}
	}
	for _, m := range rated.FindAllStringSubmatch(text, -1) {
		how[m[1]] = strings.ToLower(m[2])
	}
	for _, id := range advisoryID.FindAllString(text, -1) {
		r.advisory(id, how[id])
	}
	for _, l := range b.links {
		// A link from one id to another names one flaw twice.
		as := how[advisoryID.FindString(l.label)]
		for _, id := range advisoryID.FindAllString(l.target, -1) {
			r.advisory(id, as)
		}
	}
}

// advisory adds an id, or the severity that was not given where it stood first.
func (r *reader) advisory(id, severity string) {
	if !r.ids[id] {
		return
	}
	at, ok := r.named[id]
	switch {
	case !ok:
		r.named[id] = len(r.n.Advisories)
		r.n.Advisories = append(r.n.Advisories, Advisory{id, severity})
	case r.n.Advisories[at].Severity == "":
		r.n.Advisories[at].Severity = severity
	}
}
