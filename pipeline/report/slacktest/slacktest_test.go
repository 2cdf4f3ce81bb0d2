package slacktest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// call posts a form and gives Slack's word: "ok", an error, or an HTTP status.
func call(t *testing.T, s *Server, method string, form url.Values) (string, map[string]any) {
	t.Helper()
	if form.Get("token") == "" {
		form.Set("token", s.Token())
	}
	if method != "auth.test" && form.Get("channel") == "" {
		form.Set("channel", s.Channel())
	}
	resp, err := s.Client().PostForm(s.Base()+method, form)
	if err != nil {
		return err.Error(), nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if json.Unmarshal(b, &v) != nil {
		return resp.Status, nil
	}
	if v["ok"] == true {
		return "ok", v
	}
	word, ok := v["error"].(string)
	if !ok {
		t.Fatalf("no error in %s", b)
	}
	return word, v
}

func TestAMessageIsRefusedForWhatSlackRefuses(t *testing.T) {
	section := func(text string) string {
		b, err := json.Marshal([]any{map[string]any{"type": "section", "text": map[string]string{"type": "mrkdwn", "text": text}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	synctest.Test(t, func(t *testing.T) {
		for want, form := range map[string]url.Values{
			"ok":                      {"text": {"a & b"[:1]}},
			"no_text":                 {},
			"msg_too_long":            {"text": {strings.Repeat("x", 40001)}},
			"invalid_markup":          {"text": {"<!channel>"}},
			"invalid_blocks":          {"text": {"x"}, "blocks": {section(strings.Repeat("x", 3001))}},
			"invalid_blocks_format":   {"text": {"x"}, "blocks": {"{"}},
			"msg_blocks_too_long":     {"text": {"x"}, "blocks": {"[" + strings.TrimSuffix(strings.Repeat(strings.Trim(section(strings.Repeat("x", 2500)), "[]")+",", 4), ",") + "]"}},
			"invalid_auth":            {"text": {"x"}, "token": {"xoxb-other"}},
			"channel_not_found":       {"text": {"x"}, "channel": {"#general"}},
			"thread_not_found":        {"text": {"x"}, "thread_ts": {"1.000001"}},
			"invalid_broadcast":       {"text": {"x"}, "reply_broadcast": {"true"}},
			"invalid_metadata_format": {"text": {"x"}, "metadata": {"{"}},
			"invalid_metadata_schema": {"text": {"x"}, "metadata": {"{}"}},
			"400 Bad Request":         {"text": {"x"}, "idempotency_key": {"1"}},
		} {
			s := New(Options{})
			if got, _ := call(t, s, "chat.postMessage", form); got != want {
				t.Errorf("%v: %s, want %s", want, got, want)
			}
		}
		for _, blocks := range []string{
			`[{"type":"section"}]`, `[{"type":"section","text":{"type":"mrkdwn","text":""}}]`, `[{"type":"header","text":{"type":"mrkdwn","text":"x"}}]`,
			`[{"type":"section","text":{"type":"mrkdwn","text":"x"},"colour":"red"}]`, `[{"type":"marquee"}]`, `[{"type":"context","elements":[]}]`,
			`[{"type":"section","text":{"type":"mrkdwn","text":"a > b"}}]`, `[{"type":"section","text":{"type":"mrkdwn","text":"a & b"}}]`,
			"[" + strings.TrimSuffix(strings.Repeat(`{"type":"divider"},`, 51), ",") + "]",
		} {
			s := New(Options{})
			if got, _ := call(t, s, "chat.postMessage", url.Values{"text": {"x"}, "blocks": {blocks}}); got != "invalid_blocks" || len(s.Violations()) != 1 {
				t.Errorf("%s: %s, %v", blocks, got, s.Violations())
			}
		}
	})
}

func TestTheLimitsAreHeldAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		post := func() string {
			word, _ := call(t, s, "chat.postMessage", url.Values{"text": {"x"}})
			return word
		}
		if first, second := post(), post(); first != "ok" || second != "429 Too Many Requests" || len(s.Violations()) != 1 {
			t.Error(first, second, s.Violations())
		}
		<-time.After(time.Second)
		if got := post(); got != "ok" {
			t.Error(got)
		}
		ts := s.Messages()[0].TS
		for range 50 {
			if got, _ := call(t, s, "chat.update", url.Values{"ts": {ts}, "text": {"y"}}); got != "ok" {
				t.Fatal(got)
			}
		}
		if got, _ := call(t, s, "chat.update", url.Values{"ts": {ts}, "text": {"y"}}); got != "429 Too Many Requests" {
			t.Error(got)
		}
		<-time.After(10 * time.Second)
		if got, _ := call(t, s, "chat.update", url.Values{"ts": {ts}, "text": {"y"}}); got != "429 Too Many Requests" || len(s.Violations()) != 3 {
			t.Error("called before Retry-After had passed:", got, s.Violations())
		}
		<-time.After(time.Minute)
		if got, _ := call(t, s, "chat.update", url.Values{"ts": {ts}, "text": {strings.Repeat("y", 4001)}}); got != "msg_too_long" {
			t.Error(got)
		}
	})
}

func TestHistoryIsPagedAndGivesMetadataWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Late: 10 * time.Second})
		for _, key := range []string{"a", "b", "c"} {
			call(t, s, "chat.postMessage", url.Values{"text": {key}, "metadata": {`{"event_type":"refit_message","event_payload":{"key":"` + key + `"}}`}})
			<-time.After(2 * time.Second)
		}
		root := s.Messages()[0].TS
		call(t, s, "chat.postMessage", url.Values{"text": {"quiet"}, "thread_ts": {root}})
		<-time.After(2 * time.Second)
		call(t, s, "chat.postMessage", url.Values{"text": {"loud"}, "thread_ts": {root}, "reply_broadcast": {"true"}})
		if _, v := call(t, s, "conversations.history", url.Values{"limit": {"10"}}); len(list(v)) != 0 {
			t.Errorf("what was posted just now stands in history: %v", v)
		}
		<-time.After(10 * time.Second)
		_, v := call(t, s, "conversations.history", url.Values{"limit": {"3"}, "include_all_metadata": {"1"}})
		if got := texts(v); got != "loud c b" {
			t.Error(got)
		}
		cursor := v["response_metadata"].(map[string]any)["next_cursor"].(string)
		_, v = call(t, s, "conversations.history", url.Values{"limit": {"3"}, "cursor": {cursor}, "include_all_metadata": {"1"}})
		if got := texts(v); got != "a" || list(v)[0].(map[string]any)["metadata"] == nil {
			t.Error(got, v)
		}
		if _, v = call(t, s, "conversations.replies", url.Values{"ts": {root}}); texts(v) != "a quiet loud" || list(v)[0].(map[string]any)["metadata"] != nil {
			t.Error(v)
		}
	})
}

