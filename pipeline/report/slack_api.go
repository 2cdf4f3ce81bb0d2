package report

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// slackDoor is the way to Slack: a bot's, or an incoming webhook's.
type slackDoor interface {
	// post sends a new message under its key, into the thread of the message with
	// the timestamp thread or, if that is empty, to the channel. loud shows a reply
	// in the channel too. It returns the timestamp by which Slack knows the message.
	post(ctx context.Context, key string, b body, thread string, loud bool) (ts string, err error)
	// edit replaces what a message says.
	edit(ctx context.Context, ts string, b body) error
	// find gives the keys of refit's messages since a time, and their timestamps: of
	// the channel, or of a thread.
	find(ctx context.Context, since time.Time, thread string) (map[string]string, error)
	// edits tells whether messages can be edited, found and answered in a thread.
	edits() bool
}

// metadataType is the event_type of the metadata that refit's messages carry. Slack
// has no idempotency key: client_msg_id is no documented argument of
// chat.postMessage, though two of its errors speak of it. So each message carries its
// key, and one whose answer was lost is looked for in conversations.history or
// conversations.replies, which return metadata to the bot when asked to
// (include_all_metadata; scope channels:history, for private channels groups:history).
const metadataType = "refit_message"

// bot speaks the Web API.
type bot struct {
	api     *slack.Client
	channel string
}

func (*bot) edits() bool { return true }

func (b *bot) post(ctx context.Context, key string, m body, thread string, loud bool) (string, error) {
	o := append(content(m), slack.MsgOptionMetadata(slack.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{"key": key}}))
	if thread != "" {
		o = append(o, slack.MsgOptionTS(thread))
		if loud {
			o = append(o, slack.MsgOptionBroadcast())
		}
	}
	_, ts, err := b.api.PostMessageContext(ctx, b.channel, o...)
	if err != nil {
		return "", err
	}
	if ts == "" {
		return "", errors.New("the answer names no message")
	}
	return ts, nil
}

func (b *bot) edit(ctx context.Context, ts string, m body) error {
	o := append(content(m), slack.MsgOptionParse(false)) // here, not when posting, Slack reads a text as if a person had typed it
	if m.Plain {
		o = append(o, slack.MsgOptionBlocks()) // what is there goes
	}
	_, _, _, err := b.api.UpdateMessageContext(ctx, b.channel, ts, o...)
	return err
}

func content(m body) []slack.MsgOption {
	o := []slack.MsgOption{slack.MsgOptionText(cutMarkup(m.Text, mostText), false), slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl()}
	if blocks := m.blocks(); len(blocks) > 0 {
		o = append(o, slack.MsgOptionBlocks(blocks...))
	}
	return o
}

// findPages is how many pages of findPage messages are looked through, the newest first.
// What is not among them is taken for never sent.
const (
	findPages = 10
	findPage  = 200 // the most that Slack advises
)

func (b *bot) find(ctx context.Context, since time.Time, thread string) (map[string]string, error) {
	oldest := strconv.FormatInt(since.Unix(), 10) + ".000000"
	out, cursor := map[string]string{}, ""
	for range findPages {
		list, next, err := b.page(ctx, oldest, thread, cursor)
		if err != nil {
			return nil, err
		}
		cursor = next
		for _, m := range list {
			if key, ok := m.Metadata.EventPayload["key"].(string); ok && m.Metadata.EventType == metadataType {
				out[key] = m.Timestamp
			}
		}
		if cursor == "" {
			return out, nil
		}
	}
	return out, nil
}

// page is one page of the channel or of a thread, and where the next one begins.
func (b *bot) page(ctx context.Context, oldest, thread, cursor string) (list []slack.Message, next string, err error) {
	ctx, done := context.WithTimeout(ctx, slackCall)
	defer done()
	if thread != "" {
		list, _, next, err = b.api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{
			ChannelID: b.channel, Timestamp: thread, Oldest: oldest, Inclusive: true, Limit: findPage, Cursor: cursor, IncludeAllMetadata: true,
		})
		return list, next, err
	}
	r, err := b.api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{
		ChannelID: b.channel, Oldest: oldest, Inclusive: true, Limit: findPage, Cursor: cursor, IncludeAllMetadata: true,
	})
	if err != nil {
		return nil, "", err
	}
	return r.Messages, r.ResponseMetaData.NextCursor, nil
}

// webhook is the lesser way: it posts, and knows nothing of what was posted.
type webhook struct {
	url    string
	client *http.Client
}

func (*webhook) edits() bool { return false }

func (w *webhook) post(ctx context.Context, _ string, m body, _ string, _ bool) (string, error) {
	no := false
	msg := &slack.WebhookMessage{Text: cutMarkup(m.Text, mostText), UnfurlLinks: &no, UnfurlMedia: &no}
	if blocks := m.blocks(); len(blocks) > 0 {
		msg.Blocks = &slack.Blocks{BlockSet: blocks}
	}
	if err := slack.PostWebhookCustomHTTPContext(ctx, w.url, w.client, msg); err != nil {
		return "", err
	}
	return "webhook", nil
}

func (*webhook) edit(context.Context, string, body) error {
	return errors.New("a webhook edits nothing")
}

func (*webhook) find(context.Context, time.Time, string) (map[string]string, error) {
	return nil, &slackFault{kind: blind, text: "an incoming webhook cannot tell what was posted"}
}

// faultKind is what an error of Slack's means for the message.
type faultKind int

