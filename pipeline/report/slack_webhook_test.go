package report

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report/slacktest"
)

func TestAWebhookSendsFewMessagesAndEditsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Token, o.Webhook = "", "http://slack.test/services/T0/B0/hook-secret" })
		x.rolls()
		x.tell(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web spock", Err: "it broke"})
		x.tell(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"})
		r := done(x)
		r.Status, r.Cause, r.Step, r.Next = pipeline.Undone, "it broke", "roll web spock", "refit plan"
		x.s.End(r)
		if said := x.close(15 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		list := x.slack.Messages()
		if len(list) != 3 {
			t.Fatalf("%d messages:\n%s", len(list), x.all())
		}
		has(t, "the first", list[0].Said[0], "🔵 vmst.io: upgrade")
		has(t, "the second", list[1].Said[0], "failed: roll web spock", "it broke")
		has(t, "the third", list[2].Said[0], "FAILED", "refit plan")
		x.lawful()
	})
}

func TestAWebhookWhoseAnswerIsLostSaysThatItRepeatsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Token, o.Webhook = "", "http://slack.test/services/T0/B0/hook-secret" })
		x.slack.Meddle(func(c slacktest.Call) slacktest.Fault {
			if c.N == 1 {
				return slacktest.Cut
			}
			return slacktest.None
		})
		x.rolls()
		x.ends()
		said := strings.Join(x.close(15*time.Second), "\n")
		has(t, "what is said at the end", said, "may stand there twice")
		list := x.slack.Messages()
		if len(list) != 3 {
			t.Fatalf("%d messages:\n%s", len(list), x.all())
		}
		has(t, "the second", list[1].Text, "again")
		if strings.Contains(said, "hook-secret") {
			t.Error("the webhook is told")
		}
	})
}

func TestAVoidWebhookNeverStandsInAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Token, o.Webhook = "", "http://slack.test/services/T0/B0/other-secret" })
		x.rolls()
		x.ends()
		said := strings.Join(x.close(5*time.Second), "\n")
		has(t, "what is said at the end", said, "the webhook was removed")
		x.slack.Down(true)
		if err := CheckSlack(t.Context(), x.o); err == nil || strings.Contains(err.Error()+said, "secret") {
			t.Errorf("%v\n%s", err, said)
		}
	})
}

func TestAnErrorOfTheNetworkNamesNoURL(t *testing.T) {
	for want, err := range map[faultKind]error{
		away: &net.OpError{Op: "dial", Err: errors.New("connection refused")},
		lost: io.ErrUnexpectedEOF,
	} {
		f := faultOf(fmt.Errorf("failed to post webhook: %w", &url.Error{Op: "Post", URL: "https://hooks.slack.com/services/s3cret", Err: err}))
		if f.kind != want || strings.Contains(f.text, "hooks") {
			t.Errorf("%d, %s", f.kind, f.text)
		}
	}
}
