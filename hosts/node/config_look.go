package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// SecretsFile holds a host's secrets, root's alone: lines of NAME=value, for which files
// of the configuration repository have references.
const SecretsFile = "/etc/refit/secrets.env"

// LookFile is a file as a host is to have it.
type LookFile struct {
	Path string `json:"path"`
	// Content has references, "@refit-secret(NAME)@", in the place of secrets.
	Content      []byte      `json:"content"`
	Owner, Group string      `json:",omitempty"`
	Mode         fs.FileMode `json:"mode"`
}

// LookIn asks whether files are as they are to be.
type LookIn struct {
	Files []LookFile `json:"files"`
	// Contents: of those that are not, what is there is wanted too.
	Contents bool `json:"contents,omitempty"`
}

// LookState is how a file stands to what it is to be.
type LookState string

// The states of a file.
const (
	LookSame    LookState = "same"
	LookOther   LookState = "other"   // other content; owner and mode may differ too
	LookRights  LookState = "mode"    // another owner, group or mode alone
	LookMissing LookState = "missing" // no such file
	LookUnknown LookState = "unknown" // it could not be compared; Error says why
)

// Looked is one file as it is.
type Looked struct {
	Path         string      `json:"path"`
	State        LookState   `json:"state"`
	Owner, Group string      `json:",omitempty"`
	Mode         fs.FileMode `json:"mode,omitempty"`
	// Content is what is there, with references in the place of secrets, and without what
	// looks like a secret that has no name; Hidden is how many values were left out.
	Content []byte `json:"content,omitempty"`
	Hidden  int    `json:"hidden,omitempty"`
	Error   string `json:"error,omitempty"`
}

// LookOut is the files in the order asked for.
type LookOut struct {
	Files []Looked `json:"files"`
}

// LookConfig asks a host whether files are as they are to be. It changes nothing, and no
// secret leaves the host.
func (a *Agent) LookConfig(ctx context.Context, in LookIn) (LookOut, error) {
	return call[LookOut](ctx, a, "config.look", in, nil, nil)
}

// mostContent bounds what is read of a file.
const mostContent = 1 << 20

// lookConfig is the verb config.look.
func (m Machine) lookConfig(_ context.Context, in LookIn, _ io.Reader, _ func(string)) (LookOut, error) {
	secrets, err := m.secrets()
	if err != nil {
		return LookOut{}, err
	}
	var out LookOut
	for _, f := range in.Files {
		if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
			return out, fmt.Errorf("%q is no clean absolute path", f.Path)
		}
		out.Files = append(out.Files, m.look(f, secrets, in.Contents))
	}
	return out, nil
}

// secrets reads the host's secrets; there may be none.
func (m Machine) secrets() (map[string]string, error) {
	b, err := os.ReadFile(m.root(SecretsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's secrets: %w", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		name, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			out[strings.TrimSpace(name)] = unquote(strings.TrimSpace(value))
		}
	}
	return out, nil
}

var secretReference = regexp.MustCompile(`@refit-secret\(([A-Za-z_][A-Za-z0-9_]*)\)@`)

// filled is a content with the host's secrets in the place of references.
func filled(content []byte, secrets map[string]string) ([]byte, error) {
	var lacks []string
	out := secretReference.ReplaceAllFunc(content, func(ref []byte) []byte {
		name := string(secretReference.FindSubmatch(ref)[1])
		value, ok := secrets[name]
		if !ok {
			lacks = append(lacks, name)
		}
		return []byte(value)
	})
	if len(lacks) > 0 {
		slices.Sort(lacks)
		return nil, fmt.Errorf("%s on this host lacks %s", SecretsFile, strings.Join(slices.Compact(lacks), ", "))
	}
	return out, nil
}

