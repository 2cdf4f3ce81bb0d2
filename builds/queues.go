package builds

import (
	"regexp"
	"strings"
)

// The queues that code asks for. config/sidekiq.yml lists those that a process
// works off by default; a class may name one that stands in no list, and then
// nobody works it off.

var (
	// queueOptions begin a statement that may name a queue.
	queueOptions = regexp.MustCompile(`\bsidekiq_options\b|\.set\s*\(`)
	// queueKey is the key in the forms that Ruby has for it.
	queueKey = regexp.MustCompile(`(?:\bqueue:|['"]queue['"]\s*(?:=>|:)|:queue\s*=>)\s*`)
	// queueOf are the whole statements that name one.
	queueOf    = regexp.MustCompile(`\bqueue_as[ \t(]\s*|\bdeliver_later_queue_name\s*=\s*`)
	queueValue = regexp.MustCompile(`^(?:'([\w-]+)'|"([\w-]+)"|:([\w-]+))`)
)

// queueRead is what one file says of queues.
type queueRead struct {
	names []string
	// unknown are lines that name a queue which only running code knows.
	unknown []string
}

// readQueueNames finds the queues that a Ruby file names.
func readQueueNames(text string) queueRead {
	var r queueRead
	if !strings.Contains(text, "queue") {
		return r
	}
	for _, at := range queueOptions.FindAllStringIndex(text, -1) {
		if commented.MatchString(lineAt(text, at[0])) {
			continue
		}
		statement := statementAt(text, at[0])
		if key := queueKey.FindStringIndex(statement); key != nil {
			r.add(statement[key[1]:], lineAt(text, at[0]))
		}
	}
	for _, at := range queueOf.FindAllStringIndex(text, -1) {
		if line := lineAt(text, at[0]); !commented.MatchString(line) {
			r.add(text[at[1]:], line)
		}
	}
	return r
}

func (r *queueRead) add(value, line string) {
	m := queueValue.FindStringSubmatch(value)
	if m == nil {
		r.unknown = append(r.unknown, strings.TrimSpace(line))
		return
	}
	r.names = append(r.names, m[1]+m[2]+m[3])
}

// statementAt is the Ruby statement that begins at the byte at: its line, and
// the next ones while a line ends in a comma, a backslash or an open bracket.
func statementAt(text string, at int) string {
	end := at
	for {
		n := strings.IndexByte(text[end:], '\n')
		if n < 0 {
			return text[at:]
		}
		line := strings.TrimRight(text[end:end+n], " \t\r")
		end += n + 1
		if line == "" || !strings.ContainsRune(`,\([{`, rune(line[len(line)-1])) {
			return text[at : end-1]
		}
	}
}

// Scheduled is an entry of :schedule: in config/sidekiq.yml.
type Scheduled struct {
	Name string `json:"name"`
	// Text is the entry as it stands, so that any change of it shows.
	Text string `json:"text"`
}

// schedule reads the entries of :schedule: in config/sidekiq.yml. The file is
// ERB around YAML: entries are told by their indent.
func schedule(t Tree) ([]Scheduled, error) {
	text, err := t.text("config/sidekiq.yml")
	if err != nil {
		return nil, err
	}
	var out []Scheduled
	of, entry := -1, -1 // indents of the list and of its entries
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		word := strings.TrimLeft(line, " ")
		if word == "" || word[0] == '#' {
			continue
		}
		indent := len(line) - len(word)
		switch {
		case of < 0:
			if word == ":schedule:" || word == "schedule:" {
				of = indent
			}
		case indent <= of:
			of, entry = -1, -1
		case entry < 0 || indent <= entry:
			entry = indent
			name, value, _ := strings.Cut(word, ":")
			if name == "" { // a symbol
				name, value, _ = strings.Cut(word[1:], ":")
			}
			out = append(out, Scheduled{Name: strings.Trim(name, `'"`), Text: strings.TrimSpace(value)})
		default:
			last := &out[len(out)-1]
			last.Text = strings.TrimSpace(last.Text + "\n" + strings.TrimSpace(line))
		}
	}
	return out, nil
}
