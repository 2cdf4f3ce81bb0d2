package notes

import "regexp"

// By tells who does what the notes ask for.
type By string

// Who it is.
const (
	// Refit does it, or refuses to begin where it was not done.
	Refit By = "refit"
	// Admin does it, or decides that it is not needed, and acknowledges it.
	Admin By = "admin"
	// Nobody: it is to be known, no more.
	Nobody By = "nobody"
)

// word is a subject of the vocabulary.
type word struct {
	name string
	re   *regexp.Regexp
	by   By
	why  string
	// hint: it helps where a step fails, and is no warning where it says no more.
	hint bool
	// ahead: it counts wherever it is said. Of other subjects a preface only chats.
	ahead bool
}

func w(name, re string, by By, why string) word {
	return word{name: name, re: regexp.MustCompile(`(?i)` + re), by: by, why: why}
}

// ahead is a word that counts also before the upgrade notes.
func ahead(name, re string, by By, why string) word {
	w := w(name, re, by, why)
	w.ahead = true
	return w
}

// subject is what a text of upstream's is about; nil if the vocabulary does not have it.
// The first that fits counts: what is narrow stands before what is wide.
func subject(text string) *word {
	if len(text) > longest {
		return nil
	}
	for i := range vocabulary {
		if vocabulary[i].re.MatchString(text) {
			return &vocabulary[i]
		}
	}
	return nil
}

// vocabulary is made from bodies of 3.0 to 4.7 and from the words listed in older
// release pages. What refit does itself must be worded so from end to end: nothing may
// be hung onto it. A name never changes its meaning: it stands behind --ack.
var vocabulary = []word{
	// What a step of the notes says without a number.
	{name: "charlock-holmes", re: regexp.MustCompile(`(?i)charlock_holmes`), by: Nobody, why: "only where that gem does not build: then it is set in the builder's own environment", hint: true},

	// The release as a whole.
	ahead("pre-release", `\bpre-release\b|not be able to (?:safely )?downgrade`, Admin, "there is no safe way back to a stable release"),
	ahead("end-of-support", `continue to support mastodon|do our best to support mastodon|will (?:no longer|not) be supported by|end of (?:life|support)`, Nobody, "says how long the line is kept up"),
	ahead("ffmpeg", `\bffmpeg\b`, Admin, "refit does not change programs of the system: see that every node has a version that is named"),
	ahead("security-release", `\bsecurity (?:releases?|updates?|fix(?:es)?|issues?)\b`, Nobody, "says why the release is urgent"),
	ahead("hotfix", `\bhotfix\b.*\b(?:available|released|out|instead)\b|\b(?:use|update to|upgrade to|install) v?\d\S* (?:instead|directly)\b`, Admin, "another release may be the one to take"),
	ahead("next-major", `required for zero-downtime`, Nobody, "says what a later upgrade builds on"),

	// The overview.
	w("assets", `^requires assets? (?:re)?compilation\.?$`, Refit, "every release is built whole from its tag, assets included"),
	w("streaming-restart", `^requires (?:the )?streaming (?:api|server) restart\.?$`, Refit, "each web node's units are stopped and started, streaming among them"),
	w("two-step-migrations", `^requires two-step database migration process for zero-downtime deployment\.?$`, Refit, "pre- and post-migrations are steps of their own, on either side of the roll"),
	w("long-migrations", `(?:unusually long|lengthy|very substantial)[\w -]*migrations?|migrations?\b.*\b(?:take a long time|long time to run|couple (?:of )?hours)`, Admin, "the migrations take long: choose the hour"),
	w("migrations", `^requires database migrations?\.?$`, Refit, "what the database lacks is applied in steps of its own"),
	w("ruby-version", `^(?:however, )?(?:the )?(?:recommended|default) ruby version has (?:been updated|changed from [\d.]+ to [\d.]+\d)\.?$`, Refit, "the tag pins its Ruby, and refit refuses to begin where a host lacks it"),
	w("minimum-ruby", `^the minim(?:al|um) supported (?:version for ruby|ruby version) has been bumped to [\d.]+$|^remove support for ruby [\d.]+(?: \([\w ,]+\))?$`, Refit, "the tag says which Ruby it allows, and refit refuses another"),
	w("minimum-node", `^the minim(?:al|um) supported (?:version for node(?:\.js)?|node(?:\.js)? version) has been bumped to [\d.]+$|^remove support for node(?:\.js)? [\d.]+(?: \([\w ,]+\))?$`, Refit, "the tag says which Node it allows, and refit refuses another"),
	w("minimum-postgresql", `^the minim(?:al|um) supported (?:version for postgresql|postgresql version)\b`, Admin, "compare it with the database server"),
	w("minimum-redis", `^the minim(?:al|um) supported (?:version for redis|redis version)\b`, Admin, "compare it with the Redis server"),
	w("minimum-libretranslate", `^the minim(?:al|um) supported (?:version for libretranslate|libretranslate version)\b`, Admin, "compare it with LibreTranslate, if you have it"),

	// What is changed by hand.
	w("encryption-keys", `active_record_encryption|db:encryption:init|\bencryption (?:keys?|secrets?)\b`, Admin, "made once, put into the environment of every node, never made again"),
	w("redis-namespace", `redis_namespace|\bredis namespaces?\b`, Admin, "a namespace in Redis must be given up before"),
	w("elasticsearch", `\brebuild(?:ing)?\b.*\b(?:elasticsearch|opensearch|search index)|\bsearch (?:index(?:es)?|mappings?)\b.*\b(?:rebuil|updat|reset|deploy)`, Admin, "refit brings mappings up to date; an import takes hours and is started by you, after the roll"),
	w("reverse-proxy", `\breverse prox(?:y|ies)\b|\bnginx\b`, Admin, "the proxies' configuration is yours; refit only takes nodes in and out of it"),
	w("database-replicas", `\b(?:database|read) replicas?\b|\bmakara\b|\breplica_`, Admin, "how replicas are named to Mastodon changes, if you use any"),
	w("statsd", `\bstatsd\b`, Admin, "what reads these figures will miss them"),
	w("pghero", `\bpghero\b`, Nobody, "speaks of a later release"),
	w("streaming-clustering", `\bclustering\b|more than one mastodon-streaming server\b`, Admin, "one process serves streaming: you may need more units and a balancer"),
	w("streaming-units", `\bsystemd unit\b|\bunit (?:scripts?|files?)\b`, Admin, "unit files are yours: compare them with those in dist/"),
	w("update-check", `\bcheck(?:ing)? for updates\b|\bupdate check(?:ing|s)?\b|\bupdate_check_url\b`, Admin, "Mastodon will ask a server of upstream's, which UPDATE_CHECK_URL changes or ends"),
	w("imagemagick", `\bimagemagick\b`, Admin, "see that the nodes have it, or libvips, in the version that is asked for"),
	w("libvips", `\blibvips\b`, Admin, "see that the nodes have it in the version that is asked for"),
	w("minimum-versions", `^the minim(?:al|um) supported\b`, Admin, "compare it with what the hosts have"),
	w("themes", `\bthem(?:es?|ing)\b`, Admin, "themes of your own may break; refit runs unmodified code"),
	w("email-subscriptions", `\bemail subscriptions?\b|disable_email_subscriptions|\bmailing lists?\b`, Admin, "more mail may be sent; DISABLE_EMAIL_SUBSCRIPTIONS ends that"),
	w("cookies", `\bcookies?\b`, Admin, "some users will be logged out"),
	w("postgresql-versions", `\bpostgresql versions? [\d. ]+(?:to|and|-)? ?[\d.]* (?:is|are) not supported`, Admin, "compare it with the database server"),
	w("dependencies", `\bexternal dependencies have\b|^(?:ruby|postgresql|redis|elasticsearch|node|libretranslate)\b[^:]*: `, Admin, "compare the versions with what the hosts have"),
	w("streaming-server", `\bstreaming (?:server|api)\b`, Admin, "see whether your streaming units, or what uses them, must change"),
	w("docker-images", `\bdocker images?\b|\bdocker-compose\b`, Nobody, "only where Mastodon runs in Docker"),
}

