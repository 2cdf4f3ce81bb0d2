package report

import (
	"net/url"
	"regexp"
	"strings"
)

// What no message may carry, whatever text it is in. Where a text is made its
// secrets are known and cut out; this is the last look before it leaves the
// machine, by the forms of what refit itself and Mastodon have.
var (
	userinfo     = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^/\s:@]*):[^@\s/]*@`)
	keyword      = regexp.MustCompile(`(?i)\b([a-z_]*(?:password|passwd|secret|token|api_?key|key_base|private_key|salt))(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&]+)`)
	digit        = regexp.MustCompile(`[0-9]`)
	slackTokens  = regexp.MustCompile(`\bx(?:ox[a-z.]*|app)-[0-9A-Za-z-]{6,}`)
	gitHubTokens = regexp.MustCompile(`\b(?:gh[a-z]_|github_pat_)[0-9A-Za-z_]{20,}`)
	slackWebhook = regexp.MustCompile(`(hooks\.slack[a-z.-]*/(?:services|workflows|triggers))/[0-9A-Za-z/_-]+`)
	kumaPush     = regexp.MustCompile(`(/api/push)/[0-9A-Za-z_-]+`)
	bearer       = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[0-9a-z._~+/=-]{8,}`)
	jobArguments = regexp.MustCompile(`"args":.*`) // Sidekiq prints whole jobs when it warns
)

const hidden = "[hidden]"

// Redactor makes the function that every text passes before it leaves the machine:
// it hides the secrets given, also as they stand in a URL, and what looks like one.
// Secrets shorter than four letters are left out, as hiding them would make texts
// unreadable and hide nothing.
func Redactor(secrets ...string) func(string) string {
	var known []string
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 {
			known = append(known, s, hidden, url.QueryEscape(s), hidden, url.PathEscape(s), hidden)
		}
	}
	exact := strings.NewReplacer(known...)
	return func(text string) string {
		text = exact.Replace(text)
		text = userinfo.ReplaceAllString(text, "$1:"+hidden+"@")
		text = slackTokens.ReplaceAllString(text, hidden)
		text = gitHubTokens.ReplaceAllString(text, hidden)
		text = slackWebhook.ReplaceAllString(text, "$1/"+hidden)
		text = kumaPush.ReplaceAllString(text, "$1/"+hidden)
		text = bearer.ReplaceAllString(text, "$1 "+hidden)
		text = jobArguments.ReplaceAllString(text, `"args":[…]`)
		return keyword.ReplaceAllStringFunc(text, named)
	}
}

// named hides the value of a name that a secret has. After a colon stands as often
// what is wrong with it ("SECRET_KEY_BASE: is missing"): there only what is quoted or
// looks made by a machine is hidden.
func named(text string) string {
	m := keyword.FindStringSubmatch(text)
	value := m[3]
	if !strings.Contains(m[2], "=") && !strings.ContainsAny(value[:1], `"'`) && (len(value) < 12 || !digit.MatchString(value)) {
		return text
	}
	return m[1] + m[2] + hidden
}
