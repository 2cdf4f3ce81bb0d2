package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"vmst.io/refit/hosts"
)

// Rights is what sudo lets the user do who called the agent.
type Rights struct {
	// User called through sudo; empty for a caller that is root itself.
	User string `json:"user,omitempty"`
	// Commands are sudo's own list, one command a line.
	Commands []string `json:"commands,omitempty"`
	// Anything: the user may run every command as root.
	Anything bool `json:"anything,omitempty"`
	// Refused are those of the verbs asked about that sudo does not allow.
	Refused []string `json:"refused,omitempty"`
	// Uploads: the user can write into the agents' folder, so that whatever sudo
	// allows there can be replaced.
	Uploads bool `json:"uploads,omitempty"`
	// Error says why sudo could not be asked.
	Error string `json:"error,omitempty"`
}

// Replaceable tells that the user can run programs of its own as root: every
// command, or files of a folder that it can write to.
func (r Rights) Replaceable() bool { return r.Anything || (r.User != "" && r.Uploads) }

// SudoersLine is the one right that user needs on a host to run the agent there.
func SudoersLine(user, agent string) string {
	return fmt.Sprintf("%s ALL=(root) NOPASSWD: %s node *", user, agent)
}

// asked is a verb that changes the host: who may only look finds out here, and not
// in the middle of a run.
const asked = "units"

// rights asks sudo about the caller. It is asked as root, which it answers whoever
// is meant, from whatever source its rules come.
func (m Machine) rights(ctx context.Context, user string) Rights {
	r := Rights{User: user}
	if user == "" {
		return r
	}
	sudo := func(words ...string) (string, error) {
		out, err := m.exec(ctx, append([]string{"sudo", "-n", "-l", "-U", user}, words...)...)
		return string(out), err
	}
	agent, err := m.agent()
	if err != nil {
		r.Error = err.Error()
		return r
	}
	list, err := sudo()
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Commands, r.Anything = readSudo(list)
	var exit *hosts.ExitError
	if _, err := sudo(agent, "node", asked); errors.As(err, &exit) {
		r.Refused = append(r.Refused, asked)
	} else if err != nil {
		r.Error = err.Error()
	}
	r.Uploads, err = writableBy(filepath.Dir(agent), agent, user)
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// readSudo reads the list of "sudo -l" (sudo 1.8 and 1.9): commands stand indented
// below the line that says whose they are; a long one goes on indented deeper.
func readSudo(list string) (commands []string, anything bool) {
	_, rest, found := strings.Cut(list, "may run the following commands")
	if !found {
		return nil, false
	}
	_, rest, _ = strings.Cut(rest, "\n")
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		text := strings.TrimSpace(line)
		switch {
		case text == "":
		case len(commands) > 0 && strings.HasPrefix(line, "        "):
			commands[len(commands)-1] += " " + text
		default:
			commands = append(commands, text)
		}
	}
	for _, c := range commands {
		runas, what, ok := strings.Cut(c, ")")
		if !ok || !(strings.Contains(runas, "root") || strings.Contains(runas, "ALL")) {
			continue
		}
		for word := range strings.FieldsFuncSeq(what, func(r rune) bool { return r == ' ' || r == ',' }) {
			anything = anything || word == "ALL"
		}
	}
	return commands, anything
}

// writableBy tells whether a user who is not root can put another file in the
// agent's place: by owning its folder or itself, or since everybody can.
func writableBy(dir, file, user string) (bool, error) {
	for _, p := range []string{dir, file} {
		fi, err := os.Stat(p)
		if err != nil {
			return false, err
		}
		if ownerOf(fi) == user || fi.Mode().Perm()&0o022 != 0 {
			return true, nil
		}
	}
	return false, nil
}

// loose finds what others than root can change in refit's own folder: a fence, a
// lease or a job's result that anybody can forge is none. The agents' folder and
// what lies in it may be the caller's, who puts agents there. At most ten are told.
func (m Machine) loose(caller string) ([]FileFact, error) {
	var out []FileFact
	root, err := filepath.EvalSymlinks(m.state())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a verb's own file, gone meanwhile
		}
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		owner := ownerOf(fi)
		bin := filepath.Join(root, "bin")
		mine := int(st.Uid) == os.Geteuid() || (owner == caller && (p == bin || strings.HasPrefix(p, bin+"/")))
		open := fi.Mode().Perm()&0o002 != 0 || (fi.Mode().Perm()&0o020 != 0 && st.Gid != 0)
		if (!mine || open) && len(out) < 10 {
			out = append(out, FileFact{Path: p, Exists: true, Mode: uint32(fi.Mode().Perm()), Owner: owner, Writable: fi.Mode().Perm()&0o002 != 0})
		}
		return nil
	})
	return out, err
}
