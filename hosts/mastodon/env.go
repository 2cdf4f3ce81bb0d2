package mastodon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/joho/godotenv"

	"vmst.io/refit/hosts/node"
)

// environ is a host's environment file. It must never be put into a result.
type environ map[string]string

// readEnviron reads the environment file. Its errors hold no line of it.
func readEnviron(l Layout) (environ, error) {
	file := l.filled().EnvFile
	env, err := godotenv.Read(file)
	if err != nil {
		// What the parser says quotes the file.
		var missing *fs.PathError
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("cannot read Mastodon's settings: %w", err)
		}
		return nil, fmt.Errorf("cannot read Mastodon's settings: %s has a line that is no KEY=value", file)
	}
	return env, nil
}

// or gives the value of name, or def where it is absent or empty.
func (e environ) or(name, def string) string {
	if v := e[name]; v != "" {
		return v
	}
	return def
}

// secretName tells names whose values are secrets.
var secretName = regexp.MustCompile(`(?i)PASS|SECRET|TOKEN|PRIVATE|_KEY|KEY_BASE|SALT|DSN|CREDENTIAL`)

// secrets are the values that no text may hold: those of secret names, and from
// URLs their user information. Very short ones are left out, as masking them would
// make every text unreadable and hide nothing.
func (e environ) secrets() []string {
	var out []string
	add := func(s string) {
		if len(s) >= 4 {
			out = append(out, s, url.QueryEscape(s), url.PathEscape(s))
		}
	}
	for name, v := range e {
		if secretName.MatchString(name) {
			add(v)
		}
		if strings.Contains(v, "://") {
			if u, err := url.Parse(v); err != nil {
				add(v)
			} else if pw, ok := u.User.Password(); ok {
				add(v)
				add(pw)
			}
		}
	}
	return out
}

// Passwords in connection strings: "scheme://user:password@" and "password=…".
var (
	userinfo = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^/\s:@]*):[^@\s/]*@`)
	keyword  = regexp.MustCompile(`\bpassword=('[^']*'|\S+)`)
)

// scrub cuts secrets and the passwords of connection strings out of a text.
func scrub(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "[hidden]")
	}
	text = userinfo.ReplaceAllString(text, "$1:[hidden]@")
	return keyword.ReplaceAllString(text, "password=[hidden]")
}

// scrubbed is an error whose text was scrubbed and whose kind stays to be seen.
type scrubbed struct {
	text  string
	cause error
}

func (s *scrubbed) Error() string { return s.text }
func (s *scrubbed) Unwrap() error { return s.cause }

// clean scrubs an error.
func (e environ) clean(err error) error {
	if err == nil {
		return nil
	}
	return &scrubbed{scrub(oneLine(err.Error()), e.secrets()), err}
}

// oneLine makes one line of an error of several, and tells each only once: a
// driver tries the same address with TLS and without.
func oneLine(text string) string {
	var out []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return strings.Join(out, " | ")
}

// serve makes a verb's function of one that takes no payload.
func serve[In, Out any](f func(context.Context, In, func(string)) (Out, error)) func(context.Context, json.RawMessage, io.Reader, func(string)) (any, error) {
	return node.Typed(func(ctx context.Context, in In, _ io.Reader, say func(string)) (Out, error) { return f(ctx, in, say) })
}

// hostPort joins an address, which may be a version 6 one, and a port.
func hostPort(host, port string) string { return net.JoinHostPort(strings.Trim(host, "[]"), port) }
