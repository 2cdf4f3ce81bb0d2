package slacktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is one call, taken apart.
type request struct {
	method string
	form   url.Values
	token  string
}

func (q request) get(name string) string { return q.form.Get(name) }

func (q request) key() string {
	var m metadata
	if json.Unmarshal([]byte(q.get("metadata")), &m) != nil {
		return ""
	}
	key, ok := m.Payload["key"].(string)
	if !ok {
		return ""
	}
	return key
}

type metadata struct {
	Type    string         `json:"event_type"`
	Payload map[string]any `json:"event_payload"`
}

// arguments of each method, as documented. Others are refused, which Slack itself
// does not do: it lets them pass in silence.
var arguments = map[string][]string{
	"auth.test":             {"token"},
	"chat.postMessage":      {"token", "channel", "text", "blocks", "metadata", "thread_ts", "reply_broadcast", "unfurl_links", "unfurl_media", "mrkdwn", "parse", "link_names"},
	"chat.update":           {"token", "channel", "ts", "text", "blocks", "metadata", "link_names", "parse", "reply_broadcast", "unfurl_links", "unfurl_media"},
	"conversations.history": {"token", "channel", "cursor", "limit", "oldest", "latest", "inclusive", "include_all_metadata"},
	"conversations.replies": {"token", "channel", "ts", "cursor", "limit", "oldest", "latest", "inclusive", "include_all_metadata"},
	"webhook":               {"text", "blocks", "unfurl_links", "unfurl_media", "replace_original", "delete_original"},
}

func (s *Server) read(r *http.Request) (request, error) {
	q := request{method: strings.TrimPrefix(r.URL.Path, "/api/"), form: url.Values{}}
	if strings.HasPrefix(r.URL.Path, "/services/") {
		return s.readHook(r)
	}
	if arguments[q.method] == nil {
		return q, errors.New("unknown_method")
	}
	if err := r.ParseForm(); err != nil {
		return q, err
	}
	q.form = r.Form
	q.token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if q.token == "" {
		q.token = q.get("token")
	}
	for name := range q.form {
		if !slices.Contains(arguments[q.method], name) {
			return q, fmt.Errorf("unknown argument %q", name)
		}
	}
	return q, nil
}

func (s *Server) readHook(r *http.Request) (request, error) {
	q := request{method: "webhook", form: url.Values{}, token: strings.TrimPrefix(r.URL.Path, "/services/")}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return q, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return q, err
	}
	for name, value := range fields {
		if !slices.Contains(arguments["webhook"], name) {
			return q, fmt.Errorf("unknown field %q", name)
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		q.form.Set(name, text)
	}
	return q, nil
}

type reply func(http.ResponseWriter)

func (s *Server) ok(fields map[string]any) reply {
	fields["ok"] = true
	return s.json(fields)
}

func (s *Server) json(v any) reply {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-OAuth-Scopes", strings.Join(s.o.Scopes, ","))
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.violate("the answer could not be written: %v", err)
		}
	}
}

// refuse is an error of Slack's. Those for a message's form count as violations.
func (s *Server) refuse(q request, word string) reply {
	switch {
	case strings.HasPrefix(word, "invalid_b"), strings.HasPrefix(word, "invalid_m"), strings.HasPrefix(word, "msg_"), word == "no_text", word == "metadata_too_large":
		s.violate("%s: %s: %.80s", q.method, word, q.get("text"))
	}
	if q.method != "webhook" {
		return s.json(map[string]any{"ok": false, "error": word, "needed": map[string]string{"missing_scope": "channels:history"}[word]})
	}
	code := map[string]int{"no_service": http.StatusNotFound, "channel_is_archived": http.StatusGone}[word]
	if code == 0 {
		code = http.StatusBadRequest
	}
	return func(w http.ResponseWriter) { http.Error(w, word, code) }
}

func (s *Server) answer(q request) reply {
	if word := s.denied(q); word != "" {
		return s.refuse(q, word)
	}
	switch q.method {
	case "auth.test":
		return s.ok(map[string]any{"url": "https://refit.slack.test/", "team": "refit", "user": "refit", "team_id": "T0", "user_id": "U0", "bot_id": "B0"})
	case "chat.postMessage", "webhook":
		return s.postMessage(q)
	case "chat.update":
		return s.update(q)
	}
	return s.history(q)
}

