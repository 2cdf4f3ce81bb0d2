package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// secrets are values by name. They are put into files here and leave this host in no form.
type secrets map[string]string

var (
	secretRef  = regexp.MustCompile(`@refit-secret\(([A-Za-z_][A-Za-z0-9_]{0,63})\)@`)
	secretLine = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]{0,63})=(.*)$`)
	assigns    = regexp.MustCompile(`^(\s*[A-Za-z_][A-Za-z0-9_.-]*\s*[=:\s]\s*)\S`)
)

// references are the names that a content refers to.
func references(content []byte) []string {
	var out []string
	for _, m := range secretRef.FindAllSubmatch(content, -1) {
		out = append(out, string(m[1]))
	}
	return out
}

// secrets reads SecretsFile; none where there is no such file.
func (m Machine) secrets(needed bool) (secrets, error) {
	out := secrets{}
	p, err := m.present(SecretsFile)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return out, nil
	}
	if p.mode&0o077 != 0 || p.uid != os.Geteuid() {
		if !needed {
			return out, nil
		}
		return nil, fmt.Errorf("%s has mode %04o and the owner %s: it must be root's with mode 0600, since it holds secrets", SecretsFile, p.mode, userName(p.uid))
	}
	n := 0
	for line := range strings.Lines(string(p.content)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		f := secretLine.FindStringSubmatch(line)
		if f == nil {
			return nil, fmt.Errorf("%s: line %d is not NAME=value", SecretsFile, n)
		}
		if _, twice := out[f[1]]; twice {
			return nil, fmt.Errorf("%s: line %d has %s once more: which value counts?", SecretsFile, n, f[1])
		}
		out[f[1]] = f[2]
	}
	return out, nil
}

// in puts values in the place of references; one that is not known stays.
func (s secrets) in(content []byte) []byte {
	return secretRef.ReplaceAllFunc(content, func(ref []byte) []byte {
		if v, ok := s[string(secretRef.FindSubmatch(ref)[1])]; ok {
			return []byte(v)
		}
		return ref
	})
}

// hide is an error without the values, of three letters or more: programs that refuse a
// file quote it.
func (s secrets) hide(err error) error {
	text := err.Error()
	for _, name := range s.longest() {
		if v := s[name]; len(v) > 2 {
			text = strings.ReplaceAll(text, v, "@refit-secret("+name+")@")
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// longest are the names, those of the longest values first: one may be part of another.
func (s secrets) longest() []string {
	return slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(s[b]), len(s[a])), cmp.Compare(a, b))
	})
}

// out is what lies on the host in a form that may leave it. A line that is wanted as it is
// stays. In others values that are known become references; and of a file that holds
// secrets, what a line assigns is left out: it may be a secret that nobody knows of yet.
func (s secrets) out(content, want []byte) []byte {
	lines := map[string]string{}
	for line := range strings.Lines(string(want)) {
		lines[string(s.in([]byte(line)))] = line
	}
	holds := len(references(want)) > 0
	names := s.longest()
	var out bytes.Buffer
	for line := range strings.Lines(string(content)) {
		if w, ok := lines[line]; ok {
			out.WriteString(w)
			continue
		}
		if m := assigns.FindStringSubmatch(line); holds && m != nil {
			out.WriteString(m[1] + "[not shown]\n")
			continue
		}
		for _, name := range names {
			if v := s[name]; v != "" {
				line = strings.ReplaceAll(line, v, "@refit-secret("+name+")@")
			}
		}
		out.WriteString(line)
	}
	return out.Bytes()
}
