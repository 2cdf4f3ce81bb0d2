package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
)

// rehearsalRows is how many statuses the rehearsed database has at least.
const rehearsalRows = 1_000_000

// standing is what a rehearsal must leave as it is on the fleet's own hosts and in its
// database: links, processes, settings, permits, fences, releases, the schema, its rows.
func (f *fleet) standing(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, host := range slices.Sorted(maps.Keys(appUnits)) {
		units := appUnits[host]
		fmt.Fprintf(&b, "%s: %s\n", host, f.over(t, host, "sh", "-c",
			"readlink /home/mastodon/live; ls /home/mastodon/releases; cat /var/lib/refit/fence; sha256sum /home/mastodon/.env.production /var/lib/refit/permit /etc/stunnel/*.conf /etc/hosts; systemctl show -p MainPID "+strings.Join(units, " ")))
	}
	b.WriteString(f.sql(t, "select string_agg(version, ',' order by version) from schema_migrations"))
	b.WriteString(f.sql(t, "select string_agg(table_name || '.' || column_name, ',' order by 1) from information_schema.columns where table_schema = 'public'"))
	b.WriteString(f.sql(t, "select count(*) from accounts"))
	return b.String()
}

// nothingCopied asks the account whether a rehearsal left anything.
func (f *fleet) nothingCopied(t *testing.T) {
	t.Helper()
	var droplets struct{ Droplets []droplet }
	f.account(t, http.MethodGet, "v2/droplets?per_page=200", &droplets)
	for _, d := range droplets.Droplets {
		if strings.HasPrefix(d.Name, "rehearsal-") {
			t.Errorf("droplet %s is left", d.Name)
		}
	}
	var bases struct{ Databases []struct{ Name string } }
	f.account(t, http.MethodGet, "v2/databases", &bases)
	for _, d := range bases.Databases {
		if strings.HasPrefix(d.Name, "refit-") {
			t.Errorf("the database %s is left", d.Name)
		}
	}
	var walls struct{ Firewalls []struct{ Name string } }
	f.account(t, http.MethodGet, "v2/firewalls?per_page=200", &walls)
	for _, w := range walls.Firewalls {
		if strings.HasSuffix(w.Name, "-birth") {
			t.Errorf("the firewall %s is left", w.Name)
		}
	}
}

// TestLabAnUpgradeIsRehearsedOnACopyOfAMillionRows rehearses under load an upgrade with migrations
// of both phases, and is killed in each of its own; the fleet must stay as it is.
func TestLabAnUpgradeIsRehearsedOnACopyOfAMillionRows(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	config := f.config(t, "\ndatabase:\n", fmt.Sprintf("\ncloud:\n  token: {file: %s}\n  api: %s\n  balancer: pike\n  database: majel\n  born: {from: [%s/32]}\n  rehearse: {closed: [\"%s:80\"]}\ndatabase:\n", f.CloudToken(), f.CloudAPI(), lab.Gateway, lab.Gateway))
	f.withDatabase(t, func() {
		// Its end makes the golden images.
		f.must(t, 0, config, []string{"upgrade", "--to", "v4.6.0", "--yes"}, "golden: done", "DONE")
		f.sql(t, fmt.Sprintf("insert into statuses (account_id, text, language, created_at, updated_at) select (select min(id) from accounts), 'a row of the rehearsal ' || n, 'en', now(), now() from generate_series(1, %d) n", rehearsalRows))
		f.sql(t, "analyze statuses")

		before := f.standing(t)
		f.underLoad(t, func() {
			f.must(t, 0, config, []string{"rehearse", "--to", "v4.7.0", "--yes"},
				"is shut in: tried and not reached are", "pre-migrate: done", "roll: done", "post-migrate: done", "destroy: done", "DONE")
		})
		if now := f.standing(t); now != before {
			t.Errorf("the fleet was changed:\n%s\nwas\n%s", now, before)
		}
		f.nothingCopied(t)
		plan := f.must(t, 0, config, []string{"plan", "--to", "v4.7.0"}).out
		for _, words := range []string{"measured, not guessed", "rows in statuses", "AddIndexOnCreatedAtToStatuses took", "DropImports took"} {
			if !strings.Contains(plan, words) {
				t.Errorf("the plan does not say %q:\n%s", words, plan)
			}
		}

		for i, at := range []string{"copy data: begun", "data ready: begun", "firewall: begun", ", made from image", "has ssh host keys of its own now", "taken from its settings", "start old: begun", "place: begun", "pre-migrate: begun", "roll: begun", "post-migrate: begun", "destroy: begun"} {
			t.Run("killed at "+at, func(t *testing.T) {
				f.killAt(t, at, "rehearse", "--config", config, "--to", "v4.7.0", "--yes")
				how := []string{"resume", "rollback"}[i%2]
				f.must(t, 0, config, []string{how, "--yes"})
				f.nothingCopied(t)
				if now := f.standing(t); now != before {
					t.Errorf("the fleet was changed:\n%s\nwas\n%s", now, before)
				}
			})
		}
		if faults, err := f.CloudFaults(t.Context()); err != nil || strings.TrimSpace(faults) != "" {
			t.Errorf("the account says: %s, %v", faults, err)
		}
		f.must(t, 0, config, []string{"rollback", "--yes"})
	})
	f.runsEverywhere(t, "v4.5.2")
}