func list(v map[string]any) []any {
	out, ok := v["messages"].([]any)
	if !ok {
		return nil
	}
	return out
}

func texts(v map[string]any) string {
	var out []string
	for _, m := range list(v) {
		if text, ok := m.(map[string]any)["text"].(string); ok {
			out = append(out, text)
		}
	}
	return strings.Join(out, " ")
}

func TestItBreaksAsSlackAndTheNetworkDo(t *testing.T) {
	for fault, want := range map[Fault]struct {
		word string
		kept int
	}{
		Refused: {"connection refused", 0}, Dropped: {"EOF", 0}, Cut: {"EOF", 1}, Busy: {"429", 0}, Broken: {"500", 0}, BrokenAfter: {"500", 1}, None: {"ok", 1},
	} {
		s := New(Options{})
		s.Meddle(func(Call) Fault { return fault })
		if got, _ := call(t, s, "chat.postMessage", url.Values{"text": {"x"}}); !strings.Contains(got, want.word) || len(s.Messages()) != want.kept {
			t.Errorf("fault %d: %s, %d messages", fault, got, len(s.Messages()))
		}
	}
	s := New(Options{})
	real := httptest.NewServer(s)
	defer real.Close()
	s.Meddle(func(Call) Fault { return Cut })
	resp, err := http.PostForm(real.URL+"/api/chat.postMessage", url.Values{"token": {s.Token()}, "channel": {s.Channel()}, "text": {"x"}})
	if err == nil {
		resp.Body.Close()
		t.Error("the answer was not lost")
	}
	if len(s.Messages()) != 1 {
		t.Errorf("%d messages", len(s.Messages()))
	}
}

func TestWhoMayNotPostIsToldWhy(t *testing.T) {
	for want, change := range map[string]func(*Server){
		"token_revoked": (*Server).Revoke, "is_archived": func(s *Server) { s.Archive(true) },
		"not_in_channel": func(s *Server) { s.Kick(true) }, "connection refused": func(s *Server) { s.Down(true) },
	} {
		s := New(Options{})
		change(s)
		if got, _ := call(t, s, "chat.postMessage", url.Values{"text": {"x"}}); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for code, change := range map[int]func(*Server){200: func(*Server) {}, 404: (*Server).Revoke, 410: func(s *Server) { s.Archive(true) }} {
		s := New(Options{})
		change(s)
		resp, err := s.Client().Post(s.Webhook(), "application/json", strings.NewReader(`{"text":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%s, want %d", resp.Status, code)
		}
	}
}
