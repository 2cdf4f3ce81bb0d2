package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vmst.io/refit/hosts/lab"
)

// Each contender finds the fleet as the first one did: on Base, with the schema, the
// search server's mappings and the proxies' files of that time, nothing in Redis,
// and no file of a newer release, not even among the older one's bridged assets.

// keptDir is where hosts keep what reset brings back.
const keptDir = "/var/lib/bench"

// listRelease prints what a release holds but for what its own processes write.
const listRelease = `cd /home/mastodon/releases/` + Base + ` && find . -mindepth 1 \( -path ./tmp -o -path ./log \) -prune -o -print | LC_ALL=C sort`

// scripts of keep and of reset, by what a host is.
var keepScript = map[string]string{
	"node":     `mkdir -p ` + keptDir + ` && { ` + listRelease + `; } > ` + keptDir + `/release`,
	"proxy":    `mkdir -p ` + keptDir + ` && cp -a /etc/nginx/refit/web.conf /etc/nginx/refit/streaming.conf ` + keptDir,
	"search":   `cp -a /var/lib/lab-search/data.json /var/lib/lab-search/data.bench`,
	"database": keepDatabase,
	"redis":    flushRedis,
}

var resetScript = map[string]string{
	"node": `cd /home/mastodon
ln -sfn releases/` + Base + ` live.new && mv -T live.new live
find releases -mindepth 1 -maxdepth 1 ! -name ` + Base + ` -exec rm -rf {} +
rm -rf /var/tmp/*.tar.zst revisions.log
{ ` + listRelease + `; } > ` + keptDir + `/now
cd /home/mastodon/releases/` + Base + `
LC_ALL=C comm -13 ` + keptDir + `/release ` + keptDir + `/now | tac | while IFS= read -r f; do rm -rf -- "$f"; done
gone=$(LC_ALL=C comm -23 ` + keptDir + `/release ` + keptDir + `/now | sed -n 1,3p)
[ -z "$gone" ] || { echo "` + Base + ` lacks $gone" >&2; exit 1; }`,
	"proxy": `cd /etc/nginx/refit
cmp -s web.conf ` + keptDir + `/web.conf && cmp -s streaming.conf ` + keptDir + `/streaming.conf && exit 0
cp -a ` + keptDir + `/web.conf ` + keptDir + `/streaming.conf . && nginx -t -q && systemctl reload nginx.service`,
	"search": `cmp -s /var/lib/lab-search/data.json /var/lib/lab-search/data.bench && exit 0
systemctl stop lab-search.service && cp -a /var/lib/lab-search/data.bench /var/lib/lab-search/data.json && systemctl start lab-search.service`,
	"database": resetDatabase,
	"redis":    flushRedis,
}

const (
	psql = `cd / && runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 -d postgres`

	keepDatabase = psql + ` -c "DROP DATABASE IF EXISTS mastodon_bench WITH (FORCE)" \
  -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'mastodon'" \
  -c "CREATE DATABASE mastodon_bench OWNER mastodon TEMPLATE mastodon"`

	resetDatabase = psql + ` -c "DROP DATABASE IF EXISTS mastodon WITH (FORCE)" -c "CREATE DATABASE mastodon OWNER mastodon TEMPLATE mastodon_bench"`

	// Run on a node: only nodes have the way to Redis.
	flushRedis = `. /root/.bashrc && redis-cli FLUSHALL`
)

// where are the hosts on which each script runs.
func (b *bench) where() map[string][]string {
	out := map[string][]string{"search": {"khan"}, "database": {b.Lab.Primary}, "redis": {b.fleet.migrator().Name}}
	for _, m := range b.fleet.nodes() {
		out["node"] = append(out["node"], m.Name)
	}
	for _, m := range b.fleet.proxies {
		out["proxy"] = append(out["proxy"], m.Name)
	}
	return out
}

// keep notes the fleet's state, for reset. The application stands still meanwhile:
// a database is copied only while nobody uses it.
func (b *bench) keep(ctx context.Context) error {
	b.Say("bench: keeping the state that every roll begins with")
	if err := b.nodesDo(ctx, "stop"); err != nil {
		return err
	}
	if err := b.everywhere(ctx, keepScript); err != nil {
		return err
	}
	if err := os.WriteFile(b.mark(), nil, 0o644); err != nil {
		return fmt.Errorf("cannot note that the state is kept: %w", err)
	}
	return b.startAgain(ctx)
}

// mark is a file on a node that tells that keep has ended.
func (b *bench) mark() string {
	return filepath.Join(b.Lab.Root(b.fleet.migrator().Name), keptDir, "done")
}

func (b *bench) kept() bool {
	_, err := os.Stat(b.mark())
	return err == nil
}

// reset brings the fleet back to what keep noted.
func (b *bench) reset(ctx context.Context) error {
	began := time.Now()
	if err := b.nodesDo(ctx, "stop"); err != nil {
		return err
	}
	if err := b.everywhere(ctx, resetScript); err != nil {
		return err
	}
	if err := b.startAgain(ctx); err != nil {
		return err
	}
	b.Say("bench: the fleet is on %s again after %.0f s", Base, time.Since(began).Seconds())
	return nil
}

func (b *bench) startAgain(ctx context.Context) error {
	if err := b.nodesDo(ctx, "start"); err != nil {
		return err
	}
	if err := b.Well(ctx); err != nil {
		return fmt.Errorf("the fleet is not well on %s: %w", Base, err)
	}
	return nil
}

// nodesDo stops or starts the application on all nodes at once. A unit that was
// started too often by systemd itself is started all the same.
func (b *bench) nodesDo(ctx context.Context, op string) error {
	return b.at(ctx, b.fleet.nodes(), func(m lab.Machine) string {
		names := strings.Join(units(m), " ")
		return `systemctl reset-failed ` + names + ` 2>/dev/null || true; systemctl ` + op + ` ` + names
	})
}

// everywhere runs the scripts, all at once: none needs another's end.
func (b *bench) everywhere(ctx context.Context, scripts map[string]string) error {
	g, ctx := errgroup.WithContext(ctx)
	for kind, hosts := range b.where() {
		for _, host := range hosts {
			g.Go(func() error { return b.script(ctx, host, scripts[kind]) })
		}
	}
	return g.Wait()
}

// at runs a script on each of the hosts at once.
func (b *bench) at(ctx context.Context, ms []lab.Machine, script func(lab.Machine) string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		g.Go(func() error { return b.script(ctx, m.Name, script(m)) })
	}
	return g.Wait()
}

func (b *bench) script(ctx context.Context, host, text string) error {
	_, err := b.Lab.Inside(ctx, host, "bash", "-c", "set -euo pipefail\n"+text)
	return err
}

// releaseOn is where a release lies on a host, seen from this machine.
func (b *bench) releaseOn(host, release string) string {
	return filepath.Join(b.Lab.Root(host), "home/mastodon/releases", release)
}

// chosenTargets are the releases that the chosen cases end with.
func (c Choice) chosenTargets() []string {
	var out []string
	for _, kind := range c.Kinds {
		out = append(out, targets[kind])
	}
	slices.Sort(out)
	return slices.Compact(out)
}
