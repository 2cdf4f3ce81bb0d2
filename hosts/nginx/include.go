package nginx

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownServer: the address stands in none of the include file's lines. Not
// worth a retry: the file or the fleet's configuration has to be mended.
var ErrUnknownServer = errors.New("no such server in the include file")

// ErrLastServer: marking the server down would leave the upstream without one.
// Worth a retry once another server of the upstream is up again.
var ErrLastServer = errors.New("the upstream would have no server left")

// Server is one line "server ADDRESS PARAMETERS;" of an include file.
type Server struct {
	// Address as written, with its port: "10.77.0.21:3000".
	Address string `json:"address"`
	// Params are the parameters but "down", as written and in their order.
	Params []string `json:"params,omitempty"`
	// Down: nginx sends nothing to it.
	Down bool `json:"down"`
	// Line counts from 1.
	Line int `json:"line"`
}

// Host is the address without its port.
func (s Server) Host() string {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return s.Address
	}
	return host
}

// MaxFails is the value of max_fails, "1" where the line has none, nginx's
// default: with it one refused connection takes a server out for fail_timeout.
func (s Server) MaxFails() string {
	for _, p := range s.Params {
		if v, ok := strings.CutPrefix(p, "max_fails="); ok {
			return v
		}
	}
	return "1"
}

// Include is an include file, line by line. Lines that are not touched are
// rendered as they were read.
type Include struct {
	// Path names the file in errors.
	Path  string
	lines []line
}

type line struct {
	text    string  // as read, without the newline
	server  *Server // nil for a blank line or a comment
	comment string  // what follows the semicolon of a server's line
}

// ParseInclude reads an include file. Only blank lines, comments and whole
// server lines with parameters that nginx documents are understood; the error for
// anything else names file and line.
func ParseInclude(path, text string) (*Include, error) {
	inc := &Include{Path: path}
	if text == "" {
		return inc, nil
	}
	for i, raw := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		l, err := parseLine(raw, i+1)
		if err != nil {
			return nil, fmt.Errorf("cannot understand %s line %d: %w: %q; only lines \"server ADDRESS:PORT …;\" and comments belong there", path, i+1, err, clip(raw, 80))
		}
		inc.lines = append(inc.lines, l)
	}
	return inc, nil
}

func parseLine(raw string, number int) (line, error) {
	text := strings.TrimSpace(raw)
	if text == "" || strings.HasPrefix(text, "#") {
		return line{text: raw}, nil
	}
	statement, rest, ended := strings.Cut(text, ";")
	if !ended {
		return line{}, errors.New("no semicolon")
	}
	rest = strings.TrimSpace(rest)
	if rest != "" && !strings.HasPrefix(rest, "#") {
		return line{}, errors.New("more than one statement")
	}
	words := strings.Fields(statement)
	if len(words) < 2 || words[0] != "server" {
		return line{}, errors.New("not a server")
	}
	if strings.ContainsAny(statement, "\"'{}$#\\") {
		return line{}, errors.New("quotes, braces and variables are not understood")
	}
	host, port, err := net.SplitHostPort(words[1])
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" {
		return line{}, fmt.Errorf("address %q has no port", words[1])
	}
	s := &Server{Address: words[1], Line: number}
	for _, p := range words[2:] {
		switch {
		case p == "down" && s.Down:
			return line{}, errors.New("\"down\" twice")
		case p == "down":
			s.Down = true
		case known(p):
			s.Params = append(s.Params, p)
		default:
			return line{}, fmt.Errorf("unknown parameter %q", p)
		}
	}
	return line{text: raw, server: s, comment: rest}, nil
}

// known tells whether p is a parameter of ngx_http_upstream_module's server
// directive (nginx.org/en/docs/http/ngx_http_upstream_module.html#server).
func known(p string) bool {
	if slices.Contains([]string{"backup", "resolve"}, p) {
		return true
	}
	name, value, ok := strings.Cut(p, "=")
	return ok && value != "" && slices.Contains([]string{"weight", "max_conns", "max_fails", "fail_timeout", "slow_start"}, name)
}

// Render gives the file's text back.
func (inc *Include) Render() string {
	var b strings.Builder
	for _, l := range inc.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.String()
}

// Servers are the file's servers in their order.
func (inc *Include) Servers() []Server {
	var out []Server
	for _, l := range inc.lines {
		if l.server != nil {
			out = append(out, *l.server)
		}
	}
	return out
}

// Set marks every server at address (a host without a port, or host:port) as
// down or up and tells whether that changed anything. It gives ErrUnknownServer or
// ErrLastServer, and then changes nothing.
func (inc *Include) Set(address string, down bool) (changed bool, err error) {
	var touched []int
	found, left := false, 0
	for i, l := range inc.lines {
		if l.server == nil {
			continue
		}
		if l.server.Address != address && l.server.Host() != address {
			if !l.server.Down && !slices.Contains(l.server.Params, "backup") {
				left++
			}
			continue
		}
		found = true
		if l.server.Down != down {
			touched = append(touched, i)
		}
	}
	switch {
	case !found:
		return false, fmt.Errorf("cannot find %s in %s: %w", address, inc.Path, ErrUnknownServer)
	case down && left == 0 && len(touched) > 0:
		return false, fmt.Errorf("cannot mark %s down in %s: %w; bring another server up first", address, inc.Path, ErrLastServer)
	}
	for _, i := range touched {
		s := inc.lines[i].server
		s.Down = down
		inc.lines[i].text = render(*s, inc.lines[i])
	}
	return len(touched) > 0, nil
}

// render writes a changed line anew with its old indentation and comment.
func render(s Server, was line) string {
	words := append([]string{"server", s.Address}, s.Params...)
	if s.Down {
		words = append(words, "down")
	}
	indent := was.text[:len(was.text)-len(strings.TrimLeft(was.text, " \t"))]
	out := indent + strings.Join(words, " ") + ";"
	if was.comment != "" {
		out += " " + was.comment
	}
	return out
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
