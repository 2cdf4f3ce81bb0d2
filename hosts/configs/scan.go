package configs

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Allow is what a line holds that only looks like a secret: refit then asks it for
// keys, known names and tokens alone, which nothing excuses.
const Allow = "refit:no-secret"

// known are the names of Mastodon's .env.production whose values are secrets, and a few
// of the programs around it. Source: .env.production.sample and the documentation's
// page of environment variables.
var known = func() map[string]bool {
	out := map[string]bool{}
	for name := range strings.FieldsSeq(`
		SECRET_KEY_BASE OTP_SECRET VAPID_PRIVATE_KEY
		ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY
		DB_PASS REPLICA_DB_PASS PGPASSWORD REDIS_PASSWORD SIDEKIQ_REDIS_PASSWORD CACHE_REDIS_PASSWORD
		SMTP_PASSWORD BULK_SMTP_PASSWORD AWS_SECRET_ACCESS_KEY SWIFT_PASSWORD AZURE_STORAGE_ACCESS_KEY
		ES_PASS DEEPL_API_KEY LIBRE_TRANSLATE_API_KEY HCAPTCHA_SECRET_KEY
		OIDC_CLIENT_SECRET SAML_PRIVATE_KEY LDAP_PASSWORD GITHUB_API_TOKEN GITHUB_TOKEN
		DIGITALOCEAN_TOKEN DIGITALOCEAN_ACCESS_TOKEN SLACK_TOKEN SLACK_BOT_TOKEN SLACK_APP_TOKEN`) {
		out[name] = true
	}
	return out
}()

// token is a form that gives a secret away wherever it stands.
type token struct {
	rule string
	form *regexp.Regexp
}

