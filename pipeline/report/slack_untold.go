package report

import (
	"fmt"
	"slices"
	"strings"
)

// untold says what Slack was not told, and why. The loop has ended.
func (w *slackWork) untold() []string {
	var lost, doubtful, again, old []string
	for _, p := range w.state.Posts {
		name := strings.SplitN(p.Body.Text, "\n", 2)[0]
		switch {
		case p.open() && !p.Tried.IsZero():
			doubtful = append(doubtful, name)
		case p.TS == "":
			lost = append(lost, name)
		case p.stale(false) && w.door.edits():
			old = append(old, name)
		}
		if p.Again && p.TS != "" {
			again = append(again, name)
		}
		if p.open() && p.Thread != "" && strings.HasPrefix(p.Key, "run/") {
			// Others are still true later: the next process sends them.
			p.Given = "the run ended before it was sent"
			w.dirty = true
		}
	}
	var parts []string
	add := func(list []string, what string) {
		if len(list) > 0 {
			parts = append(parts, what+": "+plainly(list))
			w.dirty = true
		}
	}
	add(lost, "these messages did not get there")
	add(doubtful, "nobody knows whether these did")
	add(old, "what is shown there is old")
	add(again, "these may stand there twice")
	if n := len(w.state.Lines) + w.state.Dropped; n > 0 {
		parts = append(parts, fmt.Sprintf("lines of detail that are missing in its thread: %d", n))
		w.state.Lines, w.state.Dropped, w.dirty = nil, 0, true
	}
	// What was said to be missing is not said again after a resume.
	w.state.Posts = slices.DeleteFunc(w.state.Posts, func(p *post) bool { return p.TS == "" && p.Given != "" })
	w.keep()
	var out []string
	if len(parts) > 0 {
		out = append(out, "Slack was not told all: "+strings.Join(parts, "; ")+w.because())
	}
	if w.unseen != nil && len(again) > 0 {
		out = append(out, "Slack cannot be asked what was posted: "+w.unseen.text)
	}
	for _, p := range w.state.Posts {
		if p.Frozen != "" {
			out = append(out, "a message in Slack cannot be edited any more: "+p.Frozen)
		}
	}
	for _, err := range []error{w.unread, w.unkept} {
		if err != nil {
			out = append(out, err.Error())
		}
	}
	for i := range out {
		out[i] = w.o.Redact(out[i])
	}
	return out
}

func (w *slackWork) because() string {
	if w.trouble == nil {
		return ""
	}
	return ". Slack's last trouble: " + w.trouble.text
}

// plainly lists texts of messages as words for a terminal, not too many.
func plainly(list []string) string {
	const most = 4
	more := ""
	if len(list) > most {
		more = fmt.Sprintf(" and %d more", len(list)-most)
		list = list[:most]
	}
	plain := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(strings.Join(list, " | "))
	return printable(plain) + more
}
