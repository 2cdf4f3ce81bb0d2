package hosts

import (
	"strings"
)

// Quote makes one word of s for a POSIX shell: between single quotes nothing is
// special but the quote itself. s must hold no NUL byte, which no argument can.
func Quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ShellLine writes a command as one line for a POSIX shell, for carriers that
// take nothing else. Environment values stand in it and can be seen by the host's
// users while it starts: secrets travel on standard input.
func ShellLine(c Command) string {
	var words []string
	if c.Sudo {
		words = append(words, "sudo", "-n", "--")
	}
	if len(c.Env) > 0 {
		words = append(words, "env", "--")
		for _, kv := range c.Env {
			words = append(words, Quote(kv))
		}
	}
	for _, a := range c.Argv {
		words = append(words, Quote(a))
	}
	line := "exec " + strings.Join(words, " ")
	if c.Dir != "" {
		line = "cd " + Quote(c.Dir) + " && " + line
	}
	return line
}

// CommandName is what an error calls a command: its program and, where that is
// refit's agent, the verb.
func CommandName(argv []string) string {
	if len(argv) == 0 {
		return "nothing"
	}
	name := argv[0][strings.LastIndexByte(argv[0], '/')+1:]
	if len(argv) > 2 && argv[1] == "node" {
		name += " node " + argv[2]
	}
	return name
}

// Tail keeps the last bytes written to it, at most Max.
type Tail struct {
	Max int
	b   []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.Max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *Tail) String() string { return strings.TrimSpace(string(t.b)) }
