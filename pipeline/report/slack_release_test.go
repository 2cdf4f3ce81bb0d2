package report

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline/report/slacktest"
)

func seen() Release {
	return Release{
		Project: "Mastodon", Version: "v4.5.15", Running: "v4.5.14", URL: "https://github.com/mastodon/mastodon/releases/tag/v4.5.15",
		Published: time.Now().Add(-2 * time.Hour), Deadline: time.Now().Add(46 * time.Hour), Security: true,
		Advisories: []string{"GHSA-aaaa-bbbb-cccc (high)"},
		Plan:       []string{"no migrations, can be taken back", "Ruby 3.4.7 stays, Node 22.20 stays", "about 25 minutes"},
		Decision:   "ask", Reason: "security releases are asked for", Question: "refit approve --plan 1a2b3c",
	}
}

// looks tells the release at each look of a watcher, every ten minutes.
func (x *story) looks(r Release, for_ time.Duration) {
	for range int(for_ / (10 * time.Minute)) {
		x.s.Release(r)
		pass(10 * time.Minute)
	}
}

func TestAReleaseIsAnnouncedOnceAndTheTeamIsRemindedAsTheDeadlineNears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		r := seen()
		x.looks(r, 50*time.Hour)
		root := x.root()
		if root.Edits() > 60 {
			t.Errorf("edited %d times in 50 hours", root.Edits())
		}
		has(t, "what it said on its way", strings.Join(root.Said, "\n"), "out for 2 h · 46 h left", "out for 47 h · 1 h left", "out for 50 h · 2 h late")
		has(t, "the announcement", root.Said[0], "🔒", "Mastodon v4.5.15", "a security release", "GHSA-aaaa-bbbb-cccc (high)", "no migrations, can be taken back", "about 25 minutes", "refit approve --plan 1a2b3c", "release notes", "security releases are asked for", "v4.5.14")
		var reminders []string
		for _, m := range x.slack.Messages()[1:] {
			if !m.Broadcast || m.Thread != root.TS {
				t.Errorf("a reminder that nobody sees: %s", m.Text)
			}
			reminders = append(reminders, m.Text)
		}
		if len(reminders) != 3 || !strings.Contains(reminders[0], "24 h left") || !strings.Contains(reminders[1], "6 h left") || !strings.Contains(reminders[2], "deadline passed") {
			t.Errorf("%q", reminders)
		}
		r.Settled, r.Question = "runs here since 2026-01-03 04:00 UTC", ""
		x.looks(r, 3*time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		root = x.root()
		has(t, "the message at last", root.Said[len(root.Said)-1], "✅ runs here since")
		if len(x.slack.Messages()) != 4 || strings.Contains(root.Said[len(root.Said)-1], "out for") {
			t.Error(x.all())
		}
		x.lawful()
	})
}

func TestAReleaseWhosePlanChangesIsAskedAboutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		r := seen()
		x.looks(r, time.Hour)
		r.Question = "refit approve --plan 4d5e6f"
		x.looks(r, time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		list := x.slack.Messages()
		if len(list) != 2 || !list[1].Broadcast || !strings.Contains(list[1].Text, "4d5e6f") {
			t.Error(x.all())
		}
		has(t, "the announcement", list[0].Said[len(list[0].Said)-1], "4d5e6f")
	})
}

