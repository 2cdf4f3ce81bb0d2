package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// SeedDatabase loads the schema of the release that is live on a Sidekiq node into
// the empty database, straight and not through the pooler, and the application's
// first accounts with the lab's access tokens.
func (l *Lab) SeedDatabase(ctx context.Context) error {
	env := []string{
		"RAILS_ENV=production", "DISABLE_DATABASE_ENVIRONMENT_CHECK=1",
		"DB_HOST=" + DatabaseAddress, "DB_PORT=" + strconv.Itoa(PortDatabase), "DB_NAME=mastodon",
		"SEED_ADMIN_TOKEN=" + l.Secrets.Admin, "SEED_PROBE_TOKEN=" + l.Secrets.Probe, "SEED_LOAD_TOKEN=" + l.Secrets.Load,
	}
	argv := append([]string{"runuser", "-u", "mastodon", "--", "env", "-C", "/home/mastodon/live"}, env...)
	argv = append(argv, "/home/mastodon/live/.refit/bin/bundle", "exec", "rails", "db:schema:load", "db:seed")
	if _, err := l.Exec(ctx, "scotty", argv...); err != nil {
		return fmt.Errorf("cannot fill the database: %w", err)
	}
	return nil
}

// StartApps starts the application's units on every node and waits until the site
// answers through the balancer.
func (l *Lab) StartApps(ctx context.Context) error {
	all, gctx := errgroup.WithContext(ctx)
	for _, m := range Machines() {
		if len(m.Apps) == 0 {
			continue
		}
		argv := []string{"systemctl", "start"}
		for _, a := range m.Apps {
			if a.Name != "mastodon-streaming@" { // mastodon-streaming starts its instances
				argv = append(argv, a.Name+".service")
			}
		}
		all.Go(func() error {
			_, err := inside(gctx, m.Name, argv...)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("cannot start the application: %w", err)
	}
	client, err := l.HTTPClient()
	if err != nil {
		return err
	}
	last := errors.New("no answer")
	err = await(ctx, 2*time.Minute, func() (bool, error) {
		if last = get(ctx, client, "/"); last == nil {
			last = get(ctx, client, "/api/v1/streaming/health")
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the site does not answer: %w", errors.Join(last, err))
	}
	return nil
}

// get asks the site for a path and wants 200.
func get(ctx context.Context, client *http.Client, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+Domain+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}
