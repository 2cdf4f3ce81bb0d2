package nginx

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// Facts is what a proxy's loaded configuration says about draining.
type Facts struct {
	// Version as in "1.26.3".
	Version string `json:"version"`
	// ShutdownTimeouts are the values of worker_shutdown_timeout, anywhere in the
	// configuration. With one set, every reload cuts all websockets of this proxy
	// after that time, those to untouched nodes too.
	ShutdownTimeouts []string `json:"shutdown_timeouts,omitempty"`
	// Upstreams that include one of the files asked for.
	Upstreams []Upstream `json:"upstreams,omitempty"`
	// Missing are the files asked for that no upstream block includes.
	Missing []string `json:"missing,omitempty"`
	// Active: nginx runs.
	Active bool `json:"active"`
	// Workers serve; those Leaving are of older generations and only finish what they have.
	Workers int `json:"workers"`
	Leaving int `json:"leaving"`
}

// Upstream is one upstream block that includes a file which refit owns.
type Upstream struct {
	Name    string   `json:"name"`
	Include string   `json:"include"`
	Servers []Server `json:"servers"`
	// Keepalive is the number of idle connections kept per worker; empty for none.
	Keepalive string `json:"keepalive,omitempty"`
	// Foreign are servers that stand in the block itself: "down" in the include file
	// does not reach them.
	Foreign []string `json:"foreign,omitempty"`
}

// MaxFails names the servers whose max_fails is not 0, "web.conf:1 10.77.0.21:3000".
// With two backends they are a trap: a node that restarts is shunned for
// fail_timeout, and if the other one restarts meanwhile every request fails.
func (f Facts) MaxFails() []string {
	var out []string
	for _, u := range f.Upstreams {
		for _, s := range u.Servers {
			if s.MaxFails() != "0" {
				out = append(out, fmt.Sprintf("%s:%d %s", path.Base(u.Include), s.Line, s.Address))
			}
		}
	}
	return out
}

// Finding is one thing that speaks against draining through this proxy.
type Finding struct {
	// Fatal: the drain would not work or would not be safe.
	Fatal bool
	Text  string
}

// Findings judges the facts.
func (f Facts) Findings() []Finding {
	var out []Finding
	if !f.Active {
		out = append(out, Finding{true, "nginx does not run; start it, or take the proxy out of the fleet"})
	}
	for _, m := range f.Missing {
		out = append(out, Finding{true, fmt.Sprintf("no upstream block includes %s; put \"include %s;\" into it in the server lines' place", m, m)})
	}
	for _, u := range f.Upstreams {
		if len(u.Foreign) > 0 {
			out = append(out, Finding{true, fmt.Sprintf("upstream %s has servers of its own beside %s (%s); move them into that file", u.Name, u.Include, strings.Join(u.Foreign, ", "))})
		}
	}
	if m := f.MaxFails(); len(m) > 0 {
		out = append(out, Finding{true, "without max_fails=0 a restarting node is shunned for ten seconds; add max_fails=0 to " + strings.Join(m, ", ")})
	}
	for _, v := range f.ShutdownTimeouts {
		if d, err := time.ParseDuration(v); err == nil && d == 0 {
			continue
		}
		out = append(out, Finding{false, fmt.Sprintf("worker_shutdown_timeout %s cuts every websocket of this proxy %s after each reload, those to untouched nodes too; remove it", v, v)})
	}
	return out
}

// ReadConfig finds in the output of "nginx -T" what Facts tells of the
// configuration, for the include files asked for.
func ReadConfig(dump string, files []string) (Facts, error) {
	var f Facts
	texts := splitDump(dump)
	if len(texts) == 0 {
		return f, fmt.Errorf("cannot read the output of nginx -T: no line \"# configuration file …\" in it")
	}
	found := map[string]bool{}
	for _, part := range texts {
		var blocks []string // names of the open blocks
		var up *Upstream
		var includes []string
		for _, s := range statements(part.text) {
			switch s.end {
			case '{':
				blocks = append(blocks, s.word(0))
				if s.word(0) == "upstream" {
					up, includes = &Upstream{Name: s.word(1)}, nil
				}
			case '}':
				if len(blocks) == 0 {
					continue // an included file may not close more than it opens; nginx -t says so itself
				}
				if blocks[len(blocks)-1] == "upstream" && up != nil {
					for _, inc := range includes {
						u := *up
						u.Include = inc
						found[inc] = true
						f.Upstreams = append(f.Upstreams, u)
					}
					up = nil
				}
				blocks = blocks[:len(blocks)-1]
			default:
				switch {
				case s.word(0) == "worker_shutdown_timeout":
					f.ShutdownTimeouts = append(f.ShutdownTimeouts, s.word(1))
				case up == nil:
				case s.word(0) == "include":
					includes = append(includes, matching(s.word(1), files)...)
				case s.word(0) == "keepalive":
					up.Keepalive = s.word(1)
				case s.word(0) == "server":
					up.Foreign = append(up.Foreign, s.word(1))
				}
			}
		}
	}
	for i, u := range f.Upstreams {
		for _, part := range texts {
			if part.path != u.Include {
				continue
			}
			inc, err := ParseInclude(part.path, strings.TrimRight(part.text, "\n")+"\n")
			if err != nil {
				return f, err
			}
			f.Upstreams[i].Servers = inc.Servers()
		}
	}
	for _, file := range files {
		if !found[file] {
			f.Missing = append(f.Missing, file)
		}
	}
	return f, nil
}

// matching gives those of files that an include directive takes in. A relative
// path is one below nginx's prefix, /etc/nginx on Debian.
func matching(pattern string, files []string) []string {
	if !path.IsAbs(pattern) {
		pattern = path.Join("/etc/nginx", pattern)
	}
	var out []string
	for _, f := range files {
		if ok, err := path.Match(pattern, f); err == nil && ok {
			out = append(out, f)
		}
	}
	return out
}

type dumped struct{ path, text string }

// splitDump cuts the output of "nginx -T" at its lines "# configuration file PATH:".
func splitDump(dump string) []dumped {
	var out []dumped
	var text strings.Builder
	flush := func() {
		if len(out) > 0 {
			out[len(out)-1].text = text.String()
		}
		text.Reset()
	}
	for l := range strings.Lines(dump) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(l), "# configuration file "); ok && strings.HasSuffix(p, ":") {
			flush()
			out = append(out, dumped{path: strings.TrimSuffix(p, ":")})
			continue
		}
		text.WriteString(l)
	}
	flush()
	return out
}

// statement is one directive of nginx's language and what ended it: ';', '{' or
// '}' (a closing brace has no words).
type statement struct {
	words []string
	end   byte
}

func (s statement) word(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// statements splits a configuration into directives: words apart by blanks,
// quotes of both kinds with backslash escapes, comments to the end of the line,
// and "${" inside a word, which opens no block.
func statements(text string) []statement {
	var out []statement
	var words []string
	var word strings.Builder
	inWord := false
	finish := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			word.WriteByte(c)
			word.WriteByte(text[i+1])
			inWord = true
			i++
		case (c == '"' || c == '\'') && !inWord:
			inWord = true
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word.WriteByte(text[i])
			}
			finish()
		case c == '#' && !inWord:
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '$' && i+1 < len(text) && text[i+1] == '{':
			for i < len(text) && text[i] != '}' {
				word.WriteByte(text[i])
				i++
			}
			word.WriteByte('}')
			inWord = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			finish()
		case c == ';' || c == '{' || c == '}':
			finish()
			out = append(out, statement{words, c})
			words = nil
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	return out
}