// A watcher that is killed at any save and any call, before it has its effect or
// after, and started again, announces and reminds once.
func TestAWatcherKilledAtAnyPointNeitherDoublesNorLosesAMessage(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n, step := 1, 1; ; n += step {
			died := false
			if n > 30 {
				step = 9 // the rest is one edit an hour
			}
			synctest.Test(t, func(t *testing.T) {
				x := begin(t, nil)
				x.s.Close(time.Second)
				d := x.mortal(n, after)
				x.open()
				r := seen()
				for i := range 50 {
					if d.isDead() && !died {
						died = true
						x.bury()
						x.o.disk, x.o.Client = x.disk, x.slack.Client()
						x.open()
					}
					if i == 2 {
						r.Decision = "auto at 03:00 UTC"
					}
					x.s.Release(r)
					pass(time.Hour)
				}
				if said := x.s.Close(time.Minute); len(said) > 0 && !d.isDead() {
					t.Errorf("%q", said)
				}
				count := map[string]int{}
				for _, m := range x.slack.Messages() {
					count[m.Key]++
					if count[m.Key] > 1 {
						t.Errorf("killed at %d (%s, after: %t): %s is told twice", n, d.what, after, m.Key)
					}
				}
				if len(count) != 4 {
					t.Errorf("killed at %d (%s, after: %t): %d messages:\n%s", n, d.what, after, len(count), x.all())
				}
				has(t, "the announcement", x.root().Said[len(x.root().Said)-1], "auto at 03:00 UTC")
				x.lawful()
			})
			if !died || t.Failed() {
				t.Logf("killed at %d points, after their effect: %t", n-1, after)
				break
			}
		}
	}
}

func TestAReleaseOutlivesAnOutageOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, nil)
		x.slack.Down(true)
		x.looks(seen(), 24*time.Hour)
		x.slack.Down(false)
		x.looks(seen(), time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		has(t, "the announcement", x.root().Text, "Mastodon v4.5.15")
		if n := len(x.slack.Messages()); n > 3 {
			t.Errorf("%d messages:\n%s", n, x.all())
		}
	})
}

func TestAWebhookAnnouncesAndRemindsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begin(t, func(o *SlackOptions) { o.Token, o.Webhook = "", slacktest.New(slacktest.Options{}).Webhook() })
		x.looks(seen(), 50*time.Hour)
		if said := x.close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		if n := len(x.slack.Messages()); n != 4 {
			t.Errorf("%d messages:\n%s", n, x.all())
		}
		x.lawful()
	})
}

func TestWhatIsWrongWithSlackIsSaidBeforeARun(t *testing.T) {
	for want, change := range map[string]func(*slacktest.Server, *SlackOptions){
		"":                            func(*slacktest.Server, *SlackOptions) {},
		"does not know the token":     func(_ *slacktest.Server, o *SlackOptions) { o.Token = "xoxb-other-token" },
		"no such channel":             func(_ *slacktest.Server, o *SlackOptions) { o.Channel = "C0OTHER" },
		"no channel for Slack":        func(_ *slacktest.Server, o *SlackOptions) { o.Channel = "" },
		"invite it":                   func(s *slacktest.Server, _ *SlackOptions) { s.Kick(true) },
		"was revoked":                 func(s *slacktest.Server, _ *SlackOptions) { s.Revoke() },
		"cannot reach Slack":          func(s *slacktest.Server, _ *SlackOptions) { s.Down(true) },
		"did not answer in time":      func(s *slacktest.Server, _ *SlackOptions) { s.Slow(time.Hour) },
		"neither a token nor a":       func(_ *slacktest.Server, o *SlackOptions) { o.Token = "" },
		"the webhook is no URL":       func(_ *slacktest.Server, o *SlackOptions) { o.Token, o.Webhook = "", "::secret" },
		"an app that may not":         nil,
		"an app that may not read":    nil,
		"a webhook whose host is one": nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			so := slacktest.Options{}
			switch want {
			case "an app that may not":
				so.Scopes, want = []string{"channels:history"}, "lacks the scope chat:write"
			case "an app that may not read":
				so.Scopes, want = []string{"chat:write"}, "cannot read the channel's history"
			}
			s := slacktest.New(so)
			o := SlackOptions{Token: s.Token(), Channel: s.Channel(), Client: s.Client(), Base: s.Base()}
			if want == "a webhook whose host is one" {
				o.Token, o.Webhook, want = "", s.Webhook(), ""
			}
			if change != nil {
				change(s, &o)
			}
			err := CheckSlack(t.Context(), o)
			switch {
			case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%v, want %q", err, want)
			case err != nil && (strings.Contains(err.Error(), "xoxb-o") || strings.Contains(err.Error(), "secret")):
				t.Errorf("a secret stands in %v", err)
			}
			if len(s.Messages()) > 0 {
				t.Error("looking posted something")
			}
		})
	}
}
