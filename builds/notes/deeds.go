package notes

import "regexp"

// deed is what a step does, as far as it is known.
type deed string

const (
	none    deed = ""
	restart deed = "restart"
)

// known are the steps that upstream's notes have, by the whole of their command, or
// where there is none by the start of their text. One that refit does itself must be
// exactly that: nothing may be hung onto it.
var known = []struct {
	deed    deed
	command *regexp.Regexp
	text    *regexp.Regexp
	by      By
	why     string
}{
	{"checkout", whole(`git fetch && git checkout v\S+`), nil, Refit, "the tag is fetched and held to its commit and tree"},
	{"backup", nil, begins(`As always, make sure you have backups\b`), Nobody, "said of every release; refit makes no backup, your own plan does"},
	{"ruby", whole(`rbenv install(?: \S+)?`), begins(`(?:The|However, the) recommended Ruby version\b`), Refit, "the tag pins its Ruby, and refit refuses to begin where a host lacks it"},
	{"charlock-holmes", whole(`bundle install`, `BUNDLE_BUILD__CHARLOCK_HOLMES=`), nil, Nobody, "only where that gem does not build: then it is set in the builder's own environment"},
	{"bundle", whole(`bundle install`), begins(`Install dependencies\b`), Refit, "gems of the locked versions are part of every build"},
	{"yarn", whole(`yarn install(?: --(?:immutable|frozen-lockfile))?`), nil, Refit, "node packages of the locked versions are part of every build"},
	{"assets", whole(`(?:bundle exec )?(?:bin/)?rails assets:precompile`), begins(`Precompile the assets\b`), Refit, "every release is built whole from its tag, assets included"},
	{"pre-migrations", whole(`(?:bundle exec )?(?:bin/)?rails db:migrate`, `SKIP_POST_DEPLOYMENT_MIGRATIONS=true`), nil, Refit, "applied before any node is switched"},
	{"migrations", whole(`(?:bundle exec )?(?:bin/)?rails db:migrate`), nil, Refit, "what is left is applied after every node was switched"},
	{restart, whole(`(?:sudo )?systemctl (?:restart|reload) mastodon-\S+(?: mastodon-\S+)*`), begins(`Restart all Mastodon processes\b`), Refit, "nodes are rolled one at a time"},
	{"cache-clear", whole(`(?:bin/)?tootctl cache clear`), begins(`Clear cache\b`), Admin, "refit does not empty the cache"},
	{"search-mappings", whole(`(?:bin/)?tootctl search deploy --only-mapping(?: --only[= ][\w,]+)?`), nil, Refit, "mappings that changed are given to the search server after the roll"},
	{"elasticsearch", whole(`(?:bin/)?tootctl search deploy(?: --[\w=-]+)*`), nil, Admin, "refit brings mappings up to date; an import takes hours and is started by you, after the roll"},
	{"streaming-units", whole(`(?:sudo )?(?:systemctl daemon-reload|cp \S*/dist/\S+\.service /etc/systemd/system/?)`), nil, Admin, "unit files are yours: compare them with those in dist/"},
	{"streaming-clustering", whole(`(?:sudo )?systemctl (?:start|enable)(?: --now)? mastodon-streaming@\S+`), nil, Admin, "one process serves streaming: you may need more units and a balancer"},
	{"encryption-keys", whole(`(?:bundle exec )?(?:bin/)?rails db:encryption:init`), nil, Admin, "made once, put into the environment of every node, never made again"},
}

// whole matches a command to its end, behind settings, among which the one given must be.
func whole(command string, setting ...string) *regexp.Regexp {
	const env = `(?:[A-Z_][A-Z0-9_]*=(?:"[^"]*"|[^\s"';&|$\x60]*) )*`
	for _, s := range setting {
		return regexp.MustCompile(`^` + env + s + `(?:"[^"]*"|[^\s"';&|$\x60]*) ` + env + command + `$`)
	}
	return regexp.MustCompile(`^` + env + command + `$`)
}

func begins(text string) *regexp.Regexp { return regexp.MustCompile(`^(?i)` + text) }

// kindOf is what a step does.
func kindOf(s Step) deed {
	if i := knownAt(s); i >= 0 {
		return known[i].deed
	}
	return none
}

func knownAt(s Step) int {
	for i, k := range known {
		re, in := k.command, s.Command
		if in == "" {
			re, in = k.text, s.Text
		}
		if re != nil && re.MatchString(in) {
			return i
		}
	}
	return -1
}
