package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// script writes a shell's completion script into a file.
func script(t *testing.T, shell string) string {
	t.Helper()
	code, out, errs := command(t.Context(), "completion", "--shell", shell)
	if code != exitDone || errs != "" {
		t.Fatalf("code %d: %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "refit."+shell)
	write(t, file, out)
	return file
}

// inShell runs a program of a shell that this machine may lack.
func inShell(t *testing.T, shell string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath(shell)
	if err != nil {
		t.Skipf("%s is not on this machine, so its completion was not tried: %v", shell, err)
	}
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "TERM=dumb"} // no refit in reach: none may be needed
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", shell, err, out)
	}
	return string(out)
}

var completions = map[string]struct{ has, lacks []string }{
	"refit ":                         {[]string{"plan", "upgrade", "completion"}, []string{"man", "node", "--to"}},
	"refit up":                       {[]string{"upgrade"}, []string{"plan"}},
	"refit upgrade --":               {[]string{"--to", "--ack", "--yes", "--config"}, []string{"--once"}},
	"refit upgrade --to v4.5.15 --y": {[]string{"--yes"}, []string{"--to"}},
	"refit upgrade --to ":            {nil, []string{"plan", "--yes", "--to"}},
	"refit completion --shell ":      {[]string{"bash", "fish", "zsh"}, []string{"plan"}},
	"refit watch --o":                {[]string{"--once"}, nil},
}

func complain(t *testing.T, line string, got []string, has, lacks []string) {
	t.Helper()
	for _, w := range has {
		if !slices.Contains(got, w) {
			t.Errorf("%q: no %s in %q", line, w, got)
		}
	}
	for _, w := range lacks {
		if slices.Contains(got, w) {
			t.Errorf("%q: %s in %q", line, w, got)
		}
	}
}

func TestBashCompletesCommandsFlagsAndChoicesWithoutRefit(t *testing.T) {
	file := script(t, "bash")
	for line, want := range completions {
		got := inShell(t, "bash", "--norc", "-c", `source "$1"; complete -p refit >/dev/null || exit 1
			read -ra COMP_WORDS <<<"$2"; [[ $2 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			_refit; printf '%s\n' "${COMPREPLY[@]}"`, "bash", file, line)
		complain(t, line, strings.Fields(got), want.has, want.lacks)
	}
	if got := inShell(t, "bash", "--norc", "-c", `source "$1"; COMP_WORDS=(refit completion --shell = z); COMP_CWORD=4; _refit; echo "${COMPREPLY[@]}"`, "bash", file); got != "zsh\n" {
		t.Errorf("--shell=z: %q", got)
	}
	got := inShell(t, "bash", "--norc", "-c", `source "$1"; COMP_WORDS=(refit status '$(touch '"$1"'.ran)'); COMP_CWORD=2; _refit; ls "$1".*`+" || true", "bash", file)
	if strings.Contains(got, ".ran\n") {
		t.Error("a TAB runs what stands on the line")
	}
}

func TestFishCompletesTheSame(t *testing.T) {
	file := script(t, "fish")
	for line, want := range completions {
		var got []string
		for row := range strings.Lines(inShell(t, "fish", "--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, file, line)) {
			got = append(got, strings.SplitN(strings.TrimSuffix(row, "\n"), "\t", 2)[0])
		}
		complain(t, line, got, want.has, want.lacks)
	}
}

func TestZshTakesTheScriptAndCompletesWithIt(t *testing.T) {
	file := script(t, "zsh")
	got := inShell(t, "zsh", "-fc", `autoload -U compinit && compinit -u -D && source $1 && print -r -- $_comps[refit] && whence -w _refit`, "zsh", file)
	if got != "_refit\n_refit: function\n" {
		t.Errorf("%q", got)
	}
	// zsh shows matches on a terminal alone. What is typed holds no END, since the terminal
	// may show it before zsh has read it.
	got = inShell(t, "zsh", "-fc", `zmodload zsh/zpty; zpty z zsh -f -i
		zpty -w z "PS1=; autoload -U compinit; compinit -u -D; source $1; zstyle ':completion:*' menu no; echo RE''ADY"
		zpty -r z out '*READY*'; zpty -n -w z $'refit upg\t--ye\t\x01echo \x05 E\'\'ND\n'; zpty -r z out '*END*'; print -r -- $out`, "zsh", file)
	if !strings.Contains(got, "refit upgrade --yes") {
		t.Errorf("%q", got)
	}
}

func TestCompletionAsksForAShellThatItKnows(t *testing.T) {
	for _, line := range []string{"completion", "completion --shell tcsh"} {
		if code, out, errs := command(t.Context(), strings.Fields(line)...); code != exitUsage || out != "" || !strings.Contains(errs, "bash, fish, zsh") {
			t.Errorf("%s: code %d, %q, %q", line, code, out, errs)
		}
	}
}

func TestEveryFlagStandsInEveryScriptAndInTheManPage(t *testing.T) {
	_, page, _ := command(t.Context(), "man")
	for _, shell := range shells {
		_, out, _ := command(t.Context(), "completion", "--shell", shell)
		for _, w := range words(newApp(streams{})) {
			for _, f := range w.flags {
				long := f.names[0]
				if shell == "fish" {
					long = "-l " + strings.TrimPrefix(long, "--") + " "
				}
				if !strings.Contains(out, long) {
					t.Errorf("%s: refit %s %s is not in it", shell, w.name, f.names[0])
				}
				if f.usage == "" || !strings.Contains(page, roff(f.usage)) {
					t.Errorf("man: refit %s %s is not in it", w.name, f.names[0])
				}
			}
		}
	}
}

func TestTheManPageIsTakenByGroffWithoutAWordAndIsTheSameEachTime(t *testing.T) {
	code, page, _ := command(t.Context(), "man")
	_, again, _ := command(t.Context(), "man")
	if code != exitDone || page != again || !strings.Contains(page, "\n.SH EXIT STATUS\n.TP\n.B 0\n") {
		t.Fatalf("code %d\n%s", code, page)
	}
	file := filepath.Join(t.TempDir(), "refit.1")
	write(t, file, page)
	if out := inShell(t, "groff", "-man", "-ww", "-z", file); out != "" {
		t.Errorf("groff: %s", out)
	}
	if got := roff(".so \\fB/etc/passwd\n.x"); got != `\&.so \efB/etc/passwd .x` {
		t.Errorf("%q", got)
	}
}

func TestHostsAreAskedFromLinuxAloneAndElsewhereIsSaidWhatWorks(t *testing.T) {
	if err := canServe("linux"); err != nil {
		t.Error(err)
	}
	if err := canServe("darwin"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "refit plan --from") {
		t.Errorf("%v", err)
	}
}
