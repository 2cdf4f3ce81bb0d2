package notes

import (
	"regexp"
	"slices"
	"strings"
)

// step is a step that upstream's notes have.
type step struct {
	// name is stable: it stands behind --ack.
	name string
	// command is the whole of its command; text the whole of its text, where it has none.
	command, text *regexp.Regexp
	// words are those that may stand around the command. Others ask for something more.
	// Without any, all may.
	words string
	by    By
	why   string
}

const (
	installing = "install dependencies with and the run bundle yarn --immutable --frozen-lockfile then"
	migrating  = "run the pre-deployment post-deployment database migrations by specifying skip_post_deployment_migrations=true environment variable with " +
		"now that new code is running we can finish this will ones"
	searching = "if you use are using elasticsearch opensearch update the search mappings indexes index with run by in accounts"
	picking   = "if you are using use rbenv update the list of available versions and install proper ruby version by doing with in mastodon directory e.g /home/mastodon/live run"
	restarted = "restart reload all and the mastodon processes streaming web sidekiq services with by run"
)

// known are the steps that upstream's notes have. One that refit does itself must be
// exactly that: nothing may be hung onto its command, and nothing said beside it.
var known = []step{
	{"checkout", whole(`git fetch && git checkout v\S+`), nil, "", Refit, "the tag is fetched and held to its commit and tree"},
	{"backup", nil, all(`As always, make sure you have backups of the database before performing any upgrades`), "", Nobody, "said of every release; refit makes no backup, your own plan does"},
	{"ruby", whole(`rbenv install(?: \S+)?`), all(`The recommended Ruby version has been bumped to [\d.]+\d(?:\. You can upgrade, or you can continue\b[^:;]*)?`), picking, Refit, "the tag pins its Ruby, and refit refuses to begin where a host lacks it"},
	{"charlock-holmes", whole(`bundle install`, `BUNDLE_BUILD__CHARLOCK_HOLMES=`), nil, "", Nobody, "only where that gem does not build: then it is set in the builder's own environment"},
	{"bundle", whole(`bundle install`), all(`Install dependencies`), installing, Refit, "gems of the locked versions are part of every build"},
	{"yarn", whole(`yarn install(?: --(?:immutable|frozen-lockfile))?`), nil, installing, Refit, "node packages of the locked versions are part of every build"},
	{"assets", whole(`(?:bundle exec )?(?:bin/)?rails assets:precompile`), all(`Precompile the assets`), "precompile recompile the assets run with by", Refit, "every release is built whole from its tag, assets included"},
	{"pre-migrations", whole(`(?:bundle exec )?(?:bin/)?rails db:migrate`, `SKIP_POST_DEPLOYMENT_MIGRATIONS=true`), nil, migrating, Refit, "applied before any node is switched"},
	{"migrations", whole(`(?:bundle exec )?(?:bin/)?rails db:migrate`), nil, migrating, Refit, "what is left is applied after every node was switched"},
	{"restart", whole(restarting), all(restartAll), restarted, Refit, "nodes are rolled one at a time"},
	{"cache-clear", whole(`(?:bin/)?tootctl cache clear`), all(`Clear cache`), "", Admin, "refit does not empty the cache"},
	{"search-mappings", whole(`(?:bin/)?tootctl search deploy --only-mapping(?: --only[= ][\w,]+)?`), nil, searching, Refit, "mappings that changed are given to the search server after the roll"},
	{"elasticsearch", whole(`(?:bin/)?tootctl search deploy(?: --[\w=-]+)*`), nil, "", Admin, "refit brings mappings up to date; an import takes hours and is started by you, after the roll"},
	{"streaming-units", whole(`(?:sudo )?(?:systemctl daemon-reload|cp \S*/dist/\S+\.service /etc/systemd/system/?)`), nil, "", Admin, "unit files are yours: compare them with those in dist/"},
	{"streaming-clustering", whole(`(?:sudo )?systemctl (?:start|enable)(?: --now)? mastodon-streaming@\S+`), nil, "", Admin, "one process serves streaming: you may need more units and a balancer"},
	{"encryption-keys", whole(`(?:bundle exec )?(?:bin/)?rails db:encryption:init`), nil, "", Admin, "made once, put into the environment of every node, never made again"},
}

const (
	restartAll = `Restart all Mastodon processes`
	restarting = `(?:sudo )?systemctl (?:restart|reload) mastodon-\S+(?: mastodon-\S+)*`
)

var (
	restartsAll  = regexp.MustCompile(`^(?i)` + restartAll + `\b`)
	restartsUnit = whole(restarting)
)

// restarts tells whether a step brings the new code into service.
func restarts(s Step) bool {
	return restartsUnit.MatchString(s.Command) || restartsAll.MatchString(s.Text)
}

// whole matches a command to its end, behind settings, among which the one given must be.
func whole(command string, setting ...string) *regexp.Regexp {
	const env = `(?:[A-Z_][A-Z0-9_]*=(?:"[^"]*"|[^\s"';&|$\x60]*) )*`
	for _, s := range setting {
		return regexp.MustCompile(`^` + env + s + `(?:"[^"]*"|[^\s"';&|$\x60]*) ` + env + command + `$`)
	}
	return regexp.MustCompile(`^` + env + command + `$`)
}

func all(text string) *regexp.Regexp { return regexp.MustCompile(`^(?i)` + text + `[.:]?$`) }

// deedOf is the step of upstream's that s is; nil if it is none.
func deedOf(s Step) *step {
	for i, k := range known {
		re, in := k.command, s.Command
		if in == "" {
			re, in = k.text, s.Text
		}
		if re == nil || !re.MatchString(in) {
			continue
		}
		if s.Command != "" && k.words != "" && !within(s.Text, s.Command, k.words) {
			return nil
		}
		return &known[i]
	}
	return nil
}

// within tells whether a text has nothing but a command and some of the words.
func within(text, command, words string) bool {
	allowed := strings.Fields(words)
	for word := range strings.FieldsSeq(strings.ReplaceAll(text, command, " ")) {
		word = strings.ToLower(strings.Trim(word, ".,:;()`\"'"))
		if word != "" && !slices.Contains(allowed, word) && !numbered.MatchString(word) {
			return false
		}
	}
	return true
}

var numbered = regexp.MustCompile(`^\d+(?:\.\d+)*$`)
