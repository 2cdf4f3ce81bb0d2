package report

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// CheckSlack asks Slack, without posting anything, whether a run could be told there:
// the token, its scopes, the channel. Of a webhook it can only tell whether its host
// answers. The error is for people and holds no secret.
func CheckSlack(ctx context.Context, o SlackOptions) error {
	if o.Redact == nil {
		o.Redact = Redactor(o.Token, o.Webhook)
	}
	door, err := slackWay(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, slackCall)
	defer cancel()
	switch d := door.(type) {
	case *bot:
		err = d.check(ctx)
	case *webhook:
		err = d.check(ctx)
	}
	if err != nil {
		return errors.New(o.Redact(faultOf(err).text))
	}
	return nil
}

// check asks who the token is, what it may do, and whether it sees the channel.
func (b *bot) check(ctx context.Context) error {
	who, err := b.api.AuthTestContext(ctx)
	if err != nil {
		return err
	}
	if scopes := who.Header.Get("X-OAuth-Scopes"); scopes != "" {
		list := strings.FieldsFunc(scopes, func(r rune) bool { return r == ',' || r == ' ' })
		if !slices.Contains(list, "chat:write") {
			return &slackFault{kind: dead, text: fmt.Sprintf("the app %s lacks the scope chat:write", who.User)}
		}
	}
	_, err = b.api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{ChannelID: b.channel, Limit: 1, Oldest: fmt.Sprint(time.Now().Unix())})
	if err == nil {
		return nil
	}
	f := faultOf(err)
	if f.kind == blind {
		f.text = fmt.Sprintf("the app %s cannot read the channel's history, so a message whose answer is lost may stand there twice: %s", who.User, f.text)
	}
	return f
}

// check asks the webhook's host for anything at all: to ask the webhook itself would
// be to post.
func (w *webhook) check(ctx context.Context) error {
	u, err := url.Parse(w.url)
	if err != nil || u.Host == "" {
		return &slackFault{kind: dead, text: "the webhook is no URL"}
	}
	u.Path, u.RawQuery, u.User = "/", "", nil
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return &slackFault{kind: dead, text: "the webhook is no URL"}
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