var tokens = []token{
	{"a private key", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----|PuTTY-User-Key-File-|AGE-SECRET-KEY-1`)},
	{"a token of GitHub", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}`)},
	{"a token of GitLab", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20,}`)},
	{"a token of Slack", regexp.MustCompile(`\bxox[a-z]-[A-Za-z0-9-]{10,}|\bxapp-[0-9]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/(services|triggers|workflows)/[A-Za-z0-9/]{10,}`)},
	{"a token of DigitalOcean", regexp.MustCompile(`\bdo[opr]_v1_[a-f0-9]{64}`)},
	{"a key of SendGrid", regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`)},
	{"a key of Google", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`)},
	{"a key of Stripe", regexp.MustCompile(`\b[rs]k_live_[A-Za-z0-9]{16,}`)},
	{"a token of npm", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}`)},
	{"a key of Backblaze", regexp.MustCompile(`\bK00[0-9][A-Za-z0-9/+]{27}\b`)},
	{"a key of DeepL", regexp.MustCompile(`\b[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}:fx\b`)},
	{"a signed web token", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`)},
}

var (
	action = regexp.MustCompile(`\{\{.*?\}\}`)
	// assignment is NAME=value or NAME: value, with quotes or without.
	assignment = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_.-]*)["']?\s*([=:])\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;]+)`)
	// spaced is a directive as of nginx: name, blank, value.
	spaced    = regexp.MustCompile(`^\s*([A-Za-z_][A-Za-z0-9_.-]*)\s+("[^"]*"|'[^']*'|[^\s"';]+)\s*;?\s*$`)
	inURL     = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:([^\s/@"']+)@`)
	variable  = regexp.MustCompile(`^\$(\{[A-Za-z0-9_:?-]*\}|[A-Za-z_][A-Za-z0-9_]*)$|^%[A-Za-z]$`)
	secretish = regexp.MustCompile(`(?i)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|SALT|CREDENTIALS?|KEY_BASE)$`)
	passwords = regexp.MustCompile(`(?i)(^|[_.-])(PASSWORD|PASSWD)$`)
	word      = regexp.MustCompile(`^[A-Za-z0-9+/=_.~!@#%^&*:-]+$`)
	// plain are values of a password's name that are none.
	plain = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|none|null|nil|required|optional|prompt)$`)
)

// hole is what stands for a reference or an action while a line is looked at.
const hole = "\x00"

// Scan says what of some files looks like a secret, sorted by file and line: private
// keys, values of names known to be secret, tokens of known forms, URLs with passwords,
// and values of names such as …_KEY that look random. The values are not in what it says.
// A reference is no secret; in a .tmpl no action is, since what it renders is scanned.
func Scan(files map[string][]byte) []Finding {
	var out []Finding
	for _, p := range slices.Sorted(maps.Keys(files)) {
		text := files[p]
		for n := 1; len(text) > 0; n++ {
			line, rest, _ := bytes.Cut(text, []byte("\n"))
			text = rest
			if rule, name := judge(string(line), strings.HasSuffix(p, tmpl)); rule != "" {
				out = append(out, Finding{Path: p, Line: n, Rule: rule, Name: name})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line))
	})
	return out
}

// judge is the first rule that a line breaks, and the name that is known for it.
func judge(line string, isTemplate bool) (rule, name string) {
	for _, t := range tokens {
		if t.form.MatchString(line) {
			return t.rule, ""
		}
	}
	excused := strings.Contains(line, Allow)
	line = strings.ReplaceAll(line, hole, " ")
	line = reference.ReplaceAllString(line, hole)
	if isTemplate {
		line = action.ReplaceAllString(line, hole)
	}
	trimmed := strings.TrimSpace(line)
	comment := strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") || strings.HasPrefix(trimmed, "//")
	if rule, name = assigned(line, comment, excused, 0); rule != "" || excused {
		return rule, name
	}
	for _, m := range inURL.FindAllStringSubmatch(line, -1) {
		if left(m[1]) != "" {
			return "a URL with a password", ""
		}
	}
	if m := spaced.FindStringSubmatch(line); m != nil && secretish.MatchString(m[1]) && random(left(m[2])) {
		return "a value that looks random, of a name that speaks of a secret", ""
	}
	return "", ""
}

// assigned looks at what a text assigns, and at what that assigns in turn, as
// Environment="DB_PASS=…" does.
func assigned(text string, comment, excused bool, depth int) (rule, name string) {
	if depth > 3 {
		return "", ""
	}
	for _, m := range assignment.FindAllStringSubmatch(text, -1) {
		name, value := m[1], left(m[3])
		if comment && m[2] == ":" {
			continue // prose: "# DB_PASS: of the database"
		}
		switch {
		case value == "":
		case known[strings.ToUpper(name)]:
			return "the value of a name that is known to be secret", strings.ToUpper(name)
		case excused:
		case passwords.MatchString(name) && !plain.MatchString(value) && !isPath(value):
			return "a password", ""
		case secretish.MatchString(name) && !strings.Contains(strings.ToUpper(name), "PUBLIC") && random(value):
			return "a value that looks random, of a name that speaks of a secret", ""
		}
		if rule, name := assigned(inside(m[3]), comment, excused, depth+1); rule != "" {
			return rule, name
		}
	}
	return "", ""
}

// inside is a value without the quotes around it.
func inside(value string) string {
	if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return value[1 : len(value)-1]
	}
	return value
}

// left is what of a value is neither quotes, references nor the name of a variable.
func left(value string) string {
	value = strings.TrimSpace(strings.ReplaceAll(inside(value), hole, ""))
	if variable.MatchString(value) {
		return ""
	}
	return value
}

func isPath(v string) bool {
	return strings.HasPrefix(v, "/") || strings.HasPrefix(v, "./") || strings.HasPrefix(v, "../") || strings.HasPrefix(v, "~/") || strings.HasPrefix(v, "{")
}

// random tells whether a value looks drawn by lot: long, letters and digits mixed, and
// few repeats. Paths, fingerprints and URLs are none.
func random(v string) bool {
	if len(v) < 16 || isPath(v) || strings.HasPrefix(v, "SHA256:") || strings.Contains(v, "://") || !word.MatchString(v) {
		return false
	}
	if !strings.ContainsAny(v, "0123456789") || !strings.ContainsFunc(v, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }) {
		return false
	}
	return entropy(v) >= 3
}

// entropy is Shannon's, in bits a byte.
func entropy(v string) float64 {
	var counts [256]int
	for i := range len(v) {
		counts[v[i]]++
	}
	var sum float64
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(v))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