// commanding are words by which prose asks for something.
var commanding = regexp.MustCompile(`(?i)\b(?:please|must|make sure|ensure|you(?: will|'ll)? (?:need|have) to|you should|should be|needs? to be|be sure|remember to|requires?|do not|don['’]t (?:forget|run|use|update|upgrade)|critical|before (?:you|upgrading|updating|running)|downtime|breaking|we (?:strongly )?(?:recommend|advise|encourage)|it is recommended|important to|by hand|manually|no longer)\b`)

// Verbs by which a sentence asks for something where it begins with one of them. The
// others begin an entry of a changelog as well.
const (
	orders = `run|set|unset|delete|rotate|edit|restart|stop|clear|purge|rebuild|reindex|recompile|install|uninstall|configure|adjust|copy|generate|regenerate|revoke|back up|` +
		`(?:update|upgrade|check|review) (?:your|all|every|that|whether)`
	entryOrders = `add|change|remove|move|drop|disable|enable|replace|rename|create|apply|start`
)

var (
	ordering = regexp.MustCompile(`(?i)^(?:(?:also|then|now|first|next|finally|afterwards),? )?(?:` + orders + `)\b`)
	ordered  = regexp.MustCompile(`(?i)(?:^|[,:;] |\b(?:and|then|also) )(?:` + orders + `|` + entryOrders + `)\b`)
)

// instructs tells whether prose sounds like an instruction. What is too long to be
// looked at is taken for one.
func instructs(s string) bool {
	return len(s) > longest || commanding.MatchString(s) || ordering.MatchString(s)
}

// tells is whether a text about a subject that is only to be known says that and no
// more: each sentence is about the subject, or one that an upgrade obeys, and none asks.
func (w *word) tells(text string) bool {
	for _, s := range split(flat(text)) {
		if obeyed.MatchString(s) {
			continue
		}
		rest := harmless.ReplaceAllString(s, "")
		if !w.re.MatchString(s) || instructs(rest) || ordered.MatchString(rest) {
			return false
		}
	}
	return true
}

const encouraged = `\bwe (?:strongly )?(?:recommend|encourage) (?:that )?(?:you|administrators|admins|everyone) (?:to )?(?:update|upgrade|move)\b`

// harmless are words of command that an upgrade obeys, or that command nothing.
var harmless = regexp.MustCompile(`(?i)\bcritical (?:security|severity|issues?|fix(?:es)?)\b|\bzero-downtime\b|\bplease (?:note|update as soon as possible)\b|` +
	`\bdo not use this release but update to \S+|` + encouraged)

// obeyed are whole sentences of upstream's that ask for an upgrade, or nothing of who
// runs releases.
var obeyed = regexp.MustCompile(`(?i)^(?:if you are using nightly builds, do not use this release but update to \S+(?: or newer)?(?: instead)?|` +
	`if you are on the main branch, update to the latest commit|` + encouraged + `(?: on| soon| as soon as (?:possible|you can))?)[.!]?$`)

// longest is the length in bytes of the longest text that is compared with what is
// known: upstream's paragraphs have up to 2,500.
const longest = 16 << 10

// announces tells whether prose tells something of the whole release.
func announces(s string) bool {
	w := subject(s)
	return w != nil && w.ahead
}
