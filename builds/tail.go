package builds

import (
	"bytes"
	"regexp"
	"strings"
	"time"
)

// maxTail bounds how much of a step's log is kept for ErrorLines, bytes; the
// host keeps all of it.
const maxTail = 1 << 20

// chatter are lines that come by the hundred and tell only that the step lives.
// One every chatterEvery is passed on; the host's log has them all.
var chatter = regexp.MustCompile(`^(?:Fetching|Installing|Using) \S+ \S+|built in to Ruby, and can't be cached|^➤ YN0013|^\S+ \[\d+/\d+\]`)

const chatterEvery = 2 * time.Second

// tail passes a growing log on, line by line, and keeps its end.
type tail struct {
	// chattered is when a line of chatter was passed on last.
	chattered time.Time
	step      string
	say       func(string)
	offset    int64
	line      bytes.Buffer
	all       bytes.Buffer
}

func (t *tail) write(b []byte) {
	t.all.Write(b)
	if over := t.all.Len() - maxTail; over > 0 {
		t.all.Next(over)
	}
	t.line.Write(b)
	for {
		i := bytes.IndexByte(t.line.Bytes(), '\n')
		if i < 0 {
			return
		}
		t.tell(string(t.line.Next(i + 1)))
	}
}

func (t *tail) flush() {
	t.tell(t.line.String())
	t.line.Reset()
}

func (t *tail) tell(line string) {
	line = strings.TrimSpace(ansi.ReplaceAllString(line, ""))
	if line == "" {
		return
	}
	if chatter.MatchString(line) {
		if time.Since(t.chattered) < chatterEvery {
			return
		}
		t.chattered = time.Now()
	}
	t.say(t.step + ": " + line)
}
