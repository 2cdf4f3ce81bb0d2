package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/slack-go/slack"
)

// Slack's limits, in characters (docs.slack.dev, Block Kit reference and chat.update):
// a section 3,000, a field 2,000 and ten of them, a header 150, a context element
// 2,000, 50 blocks, and the text of an edited message 4,000, which is less than the
// 40,000 that a new one may have. Above some 10,000 characters of blocks in all Slack
// answers msg_blocks_too_long, a limit that stands in no table.
const (
	mostSection = 2900
	mostWide    = 1900 // of a field and of the small print
	mostField   = 500  // of one that shares its line with another
	mostHeader  = 150
	mostText    = 3900
	mostBlocks  = 8000
)

// body is what one message says. All but Head is mrkdwn, already escaped and cut.
type body struct {
	// Text is the line of the notification, and all that is shown if the blocks are
	// refused.
	Text string `json:"text"`
	// Head is the title, plain text.
	Head string `json:"head,omitempty"`
	// Fields stand in two columns, Parts below each other.
	Fields []string `json:"fields,omitempty"`
	Parts  []string `json:"parts,omitempty"`
	// Foot is the small print. It changes all the time: alone it is no reason to
	// edit a message at once.
	Foot string `json:"foot,omitempty"`
	// Plain: Slack refused the blocks, so the text goes alone.
	Plain bool `json:"plain,omitempty"`
}

// digest tells one body from another; without the foot, what is worth an edit.
func (b body) digest(foot bool) string {
	if !foot {
		b.Foot = ""
	}
	// A struct of strings cannot fail to be marshalled.
	text, err := json.Marshal(b)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// blocks lays the body out within Slack's limits; none for a plain one.
func (b body) blocks() []slack.Block {
	if b.Plain {
		return nil
	}
	left := mostBlocks
	fit := func(s string) string {
		if s = cutMarkup(s, left); s != "" {
			left -= size(s)
		}
		return s
	}
	var out []slack.Block
	if head := fit(cutMarkup(b.Head, mostHeader)); head != "" {
		out = append(out, slack.NewHeaderBlock(slack.NewTextBlockObject(slack.PlainTextType, head, true, false)))
	}
	var fields []*slack.TextBlockObject
	for _, f := range b.Fields[:min(len(b.Fields), 10)] {
		if f = fit(cutMarkup(f, mostWide)); f != "" {
			fields = append(fields, markup(f))
		}
	}
	if len(fields) > 0 {
		out = append(out, slack.NewSectionBlock(nil, fields, nil))
	}
	foot := cutMarkup(b.Foot, min(left, mostWide))
	left -= size(foot)
	for _, p := range b.Parts[:min(len(b.Parts), 40)] {
		if p = fit(cutMarkup(p, mostSection)); p != "" {
			out = append(out, slack.NewSectionBlock(markup(p), nil, nil))
		}
	}
	if foot != "" {
		out = append(out, slack.NewContextBlock("", markup(foot)))
	}
	return out
}

// markup is verbatim: else Slack makes links, channels and mentions of plain words, which
// may be anybody's.
func markup(text string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.MarkdownType, text, false, true)
}

// size is the length of a text as Slack's browsers count it: in UTF-16 units, which
// is never less than the number of characters.
func size(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// entity are the three characters that mrkdwn wants escaped; with them no text can
// call a channel (<!channel>) or hide a link behind words.
var entity = map[rune]string{'&': "&amp;", '<': "&lt;", '>': "&gt;"}

// escape makes a text that says itself in mrkdwn, at most so long; what is cut off
// is marked, no entity is cut in two, and no block of code is opened or closed.
func escape(s string, most int) string {
	var b strings.Builder
	n, end := 0, 0
	for _, r := range strings.ReplaceAll(printable(s), fence, "'''") {
		word, ok := entity[r]
		if !ok {
			word = string(r)
		}
		b.WriteString(word)
		if n += size(word); n < most {
			end = b.Len()
		}
	}
	if n <= most {
		return b.String()
	}
	return b.String()[:end] + "…"
}

// cutMarkup shortens a text that is escaped already: not within an entity, and a
// block of code stays closed.
func cutMarkup(s string, most int) string {
	if size(s) <= most {
		return s
	}
	closing := ""
	if strings.HasSuffix(s, fence) {
		closing = "\n" + fence
	}
	room := most - size(closing) - 1
	if room < 8 {
		return ""
	}
	n, end := 0, 0
	for i, r := range s {
		if n += size(string(r)); n > room {
			break
		}
		end = i + utf8.RuneLen(r)
	}
	s = s[:end]
	if i := strings.LastIndexByte(s, '&'); i >= 0 && !strings.Contains(s[i:], ";") {
		s = s[:i]
	}
	return s + "…" + closing
}

const fence = "```"

// code shows a text as it is, in a block of its own, at most so long with all.
func code(s string, most int) string {
	return fence + "\n" + escape(strings.Trim(s, "\n"), most-2*len(fence)-2) + "\n" + fence
}

// pages lays lines out in blocks of code, each as large as a section may be, and at
// most so many; rest is what did not fit. A line longer than a block is cut.
func pages(lines []string, most int) (blocks, rest []string) {
	const room = mostSection - 2*len(fence) - 2
	for i := 0; i < len(lines); {
		if len(blocks) == most {
			return blocks, lines[i:]
		}
		var page []string
		for n := 0; i < len(lines); i++ {
			line := escape(lines[i], 600)
			if n += size(line) + 1; n > room {
				break
			}
			page = append(page, line)
		}
		blocks = append(blocks, fence+"\n"+strings.Join(page, "\n")+"\n"+fence)
	}
	return blocks, nil
}
