package main

import (
	"context"
	"testing"
	"time"
)

// TestLabWhatIsAskedAfterAKillSeesWhatIsBroken breaks each thing that must be true
// after a kill, and asks that the question finds it, and finds it mended.
func TestLabWhatIsAskedAfterAKillSeesWhatIsBroken(t *testing.T) {
	full(t)
	on(t, "v4.5.2").seesWhatIsBroken(t)
}

func (f *fleet) seesWhatIsBroken(t *testing.T) {
	t.Helper()
	c := f.crashing(t, nil, nil, "", "v4.5.99")
	c.run = "none"
	var err error
	if c.from, err = f.live("kirk"); err != nil {
		t.Fatal(err)
	}
	web := func() error { return f.webServes(t.Context()) }
	queues := func() error { return c.unserved(t.Context()) }
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	migrate := func(unit string) []string {
		return []string{"systemd-run", "--quiet", "--collect", "--unit=" + unit, "sh", "-c", "sleep 60; : db:migrate"}
	}
	verb := []string{"systemd-run", "--quiet", "--collect", "--unit=by-hand.service", "sh", "-c", "sleep 60; : /var/lib/refit/bin/refit-0 node units"}
	const down, up = "sed -i 's/max_fails=0;/max_fails=0 down;/' /etc/nginx/refit/", "sed -i 's/ down;/;/' /etc/nginx/refit/"
	for _, test := range []struct {
		name       string
		check      func() error
		on         []string
		harm, mend []string
	}{
		{"a unit that does not run", c.between, []string{"spock"}, sh("systemctl stop mastodon-streaming@4000"), sh("systemctl start mastodon-streaming@4000")},
		{"a link to another release", c.between, []string{"kirk"}, sh("ln -sfn releases/v4.5.99 /home/mastodon/live"), sh("ln -sfn releases/" + c.from + " /home/mastodon/live")},
		{"a proxy without a node in rotation", web, []string{"sulu"}, sh(down + "web.conf"), sh(up + "web.conf")},
		{"a proxy without a streaming server", web, []string{"chekov"}, sh(down + "streaming.conf"), sh(up + "streaming.conf")},
		{"no web node that answers", web, []string{"kirk", "spock"}, sh("systemctl stop mastodon-web"), sh("systemctl start mastodon-web")},
		{"quiet workers", queues, []string{"scotty", "decker"}, sh("systemctl kill -s TSTP mastodon-sidekiq-push-pull"), sh("systemctl restart mastodon-sidekiq-push-pull")},
		{"no scheduler", queues, []string{"decker"}, sh("systemctl stop mastodon-sidekiq-scheduler"), sh("systemctl start mastodon-sidekiq-scheduler")},
		{"two migrations", f.oneMigration, []string{"scotty", "decker"}, migrate("refit-migrate-pre.service"), sh("systemctl stop refit-migrate-pre.service")},
		{"a job left behind", orphans, []string{"uhura"}, migrate("refit-build-4-5-2-gems.service"), sh("systemctl stop refit-build-4-5-2-gems.service")},
		{"a verb left behind", orphans, []string{"chekov"}, verb, sh("systemctl stop by-hand.service")},
		{"a migration by hand", f.oneMigration, []string{"spock"}, migrate("by-hand.service"), sh("systemctl stop by-hand.service")},
	} {
		turns(t, test.name+", before", test.check, false)
		for _, host := range test.on {
			if _, err := f.Exec(t.Context(), host, test.harm...); err != nil {
				t.Fatal(err)
			}
		}
		turns(t, test.name, test.check, true)
		for _, host := range test.on {
			if _, err := f.Exec(context.WithoutCancel(t.Context()), host, test.mend...); err != nil {
				t.Fatal(err)
			}
		}
		turns(t, test.name+", mended", test.check, false)
	}
}

// turns waits until a check fails, or until it does not any more.
func turns(t *testing.T, name string, check func() error, fails bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(40 * time.Second)
	for {
		err := check()
		if (err != nil) == fails {
			if fails {
				t.Logf("%s: %v", name, err)
			}
			return
		}
		select {
		case <-limit:
			t.Fatalf("%s: the check says %v", name, err)
		case <-tick.C:
		}
	}
}
