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

// stateSecrets holds a host's secrets, root's alone: lines of NAME=value, for which files
// of the configuration repository have references.
const stateSecrets = "/etc/refit/secrets.env"

// StateFile is a file as a host is to have it.
type StateFile struct {
	Path string `json:"path"`
	// Content has references, "@refit-secret(NAME)@", in the place of secrets.
	Content []byte      `json:"content"`
	Owner   string      `json:"owner,omitempty"`
	Group   string      `json:"group,omitempty"`
	Mode    fs.FileMode `json:"mode"`
}

// StateFilesIn asks whether files are as they are to be.
type StateFilesIn struct {
	Files []StateFile `json:"files"`
	// Contents: of those that are not, what is there is wanted too.
	Contents bool `json:"contents,omitempty"`
}

// FileState is how a file stands to what it is to be.
type FileState string

// The states of a file.
const (
	FileSame    FileState = "same"
	FileOther   FileState = "other"   // other content; owner and mode may differ too
	FileRights  FileState = "mode"    // another owner, group or mode alone
	FileMissing FileState = "missing" // no such file
	FileUnknown FileState = "unknown" // it could not be compared; Error says why
)

// FileSeen is one file as it is.
type FileSeen struct {
	Path  string      `json:"path"`
	State FileState   `json:"state"`
	Owner string      `json:"owner,omitempty"`
	Group string      `json:"group,omitempty"`
	Mode  fs.FileMode `json:"mode,omitempty"`
	// Content is what is there, with references in the place of secrets, and without what
	// looks like a secret that has no name; Hidden is how many values were left out.
	Content []byte `json:"content,omitempty"`
	Hidden  int    `json:"hidden,omitempty"`
	Error   string `json:"error,omitempty"`
}

// StateFilesOut is the files in the order asked for.
type StateFilesOut struct {
	Files []FileSeen `json:"files"`
}

// ReadStateFiles asks a host whether files are as they are to be. It changes nothing, and no
// secret leaves the host.
func (a *Agent) ReadStateFiles(ctx context.Context, in StateFilesIn) (StateFilesOut, error) {
	return call[StateFilesOut](ctx, a, "state.files", in, nil, nil)
}

// mostContent bounds what is read of a file.
const mostContent = 1 << 20

// stateFiles is the verb state.files.
func (m Machine) stateFiles(_ context.Context, in StateFilesIn, _ io.Reader, _ func(string)) (StateFilesOut, error) {
	secrets, err := m.namedSecrets()
	if err != nil {
		return StateFilesOut{}, err
	}
	var out StateFilesOut
	for _, f := range in.Files {
		if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
			return out, fmt.Errorf("%q is no clean absolute path", f.Path)
		}
		out.Files = append(out.Files, m.seen(f, secrets, in.Contents))
	}
	return out, nil
}

// namedSecrets reads the host's secrets; there may be none.
func (m Machine) namedSecrets() (map[string]string, error) {
	b, err := os.ReadFile(m.root(stateSecrets))
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
			out[strings.TrimSpace(name)] = value // as it stands
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
		return nil, fmt.Errorf("%s on this host lacks %s", stateSecrets, strings.Join(slices.Compact(lacks), ", "))
	}
	return out, nil
}

func (m Machine) seen(f StateFile, secrets map[string]string, contents bool) FileSeen {
	l := FileSeen{Path: f.Path}
	unknown := func(err error) FileSeen {
		l.State, l.Error = FileUnknown, err.Error()
		return l
	}
	info, err := os.Lstat(m.root(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		l.State = FileMissing
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
		l.State = FileOther
	case f.Owner != "" && f.Owner != l.Owner, f.Group != "" && f.Group != l.Group, f.Mode.Perm() != l.Mode:
		l.State = FileRights
	default:
		l.State = FileSame
	}
	if contents && l.State == FileOther {
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
	harmless = regexp.MustCompile(`(?i)^["']?(/[^\s"']*|\$[A-Za-z_{][^\s"']*|@refit-secret\([A-Za-z0-9_]+\)@|\[hidden\]|true|false|yes|no|on|off|none|optional|required|[0-9]{1,5})?["']?$`)
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
		if k := keyOfLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); k != nil && secretReference.MatchString(line) {
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
