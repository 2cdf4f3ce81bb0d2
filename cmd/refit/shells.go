package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts hold every command and flag of the refit that printed them. So a TAB starts
// no process, reads no configuration and asks no host; a newer refit brings newer scripts.

// shells are those that refit can complete for.
var shells = []string{"bash", "fish", "zsh"}

func completionCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "completion",
		Usage: "print the script by which a shell completes refit's commands and flags",
		Flags: []cli.Flag{&cli.StringFlag{Name: "shell", Usage: "the `SHELL`: " + strings.Join(shells, ", ")}},
		Action: func(c *cli.Context) error {
			write := map[string]func([]word) string{"bash": bashScript, "fish": fishScript, "zsh": zshScript}[c.String("shell")]
			if write == nil {
				return exitWith(exitUsage, fmt.Errorf("completion needs --shell and one of %s; in bash: source <(refit completion --shell bash)", strings.Join(shells, ", ")))
			}
			_, err := s.out.Write([]byte(write(words(c.App))))
			return err
		},
	}
}

// word is a command, for who writes about them.
type word struct {
	name, usage string
	flags       []flagWord
}

// flagWord is a flag with its dashes, longest name first.
type flagWord struct {
	names []string
	usage string
	// value is the placeholder of its value, "" for a flag without one.
	value string
	// choices are all values that it takes, nil where they are not known.
	choices []string
	// preset is what holds without it, env what sets it too.
	preset, env string
}

// files tells whether the flag's value names a file.
func (f flagWord) files() bool { return slices.Contains([]string{"FILE", "DIR", "BODY"}, f.value) }

var placeholder = regexp.MustCompile("`([^`]+)`")

// words are the app's visible commands, as they stand in --help.
func words(app *cli.App) []word {
	var out []word
	for _, c := range app.VisibleCommands() {
		w := word{name: c.Name, usage: c.Usage}
		for _, f := range c.VisibleFlags() {
			if d, ok := f.(cli.DocGenerationFlag); ok {
				w.flags = append(w.flags, flagOf(d))
			}
		}
		out = append(out, w)
	}
	return out
}

func flagOf(d cli.DocGenerationFlag) flagWord {
	f := flagWord{usage: placeholder.ReplaceAllString(d.GetUsage(), "$1"), env: strings.Join(d.GetEnvVars(), ", ")}
	for _, name := range d.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		f.names = append(f.names, dashes+name)
	}
	if d.TakesValue() {
		f.value, f.preset = "VALUE", d.GetValue()
		if m := placeholder.FindStringSubmatch(d.GetUsage()); m != nil {
			f.value = m[1]
		}
	}
	if f.value == "SHELL" {
		f.choices = shells
	}
	return f
}

func bashScript(list []word) string {
	var names []string
	var b, cases strings.Builder
	for _, w := range list {
		names = append(names, w.name)
		var flags []string
		for _, f := range w.flags {
			flags = append(flags, f.names...)
			for _, name := range f.names {
				switch {
				case f.choices != nil:
					fmt.Fprintf(&cases, "\t\t%q) list=%q ;;\n", w.name+" "+name, strings.Join(f.choices, " "))
				case f.files():
					fmt.Fprintf(&cases, "\t\t%q) return ;; # a file\n", w.name+" "+name)
				case f.value != "":
					fmt.Fprintf(&cases, "\t\t%q) compopt +o default 2>/dev/null; return ;;\n", w.name+" "+name)
				}
			}
		}
		fmt.Fprintf(&b, "\t\t%q:*) list=%q ;;\n", w.name, strings.Join(flags, " "))
	}
	return fmt.Sprintf(`# bash completion for refit: source <(refit completion --shell bash)
_refit() {
	local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} flag="" list=""
	COMPREPLY=()
	# bash hands "--to=v" over as three words.
	if [[ $cur == "=" ]]; then
		cur="" flag=${COMP_WORDS[COMP_CWORD-1]}
	elif ((COMP_CWORD > 3)) && [[ ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then
		flag=${COMP_WORDS[COMP_CWORD-2]}
	elif ((COMP_CWORD > 2)); then
		flag=${COMP_WORDS[COMP_CWORD-1]}
	fi
	if ((COMP_CWORD == 1)); then
		list=%q
	else
		case "$command $flag" in
%s		esac
	fi
	[[ -n $list ]] || case "$command:$flag" in
%s	esac
	compopt +o default 2>/dev/null
	COMPREPLY=($(compgen -W "$list" -- "$cur"))
}
complete -o default -F _refit refit
`, strings.Join(names, " "), cases.String(), b.String())
}

// single quotes a word for zsh.
func single(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func zshScript(list []word) string {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	var commands, cases strings.Builder
	for _, w := range list {
		fmt.Fprintf(&commands, "\t\t%s\n", single(w.name+":"+escape.Replace(w.usage)))
		fmt.Fprintf(&cases, "\t%s)\n\t\t_arguments", w.name)
		for _, f := range w.flags {
			for _, name := range f.names {
				spec := name + "[" + escape.Replace(f.usage) + "]"
				switch {
				case f.choices != nil:
					spec += ":" + f.value + ":(" + strings.Join(f.choices, " ") + ")"
				case f.files():
					spec += ":" + f.value + ":_files"
				case f.value != "":
					spec += ":" + escape.Replace(f.value) + ": "
				}
				fmt.Fprintf(&cases, " \\\n\t\t\t%s", single(spec))
			}
		}
		cases.WriteString("\n\t\t;;\n")
	}
	return fmt.Sprintf(`#compdef refit
# zsh completion for refit: source <(refit completion --shell zsh), after compinit
_refit() {
	local -a commands
	commands=(
%s	)
	if ((CURRENT == 2)); then
		_describe command commands
		return
	fi
	local command=$words[2]
	shift words
	((CURRENT--))
	case $command in
%s	esac
}
if [[ ${funcstack[1]} == _refit ]]; then
	_refit "$@"
else
	compdef _refit refit
fi
`, commands.String(), cases.String())
}

func fishScript(list []word) string {
	var b strings.Builder
	b.WriteString("# fish completion for refit: refit completion --shell fish | source\ncomplete -c refit -f\n")
	for _, w := range list {
		fmt.Fprintf(&b, "complete -c refit -n __fish_use_subcommand -a %s -d %s\n", w.name, fishSingle(w.usage))
		for _, f := range w.flags {
			fmt.Fprintf(&b, "complete -c refit -n '__fish_seen_subcommand_from %s'", w.name)
			for _, name := range f.names {
				if long, ok := strings.CutPrefix(name, "--"); ok {
					b.WriteString(" -l " + long)
				} else {
					b.WriteString(" -s " + name[1:])
				}
			}
			switch {
			case f.choices != nil:
				fmt.Fprintf(&b, " -x -a %s", fishSingle(strings.Join(f.choices, " ")))
			case f.files():
				b.WriteString(" -r -F")
			case f.value != "":
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishSingle(f.usage))
		}
	}
	return b.String()
}

// fishSingle quotes a word for fish, whose single quotes know two escapes.
func fishSingle(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
