package slacktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf16"
)

// wrongContent is Slack's word for what is wrong with a message, "" for nothing.
func wrongContent(q request, most int) string {
	text, blocks := q.get("text"), q.get("blocks")
	switch {
	case text == "" && (blocks == "" || blocks == "[]"):
		return "no_text"
	case length(text) > most:
		return "msg_too_long"
	case !escaped(text):
		return "invalid_markup"
	}
	if m := q.get("metadata"); m != "" {
		var meta metadata
		d := json.NewDecoder(strings.NewReader(m))
		d.DisallowUnknownFields()
		switch {
		case d.Decode(&meta) != nil:
			return "invalid_metadata_format"
		case meta.Type == "" || meta.Payload == nil:
			return "invalid_metadata_schema"
		case len(m) > 8000:
			return "metadata_too_large"
		}
	}
	if blocks == "" {
		return ""
	}
	var list []json.RawMessage
	if json.Unmarshal([]byte(blocks), &list) != nil {
		return "invalid_blocks_format"
	}
	if len(list) > 50 {
		return "invalid_blocks"
	}
	total := 0
	for _, one := range list {
		n, err := checkBlock(one)
		if err != nil {
			return "invalid_blocks"
		}
		total += n
	}
	if total > 9600 {
		return "msg_blocks_too_long"
	}
	return ""
}

type textObject struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Emoji    *bool  `json:"emoji"`
	Verbatim *bool  `json:"verbatim"`
}

var errBlock = errors.New("invalid block")

// check tells a text object's length.
func (t *textObject) check(kinds string, most int) (int, error) {
	n := length(t.Text)
	if !strings.Contains(kinds, t.Type) || t.Type == "" || n < 1 || n > most || t.Type == "mrkdwn" && (t.Emoji != nil || !escaped(t.Text)) {
		return 0, errBlock
	}
	return n, nil
}

// checkBlock reads one block: a header, a section, a context or a divider.
func checkBlock(raw json.RawMessage) (int, error) {
	var b struct {
		Type     string        `json:"type"`
		ID       string        `json:"block_id"`
		Text     *textObject   `json:"text"`
		Fields   []*textObject `json:"fields"`
		Elements []*textObject `json:"elements"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return 0, err
	}
	if len(b.ID) > 255 {
		return 0, errBlock
	}
	total := 0
	add := func(t *textObject, kinds string, most int) error {
		n, err := t.check(kinds, most)
		total += n
		return err
	}
	var errs []error
	switch b.Type {
	case "header":
		if b.Text == nil {
			return 0, errBlock
		}
		errs = append(errs, add(b.Text, "plain_text", 150))
	case "section":
		if b.Text == nil && len(b.Fields) == 0 || len(b.Fields) > 10 {
			return 0, errBlock
		}
		if b.Text != nil {
			errs = append(errs, add(b.Text, "mrkdwn plain_text", 3000))
		}
		for _, f := range b.Fields {
			errs = append(errs, add(f, "mrkdwn plain_text", 2000))
		}
	case "context":
		if len(b.Elements) < 1 || len(b.Elements) > 10 {
			return 0, errBlock
		}
		for _, e := range b.Elements {
			errs = append(errs, add(e, "mrkdwn plain_text", 2000))
		}
	case "divider":
	default:
		return 0, errBlock
	}
	return total, errors.Join(errs...)
}

// length is a text's length in UTF-16 units, as a browser counts.
func length(s string) int { return len(utf16.Encode([]rune(s))) }

// escaped tells whether every & begins an entity and every < a link or a date of
// refit's own: anything else came from a text that was not escaped, and could call
// the whole channel.
func escaped(s string) bool {
	for i := 0; i < len(s); i++ {
		rest := s[i:]
		switch {
		case s[i] == '&' && !strings.HasPrefix(rest, "&amp;") && !strings.HasPrefix(rest, "&lt;") && !strings.HasPrefix(rest, "&gt;"):
			return false
		case s[i] == '>':
			return false
		case s[i] == '<':
			end := strings.IndexByte(rest, '>')
			if end < 0 || !strings.HasPrefix(rest, "<!date^") && !strings.HasPrefix(rest, "<https://") {
				return false
			}
			i += end
		}
	}
	return true
}

// blockTexts are all texts of a message's blocks, a line each.
func blockTexts(blocks string) string {
	var list []struct {
		Text     *textObject   `json:"text"`
		Fields   []*textObject `json:"fields"`
		Elements []*textObject `json:"elements"`
	}
	if json.Unmarshal([]byte(blocks), &list) != nil {
		return ""
	}
	var out []string
	for _, b := range list {
		if b.Text != nil {
			out = append(out, b.Text.Text)
		}
		for _, t := range append(b.Fields, b.Elements...) {
			out = append(out, t.Text)
		}
	}
	return strings.Join(out, "\n")
}
