package notes

import (
	"regexp"
	"strings"
)

const assigned = `(?:[A-Za-z_][A-Za-z0-9_]*=(?:"[^"]*"|'[^']*'|[^\s"']*)\s+)*`

var (
	// program begins a code span that is a command, and not a file, a setting or a name.
	program = regexp.MustCompile(`^(?:\$ )?` + assigned + `(?:sudo(?: -\w+(?: \w+)?)? )?` +
		`(?:(?:\.{0,2}|~\w*)/\S+|bin/\S+|bundle|yarn|npm|npx|corepack|node|ruby|gem|rails|rake|tootctl|rbenv|nvm|asdf|git|docker|docker-compose|podman|` +
		`systemctl|service|cp|mv|rm|ln|mkdir|chown|chmod|apt|apt-get|dnf|yum|brew|psql|pg_dump|pg_restore|redis-cli|curl|wget|nginx|su|cd|sed|export) \S`)
	alone = regexp.MustCompile(`^` + assigned + `(?:bundle|yarn)$`)
)

// commands are those code spans that are commands. One that holds characters which
// are not seen is none: it may not be what it looks like.
func commands(codes []string) []string {
	var out []string
	for _, c := range codes {
		if c = strings.TrimSpace(c); (program.MatchString(c) || alone.MatchString(c)) && !unseen.MatchString(c) {
			out = append(out, c)
		}
	}
	return out
}

// joined puts the lines of a listing together that are one command, as a shell does.
func joined(lines []string) []string {
	var out, open []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		part, goesOn := strings.CutSuffix(l, `\`)
		open = append(open, strings.TrimSpace(part))
		if !goesOn {
			out, open = append(out, strings.Join(open, " ")), nil
		}
	}
	return out // a command that goes on after the end is none
}
