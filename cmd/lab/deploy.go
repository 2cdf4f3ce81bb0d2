package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// appUnits are the lab's hosts that run the application, with the units of each.
var appUnits = map[string][]string{
	"kirk":   {"mastodon-web.service", "mastodon-streaming@4000.service"},
	"spock":  {"mastodon-web.service", "mastodon-streaming@4000.service"},
	"scotty": {"mastodon-sidekiq-push-pull.service", "mastodon-sidekiq-default.service"},
	"decker": {"mastodon-sidekiq-push-pull.service", "mastodon-sidekiq-default.service", "mastodon-sidekiq-scheduler.service"},
}

func deployWord() *cli.Command {
	return &cli.Command{
		Name: "deploy", Usage: "put the first release on a fleet that runs none: build and place it with refit, fill the database, start everything",
		Flags: []cli.Flag{refitFlag()},
		Action: func(c *cli.Context) error {
			l, err := running(c)
			if err != nil {
				return err
			}
			return deploy(c.Context, l, c.String("refit"), say())
		},
	}
}

func refitFlag() cli.Flag {
	return &cli.StringFlag{Name: "refit", Usage: "refit's `PROGRAM` (default: beside this one)"}
}

// refitUnder is refit run in the lab's network, through the lab's own program, on
// the lab's own refit.yml.
func refitUnder(ctx context.Context, l *lab.Lab, self, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, self, append([]string{"--dir", l.Dir, "exec", "--", program}, args...)...)
	c.Env = append(os.Environ(), "REFIT_CONFIG="+l.Config(), "XDG_STATE_HOME="+filepath.Join(l.Dir, "state"), "XDG_CACHE_HOME="+filepath.Join(l.Dir, "cache"))
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	return c
}

// refitCommand is the same from the lab's own program; an empty program is the
// refit beside it.
func refitCommand(ctx context.Context, l *lab.Lab, program string, args ...string) (*exec.Cmd, error) {
	self, program, err := programs(program)
	if err != nil {
		return nil, err
	}
	return refitUnder(ctx, l, self, program, args...), nil
}

// programs gives the lab's own program and refit's, which is the one beside it where
// none is named.
func programs(refit string) (self, program string, err error) {
	if self, err = os.Executable(); err != nil {
		return "", "", err
	}
	if refit == "" {
		return self, filepath.Join(filepath.Dir(self), "refit"), nil
	}
	program, err = filepath.Abs(refit)
	return self, program, err
}

// deploy puts the first release on the fleet.
func deploy(ctx context.Context, l *lab.Lab, program string, tell lab.Say) error {
	self, program, err := programs(program)
	if err != nil {
		return err
	}
	return deployWith(ctx, l, self, program, tell)
}

