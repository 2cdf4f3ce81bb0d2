package bench

import (
	"strings"
	"testing"
	"time"
)

const shown = `Id=mastodon-web.service
ActiveExitTimestamp=Sun 2025-11-23 01:00:10.500000 UTC
InactiveEnterTimestamp=Sun 2025-11-23 01:00:11.250000 UTC
InactiveExitTimestamp=Sun 2025-11-23 01:00:11.500000 UTC

Id=mastodon-streaming@4000.service
ActiveExitTimestamp=Sun 2025-11-23 01:00:11.250000 UTC
InactiveEnterTimestamp=Sun 2025-11-23 01:00:11.300000 UTC
InactiveExitTimestamp=Sun 2025-11-23 01:00:11.600000 UTC
`

func at(t *testing.T, clock string) time.Time {
	t.Helper()
	out, err := time.Parse("2006-01-02 15:04:05.999", "2025-11-23 "+clock)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestARestartIsReadFromSystemd(t *testing.T) {
	all, err := readUnits(shown)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	stopping, stopped, starting, err := restarted(all, at(t, "01:00:00"))
	if err != nil || !stopping.Equal(at(t, "01:00:10.5")) || !stopped.Equal(at(t, "01:00:11.3")) || !starting.Equal(at(t, "01:00:11.5")) {
		t.Errorf("%s, %s, %s, %v", stopping, stopped, starting, err)
	}
	if _, _, _, err := restarted(all, at(t, "01:00:11")); err == nil || !strings.Contains(err.Error(), "mastodon-web") {
		t.Errorf("a unit that was restarted before the roll counts: %v", err)
	}
	never, err := readUnits("Id=mastodon-web.service\nActiveExitTimestamp=\nInactiveEnterTimestamp=\nInactiveExitTimestamp=Sun 2025-11-23 01:00:11.500000 UTC\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := restarted(never, at(t, "01:00:00")); err == nil {
		t.Error("a unit that never stopped counts as restarted")
	}
	for _, wrong := range []string{"", "Failed to connect to bus", "Id=a.service\nActiveExitTimestamp=yesterday"} {
		if _, err := readUnits(wrong); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
}

func TestAHostWorksOnceItsLastWorkerDoes(t *testing.T) {
	const two = `{"hostname":"scotty","started_at":1763859611.25,"pid":101,"tag":"v4.5.21"}
{"hostname":"scotty","started_at":1763859612.5,"pid":102,"tag":"v4.5.21"}
`
	got, err := readWorkers(two, 2)
	if err != nil || !got.Equal(at(t, "01:00:12.5")) {
		t.Errorf("%s, %v", got.UTC(), err)
	}
	if got, err := readWorkers(two, 3); err != nil || !got.IsZero() {
		t.Errorf("with one missing: %s, %v", got, err)
	}
	if got, err := readWorkers("", 2); err != nil || !got.IsZero() {
		t.Errorf("with none: %s, %v", got, err)
	}
	if _, err := readWorkers("NOAUTH Authentication required.\n", 2); err == nil {
		t.Error("a refusal passes for a worker")
	}
}

func TestLoginsAreCountedWithinTheRoll(t *testing.T) {
	const journal = `1763859609.900000 kirk sshd-session[9]: Accepted publickey for root from 10.77.0.1 port 1 ssh2: ED25519 SHA256:x
1763859610.100000 kirk sshd-session[10]: Accepted publickey for refit from 10.77.0.1 port 2 ssh2: ED25519 SHA256:x
1763859610.200000 kirk sshd-session[10]: Received disconnect from 10.77.0.1
1763859611.000000 kirk sshd-session[11]: Accepted publickey for refit from 10.77.0.1 port 3 ssh2: ED25519 SHA256:x
1763859630.000000 kirk sshd-session[12]: Accepted publickey for refit from 10.77.0.1 port 4 ssh2: ED25519 SHA256:x
-- Boot 1 --
`
	if n := countLogins(journal, at(t, "01:00:10"), at(t, "01:00:20")); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}
