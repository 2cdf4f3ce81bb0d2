package main

import (
	"regexp"
	"strings"
	"testing"
)

// withAddress writes the example with an address in the place of one of its fields, and
// tells what reading it says.
func withAddress(t *testing.T, field, address string) string {
	t.Helper()
	lines := map[string][2]string{
		"upstream.repository":             {"https://github.com/mastodon/mastodon.git", `"` + address + `"`},
		"toolchain.ruby_build.repository": {"# toolchain:", "toolchain: {ruby_build: {repository: \"" + address + "\"}}\n#"},
		"mirrors.git":                     {"# mirrors:", "mirrors: {git: {\"https://github.com/\": \"" + address + "\"}}\n#"},
	}
	for _, name := range []string{"gems", "npm", "ruby", "node"} {
		lines["mirrors."+name] = [2]string{"# mirrors:", "mirrors: {" + name + ": \"" + address + "\"}\n#"}
	}
	text := strings.Replace(string(exampleYML), lines[field][0], lines[field][1], 1)
	if text == string(exampleYML) {
		t.Fatalf("the example holds no %q", lines[field][0])
	}
	if _, err := parseConfig("refit.yml", []byte(text)); err != nil {
		return err.Error()
	}
	return ""
}

func TestAnAddressWithASecretIsRefusedAndNotShown(t *testing.T) {
	http := []string{
		"https://bob:hunter2@mirror.internal/", "https://hunter2@mirror.internal/", "https://mirror.internal/?token=hunter2",
		"https://bob:hunter2/x@mirror.internal/", "htps://bob:hunter2@mirror.internal/", "https:bob:hunter2@mirror.internal",
	}
	git := append([]string{"ssh://git:hunter2@mirror.internal/a.git", "git:hunter2@mirror.internal:a.git"}, http...)
	for field, all := range map[string][]string{
		"upstream.repository": git, "toolchain.ruby_build.repository": git, "mirrors.git": git,
		"mirrors.gems": http, "mirrors.npm": http, "mirrors.ruby": http, "mirrors.node": http,
	} {
		at := regexp.MustCompile(`refit\.yml:\d+: ` + regexp.QuoteMeta(field) + `: holds a user, a password or a query: no secret may stand here, since it is written into releases`)
		for _, address := range all {
			if got := withAddress(t, field, address); !at.MatchString(got) || strings.Contains(got, "hunter2") {
				t.Errorf("%s: %s: got %q", field, address, got)
			}
		}
	}
}

func TestAnAddressWithAUserForSSHIsTaken(t *testing.T) {
	for _, field := range []string{"upstream.repository", "toolchain.ruby_build.repository", "mirrors.git"} {
		for _, address := range []string{"ssh://git@mirror.internal/a.git", "git@mirror.internal:team/a@b.git", "https://mirror.internal/a.git", "file:///srv/a.git"} {
			if got := withAddress(t, field, address); got != "" {
				t.Errorf("%s: %s: %s", field, address, got)
			}
		}
	}
	if got := withAddress(t, "mirrors.npm", "https://mirror.internal/@team/"); got != "" {
		t.Error(got)
	}
}
