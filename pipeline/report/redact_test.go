package report

import (
	"strings"
	"testing"
)

func TestWhatLooksLikeASecretIsHidden(t *testing.T) {
	hide := Redactor("s3cret/+token", "abc")
	for text, want := range map[string]string{
		"the URL https://x/s3cret%2F%2Btoken and s3cret/+token": "the URL https://x/[hidden] and [hidden]",
		"abc stays, it is too short":                            "abc stays, it is too short",
		"postgres://mastodon:hunter2@majel:25060/x":             "postgres://mastodon:[hidden]@majel:25060/x",
		"password='hun ter' host=majel":                         "password=[hidden] host=majel",
		"DB_PASSWORD=hunter2; next":                             "DB_PASSWORD=[hidden]; next",
		`{"access_token": "hunter2", "id": 1}`:                  `{"access_token": [hidden], "id": 1}`,
		"OTP_SECRET: 0123456789abcdef":                          "OTP_SECRET: [hidden]",
		"SECRET_KEY_BASE: is missing on kirk":                   "SECRET_KEY_BASE: is missing on kirk",
		"Slack's token: open /etc/refit/slack.token: no such":   "Slack's token: open /etc/refit/slack.token: no such",
		"xoxb-1234567890-abcdef and xapp-1-A0-123":              "[hidden] and [hidden]",
		"ghp_0123456789abcdefghij0123456789abcdef, https://github_pat_11ABCDEFG0123456789_abcdef@github.com/x": "[hidden], https://[hidden]@github.com/x",
		"https://hooks.slack.com/services/T1/B2/hunter2 is":                                                    "https://hooks.slack.com/services/[hidden] is",
		"https://status.vmst.io/api/push/hunter2?status=up":                                                    "https://status.vmst.io/api/push/[hidden]?status=up",
		"Authorization: Bearer hunter2hunter2":                                                                 "Authorization: Bearer [hidden]",
		`WARN {"class":"MailerWorker","args":["a@b.c"]}`:                                                       `WARN {"class":"MailerWorker","args":[…]`,
		"the basic idea of a token":                                                                            "the basic idea of a token",
	} {
		if got := hide(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestATextCannotDriveATerminalOrTurnItselfAround(t *testing.T) {
	if got, want := printable("a\x1b[2Jb\u202ec\u2066d\u2028e\tf\ng — 🔵"), "a�[2Jb�c�d�e\tf\ng — 🔵"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestTextsAreCutWithinTheirLimits(t *testing.T) {
	for _, text := range []string{strings.Repeat("&", 500), strings.Repeat("🔵<", 500), strings.Repeat("word ", 500), "```" + strings.Repeat("a&b\n", 300)} {
		for most := 9; most < 400; most++ {
			for name, got := range map[string]string{"escape": escape(text, most), "cut": cutMarkup(escape(text, 2000), most), "code": code(text, most+20), "cut code": cutMarkup(code(text, 1000), most)} {
				limit := most
				if name == "code" {
					limit += 20
				}
				if size(got) > limit {
					t.Errorf("%s of at most %d has %d: %s", name, limit, size(got), got)
				}
				if rest := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(got); strings.ContainsAny(rest, "&<>") {
					t.Errorf("%s cuts an entity in two: %s", name, got)
				}
				if strings.Count(got, fence)%2 != 0 {
					t.Errorf("%s leaves a block of code open: %s", name, got)
				}
			}
		}
	}
	blocks, rest := pages([]string{strings.Repeat("x", 5000), "y", strings.Repeat("```", 2000)}, 1)
	if len(blocks) != 1 || len(rest) != 0 || size(blocks[0]) > mostSection || strings.Count(blocks[0], fence) != 2 {
		t.Errorf("%q, %d lines left", blocks, len(rest))
	}
}