func deployWith(ctx context.Context, l *lab.Lab, self, program string, tell lab.Say) error {
	// A new lab is a new world: what refit remembers of an earlier one is not true here.
	if err := errors.Join(os.RemoveAll(filepath.Join(l.Dir, "state")), os.RemoveAll(filepath.Join(l.Dir, "cache"))); err != nil {
		return err
	}
	if err := trust(ctx, l, program); err != nil {
		return err
	}
	refit := func(args ...string) error {
		if out, err := refitUnder(ctx, l, self, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("refit %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	tell("building %s with refit", l.Release)
	if err := refit("build", "--to", l.Release); err != nil {
		return err
	}
	if err := loadSchema(ctx, l); err != nil {
		return err
	}
	tell("placing it with refit")
	if err := refit("place", "--first", "--to", l.Release); err != nil {
		return err
	}
	tell("filling the database")
	if err := fillDatabase(ctx, l); err != nil {
		return err
	}
	tell("starting the application")
	if err := startApplication(ctx, l); err != nil {
		return err
	}
	if err := awaitSite(ctx, l); err != nil {
		return err
	}
	if _, err := l.Exec(ctx, "scotty", "sh", "-c", `cd /home/mastodon/live && exec runuser -u mastodon -- env RAILS_ENV=production .refit/bin/bundle exec bin/tootctl search deploy`); err != nil {
		return err
	}
	if err := awaitDoctor(ctx, l, self, program); err != nil {
		return err
	}
	tell("%s serves", l.Release)
	return l.KeepToolchains(ctx)
}

// awaitDoctor waits until refit finds nothing that would stop an upgrade: workers
// announce themselves in Redis only seconds after their start.
func awaitDoctor(ctx context.Context, l *lab.Lab, self, program string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		out, err := refitUnder(ctx, l, self, program, "doctor").CombinedOutput()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the fleet is not well a minute after its start: %s", out)
		}
	}
}

// loadSchema gives the database the release's tables, straight and from the builder:
// placing boots the release once on each node, and Mastodon boots on no empty
// database. The builder has the settings of a node for no longer than that.
func loadSchema(ctx context.Context, l *lab.Lab) error {
	const settings = "/home/mastodon/.env.lab"
	b, err := os.ReadFile(filepath.Join(l.Root("scotty"), "home/mastodon/.env.production"))
	if err != nil {
		return fmt.Errorf("cannot read the settings of a node: %w", err)
	}
	file := filepath.Join(l.Root("uhura"), settings)
	if err := os.WriteFile(file, b, 0o644); err != nil { //nolint:gosec // the application's user reads it; it is gone with the next line but one
		return fmt.Errorf("cannot lend the builder the settings of a node: %w", err)
	}
	_, err = l.Exec(ctx, "uhura", "sh", "-c", `set -a; . "$1"; cd "$2" && export RAILS_ENV=production DB_HOST="$3" DB_PORT=5432 DB_NAME=mastodon DISABLE_DATABASE_ENVIRONMENT_CHECK=1 &&
exec runuser -u mastodon -- .refit/bin/bundle exec rails db:schema:load`, "sh", settings, "/home/mastodon/releases/"+l.Release, l.Database)
	return errors.Join(err, os.Remove(file))
}

// fillDatabase runs the release's seeds, straight to the database, and then what the
// lab's own seed makes.
func fillDatabase(ctx context.Context, l *lab.Lab) error {
	const script = `cd "$1" && export DB_HOST="$2" SEED_ADMIN_TOKEN="$3" SEED_PROBE_TOKEN="$4" SEED_LOAD_TOKEN="$5" && shift 5 &&
exec runuser -u mastodon -- env RAILS_ENV=production DB_PORT=5432 DB_NAME=mastodon DISABLE_DATABASE_ENVIRONMENT_CHECK=1 .refit/bin/bundle exec rails "$@"`
	rails := func(args ...string) error {
		known := []string{"sh", "-c", script, "sh", "/home/mastodon/releases/" + l.Release, l.Database, l.Secrets.Admin, l.Secrets.Probe, l.Secrets.Load}
		_, err := l.Exec(ctx, "scotty", append(known, args...)...)
		return err
	}
	if err := rails("db:seed"); err != nil || l.Seed == "" {
		return err
	}
	b, err := os.ReadFile(l.Seed)
	if err != nil {
		return fmt.Errorf("cannot read the lab's seed: %w", err)
	}
	// A host has its own /tmp in memory.
	const there = "/var/tmp/lab-seed.rb"
	if err := os.WriteFile(filepath.Join(l.Root("scotty"), there), b, 0o644); err != nil { //nolint:gosec // the application's user reads it
		return err
	}
	return rails("runner", there)
}

func startApplication(ctx context.Context, l *lab.Lab) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for host, units := range appUnits {
		wg.Go(func() {
			_, err := l.Exec(ctx, host, "ln", "-sfn", "releases/"+l.Release, "/home/mastodon/live")
			if err == nil {
				_, err = l.Exec(ctx, host, append([]string{"systemctl", "enable", "--now", "--quiet"}, units...)...)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitSite waits until the balancer answers with the page.
func awaitSite(ctx context.Context, l *lab.Lab) error {
	client, err := l.HTTPClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+lab.Domain+"/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return nil
			}
			last = fmt.Errorf("the page answers %s: %w", resp.Status, err)
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the site does not answer: %w", last)
		case <-tick.C:
		}
	}
}
