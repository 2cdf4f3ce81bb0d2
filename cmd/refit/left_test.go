package main

import (
	"context"
	"strings"
	"testing"

	"vmst.io/refit/hosts/node"
)

func TestWhatACrashLeftIsNamedAndAMigrationIsNeverOfferedForClearing(t *testing.T) {
	for want, item := range map[string]node.Leftover{
		"placing /home/mastodon/releases/.refit-tmp-x":        {Kind: "placing", Path: "/home/mastodon/releases/.refit-tmp-x"},
		"file /var/lib/refit/.refit-tmp-x (at work)":          {Kind: "file", Path: "/var/lib/refit/.refit-tmp-x", Active: true},
		"unit refit-build-bundle.service at work, of run r-1": {Kind: "job", Unit: "refit-build-bundle.service", Run: "r-1", Active: true},
		"migration refit-migrate-post.service at work, of run r-1 (it is never ended; `refit resume` finds it again)": {
			Kind: "job", Unit: "refit-migrate-post.service", Run: "r-1", Active: true,
		},
		"": {Kind: "job", Unit: "refit-migrate-pre.service", Run: "r-1", State: "done"},
	} {
		if got := leftover(item); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestADoctorThatIsInterruptedSaysWhatStays(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	for fixing, words := range map[bool]string{true: "refit doctor --fix", false: "nothing was touched"} {
		err := (&session{}).halted(ctx, fixing)
		if exitCode(err) != exitInterrupted || !strings.Contains(err.Error(), words) {
			t.Errorf("fixing %v: code %d, %v", fixing, exitCode(err), err)
		}
	}
}