const (
	lost   faultKind = iota // nobody knows whether Slack took it
	busy                    // not taken: too much at once
	away                    // not taken: Slack was not reached
	barred                  // not taken: not in this channel as it is now
	dead                    // not taken: the token or the webhook is void
	wrong                   // not taken: Slack does not like this message
	orphan                  // not taken: the message that it answers is gone
	frozen                  // the message cannot be edited any more
	blind                   // the app may not do this, as to ask what was posted
)

// slackFault is an error of Slack's, sorted; its words hold no secret.
type slackFault struct {
	kind  faultKind
	after time.Duration // for busy: how long Slack wants to be left alone
	text  string
}

func (f *slackFault) Error() string { return f.text }

// words of Slack's errors, with what a person does about them.
var slackWords = map[string]struct {
	kind faultKind
	text string
}{
	"invalid_auth":                          {dead, "Slack does not know the token: give refit the app's bot token (xoxb-…)"},
	"not_authed":                            {dead, "the token is empty"},
	"account_inactive":                      {dead, "the token's app or workspace is gone: install the app again"},
	"token_revoked":                         {dead, "the token was revoked: install the app again and give refit its new token"},
	"token_expired":                         {dead, "the token has expired: refit needs one without rotation"},
	"not_allowed_token_type":                {dead, "refit needs a bot token (xoxb-…)"},
	"missing_scope":                         {blind, "the app lacks a scope: it needs chat:write, and channels:history (groups:history for a private channel)"},
	"no_permission":                         {blind, "the app may not post: give it chat:write and install it again"},
	"org_login_required":                    {barred, "the workspace is being moved"},
	"team_added_to_org":                     {barred, "the workspace is being moved"},
	"ekm_access_denied":                     {barred, "the workspace's admins have suspended posting"},
	"channel_not_found":                     {barred, "there is no such channel for this app: name its ID (C…), and invite the app if it is private"},
	"not_in_channel":                        {barred, "the app is not in the channel: invite it there"},
	"is_archived":                           {barred, "the channel is archived: name another, or unarchive it"},
	"is_inactive":                           {barred, "the channel is archived: name another, or unarchive it"},
	"restricted_action":                     {barred, "the workspace does not let the app post there"},
	"ratelimited":                           {busy, "too many messages"},
	"rate_limited":                          {busy, "too many messages"},
	"message_limit_exceeded":                {busy, "the workspace has sent too many messages"},
	"internal_error":                        {lost, "Slack failed"},
	"fatal_error":                           {lost, "Slack failed"},
	"service_unavailable":                   {lost, "Slack is not available"},
	"request_timeout":                       {lost, "Slack did not read the request in time"},
	"update_failed":                         {lost, "Slack failed"},
	"message_not_found":                     {frozen, "the message was deleted"},
	"cant_update_message":                   {frozen, "the message is another app's"},
	"edit_window_closed":                    {frozen, "the workspace lets messages be edited for a short time only"},
	"thread_not_found":                      {orphan, "the message that this one answers was deleted"},
	"cannot_reply_to_message":               {orphan, "the message that this one answers cannot be answered"},
	"msg_too_long":                          {wrong, "the message is too long"},
	"msg_blocks_too_long":                   {wrong, "the message is too long"},
	"invalid_blocks":                        {wrong, "Slack refuses the message's form"},
	"restricted_action_read_only_channel":   {barred, "the channel is read-only"},
	"restricted_action_thread_only_channel": {barred, "the channel takes replies only"},
}

// faultOf sorts an error of slack-go's or of the network's.
func faultOf(err error) *slackFault {
	if f, ok := errors.AsType[*slackFault](err); ok {
		return f
	}
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		return &slackFault{busy, min(max(limited.RetryAfter, time.Second), slackVoid), "too many messages"}
	}
	if said, ok := errors.AsType[slack.SlackErrorResponse](err); ok {
		w, known := slackWords[said.Err]
		if !known {
			return &slackFault{kind: wrong, text: "Slack says " + strconv.Quote(said.Err)}
		}
		f := &slackFault{kind: w.kind, text: fmt.Sprintf("%s (%s)", w.text, said.Err)}
		if w.kind == busy {
			f.after = 30 * time.Second
		}
		if said.Needed != "" {
			f.text += ", wanted: " + said.Needed
		}
		return f
	}
	if status, ok := errors.AsType[slack.StatusCodeError](err); ok {
		return statusFault(status.Code)
	}
	return networkFault(err)
}

// statusFault sorts an HTTP status: of a webhook, whose errors they are, or of what
// stands before Slack.
func statusFault(code int) *slackFault {
	f := &slackFault{kind: wrong, text: fmt.Sprintf("Slack answers HTTP %d", code)}
	switch {
	case code == http.StatusTooManyRequests:
		f.kind, f.after, f.text = busy, 30*time.Second, "too many messages"
	case code >= 500:
		f.kind = lost
	case code == http.StatusForbidden, code == http.StatusNotFound:
		f.kind, f.text = dead, f.text+": the webhook was removed or may not post; make a new one"
	case code == http.StatusGone:
		f.kind, f.text = barred, f.text+": the channel is archived"
	}
	return f
}

// networkFault tells what surely never left this machine from what may have arrived.
// A url.Error's words are not said: they hold the webhook, which is a secret.
func networkFault(err error) *slackFault {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	f := &slackFault{kind: lost, text: err.Error()}
	op, isOp := errors.AsType[*net.OpError](err)
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS, isOp && op.Op == "dial", strings.HasPrefix(f.text, "tls: "), strings.HasPrefix(f.text, "x509: "):
		f.kind, f.text = away, "cannot reach Slack: "+f.text
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		f.text = "Slack did not answer in time"
	default:
		f.text = "Slack's answer did not come: " + f.text
	}
	return f
}