// denied tells what keeps the caller out, "" for nothing.
func (s *Server) denied(q request) string {
	if q.method == "webhook" {
		switch {
		case q.token != s.o.Hook, s.revoked != "":
			return "no_service"
		case s.archived:
			return "channel_is_archived"
		}
		return ""
	}
	scope := map[string]string{
		"chat.postMessage": "chat:write", "chat.update": "chat:write",
		"conversations.history": "channels:history", "conversations.replies": "channels:history",
	}[q.method]
	switch {
	case q.token == "":
		return "not_authed"
	case q.token != s.o.Token:
		return "invalid_auth"
	case s.revoked != "":
		return s.revoked
	case scope != "" && !slices.Contains(s.o.Scopes, scope):
		return "missing_scope"
	case scope == "":
		return ""
	case q.get("channel") != s.o.Channel:
		return "channel_not_found"
	case s.outside:
		return "not_in_channel"
	case s.archived && q.method == "chat.postMessage":
		return "is_archived"
	case s.archived && q.method == "chat.update":
		return "is_inactive"
	}
	return ""
}

func (s *Server) postMessage(q request) reply {
	if word := wrongContent(q, 40000); word != "" {
		return s.refuse(q, word)
	}
	thread := q.get("thread_ts")
	if thread != "" {
		root := s.message(thread)
		if root == nil || root.Thread != "" {
			return s.refuse(q, "thread_not_found")
		}
	}
	if q.get("reply_broadcast") != "" && thread == "" {
		return s.refuse(q, "invalid_broadcast")
	}
	m := &Message{
		TS: s.stamp(), Thread: thread, Broadcast: q.get("reply_broadcast") == "true", Text: q.get("text"), Blocks: json.RawMessage(q.get("blocks")),
		Key: q.key(), Metadata: json.RawMessage(q.get("metadata")), Said: []string{said(q)}, Hook: q.method == "webhook", at: time.Now(),
	}
	s.messages = append(s.messages, m)
	if m.Hook {
		return func(w http.ResponseWriter) {
			if _, err := io.WriteString(w, "ok"); err != nil {
				s.violate("the answer could not be written: %v", err)
			}
		}
	}
	return s.ok(map[string]any{"channel": s.o.Channel, "ts": m.TS, "message": map[string]any{"text": m.Text, "ts": m.TS}})
}

// said is everything that a message says.
func said(q request) string { return q.get("text") + "\n" + blockTexts(q.get("blocks")) }

func (s *Server) update(q request) reply {
	// Here the text has a limit of its own.
	if word := wrongContent(q, 4000); word != "" {
		return s.refuse(q, word)
	}
	m := s.message(q.get("ts"))
	if m == nil {
		return s.refuse(q, "message_not_found")
	}
	if m.Hook {
		return s.refuse(q, "cant_update_message")
	}
	m.Text, m.Blocks, m.Parse = q.get("text"), json.RawMessage(q.get("blocks")), q.get("parse")
	m.Said = append(m.Said, said(q))
	return s.ok(map[string]any{"channel": s.o.Channel, "ts": m.TS, "text": m.Text})
}

func (s *Server) message(ts string) *Message {
	for _, m := range s.messages {
		if m.TS == ts {
			return m
		}
	}
	return nil
}

// history pages through the channel, the newest first, or a thread, the oldest first.
func (s *Server) history(q request) reply {
	thread := ""
	if q.method == "conversations.replies" {
		thread = q.get("ts")
		if s.message(thread) == nil {
			return s.refuse(q, "thread_not_found")
		}
	}
	oldest, err := strconv.ParseFloat(cmp0(q.get("oldest")), 64)
	if err != nil {
		return s.refuse(q, "invalid_ts_oldest")
	}
	limit, err := strconv.Atoi(cmp0(q.get("limit")))
	if err != nil || limit < 1 || limit > 999 {
		limit = 100
	}
	var list []*Message
	for _, m := range s.messages {
		in := m.Thread == "" || m.Broadcast
		if thread != "" {
			in = m.TS == thread || m.Thread == thread
		}
		at, err := strconv.ParseFloat(m.TS, 64)
		if in && err == nil && at >= oldest && time.Since(m.at) >= s.o.Late {
			list = append(list, m)
		}
	}
	if thread == "" {
		slices.Reverse(list)
	}
	from, err := strconv.Atoi(cmp0(strings.TrimPrefix(q.get("cursor"), "page:")))
	if err != nil || from > len(list) {
		return s.refuse(q, "invalid_cursor")
	}
	next, page := "", list[from:]
	if len(page) > limit {
		page, next = page[:limit], fmt.Sprintf("page:%d", from+limit)
	}
	out := []map[string]any{}
	for _, m := range page {
		one := map[string]any{"type": "message", "ts": m.TS, "text": m.Text}
		if m.Thread != "" {
			one["thread_ts"] = m.Thread
		}
		if q.get("include_all_metadata") == "1" && len(m.Metadata) > 0 {
			one["metadata"] = m.Metadata
		}
		out = append(out, one)
	}
	return s.ok(map[string]any{"messages": out, "has_more": next != "", "response_metadata": map[string]string{"next_cursor": next}})
}

func cmp0(s string) string {
	if s == "" {
		return "0"
	}
	return s
}