func (m Machine) look(f LookFile, secrets map[string]string, contents bool) Looked {
	l := Looked{Path: f.Path}
	unknown := func(err error) Looked {
		l.State, l.Error = LookUnknown, err.Error()
		return l
	}
	info, err := os.Lstat(m.root(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		l.State = LookMissing
		return l
	}
	if err != nil {
		return unknown(err)
	}
	if !info.Mode().IsRegular() || info.Size() > mostContent {
		return unknown(fmt.Errorf("it is no plain file of at most %d bytes (%s)", mostContent, info.Mode()))
	}
	there, err := os.ReadFile(m.root(f.Path))
	if err != nil {
		return unknown(err)
	}
	l.Owner, l.Group, l.Mode = ownerOf(info), groupOf(info), info.Mode().Perm()
	want, err := filled(f.Content, secrets)
	switch {
	case err != nil:
		return unknown(err)
	case !bytes.Equal(want, there):
		l.State = LookOther
	case f.Owner != "" && f.Owner != l.Owner, f.Group != "" && f.Group != l.Group, f.Mode.Perm() != l.Mode:
		l.State = LookRights
	default:
		l.State = LookSame
	}
	if contents && l.State == LookOther {
		l.Content, l.Hidden = withoutSecrets(there, f.Content, secrets)
	}
	return l
}

// groupOf is the name of a file's group, or the number where there is no name.
func groupOf(fi fs.FileInfo) string {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// leastSecret is the shortest value that is looked for in a text: to replace a shorter one
// everywhere would spoil the text; where it has a name of a secret it is hidden all the same.
const leastSecret = 6

// hiddenValue stands for what looks like a secret that has no name on the host.
const hiddenValue = "[hidden]"

var (
	keyOfLine = regexp.MustCompile(`^\s*(?:export\s+|Environment=["']?)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=: \t]\s*(.*)$`)
	// secretWord is a word that names a secret, with what follows it.
	secretWord = regexp.MustCompile(`(?i)([A-Za-z0-9_.-]*(?:pass|secret|token|private|_key|key_base|salt|dsn|credential|authorization)[A-Za-z0-9_.-]*["']?[ \t]*[=: \t][ \t]*)("[^"]*"|'[^']*'|[^\s;"']+)`)
	// userInfo is the password of an URL.
	userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^/\s:@"']*:)([^\s/@"']+)(@)`)
	longWord = regexp.MustCompile(`[A-Za-z0-9+/_-]{24,}={0,2}`)
	harmless = regexp.MustCompile(`(?i)^["']?(/[^\s"']*|\$[A-Za-z_{][^\s"']*|@refit-secret\([A-Za-z0-9_]+\)@|true|false|yes|no|on|off|none|optional|required|[0-9]{1,5})?["']?$`)
)

// withoutSecrets is a text with references for the host's secrets, and without the values
// of what else looks like one: a name that the expected text has a reference for may have a
// value that no file of secrets knows yet.
func withoutSecrets(text, expected []byte, secrets map[string]string) (out []byte, hidden int) {
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return []byte(hiddenValue + "\n"), 1
	}
	names := slices.SortedFunc(maps.Keys(secrets), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(secrets[b]), len(secrets[a])), strings.Compare(a, b))
	})
	plain := string(text)
	for _, name := range names {
		if len(secrets[name]) >= leastSecret {
			plain = strings.ReplaceAll(plain, secrets[name], "@refit-secret("+name+")@")
		}
	}
	referred, lines := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(expected)) {
		lines[line] = true
		if k := keyOfLine.FindStringSubmatch(line); k != nil && secretReference.MatchString(line) {
			referred[k[1]] = true
		}
	}
	hide := func(value string) string {
		if harmless.MatchString(value) {
			return value
		}
		hidden++
		return hiddenValue
	}
	var b strings.Builder
	for line := range strings.Lines(plain) {
		if lines[line] { // as it is to be, and so in the repository
			b.WriteString(line)
			continue
		}
		body, end := strings.TrimSuffix(line, "\n"), line[len(strings.TrimSuffix(line, "\n")):]
		if k := keyOfLine.FindStringSubmatchIndex(body); k != nil && referred[body[k[2]:k[3]]] {
			body = body[:k[4]] + hide(body[k[4]:k[5]])
		}
		body = secretWord.ReplaceAllStringFunc(body, func(s string) string {
			w := secretWord.FindStringSubmatch(s)
			return w[1] + hide(w[2])
		})
		body = userInfo.ReplaceAllStringFunc(body, func(s string) string {
			w := userInfo.FindStringSubmatch(s)
			return w[1] + hide(w[2]) + w[3]
		})
		body = longWord.ReplaceAllStringFunc(body, func(s string) string {
			if strings.ContainsAny(s, "0123456789") && strings.ToLower(s) != s && strings.ToUpper(s) != s {
				return hide(s)
			}
			return s
		})
		b.WriteString(body + end)
	}
	return []byte(b.String()), hidden
}
