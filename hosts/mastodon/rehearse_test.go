package mastodon

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhereSettingsLeadToIsToldWithoutASecret(t *testing.T) {
	tunnels := t.TempDir()
	if err := os.WriteFile(filepath.Join(tunnels, "redis.conf"), []byte("[redis]\nclient = yes\naccept = 127.0.0.1:6379\n connect = redis.example:25061\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	layout := layoutWith(t, `DB_HOST=10.0.0.1
DB_PORT=25061
DB_NAME=mastodon-pool
DB_PASS=canary-db
DATABASE_URL=postgres://mastodon:canary-url@db.example:3/x
REDIS_HOST=localhost
SIDEKIQ_REDIS_URL=rediss://:canary-redis@queue.example:7/0
ES_HOST=https://search.example
ES_PASS=canary-es
SMTP_SERVER=mail.example
SMTP_PASSWORD=canary-mail
S3_ENDPOINT=https://s3.example
S3_ALIAS_HOST=files.example
AWS_SECRET_ACCESS_KEY=canary-s3
LOCAL_DOMAIN=lab.example
`)
	out, err := readOutside(t.Context(), OutsideIn{Layout: layout, Tunnels: tunnels}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:25061", "db.example:3", "files.example:443", "mail.example:587", "queue.example:7", "redis.example:25061", "s3.example:443", "search.example:9200"}
	if !slices.Equal(out.Addresses, want) || out.Name != "mastodon-pool" || out.User != "mastodon" {
		t.Errorf("%+v, not %q", out, want)
	}
	if strings.Contains(strings.Join(out.Addresses, " "), "canary") {
		t.Errorf("%q", out.Addresses)
	}
	for _, broken := range []string{"DB_PASS=canary-db\nCANARY canary-db\n", "DB_PORT=canary-db\n"} {
		if _, err := readOutside(t.Context(), OutsideIn{Layout: layoutWith(t, broken), Tunnels: tunnels}, nil); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// Every name by which a copy could reach the fleet's own, or let anything out, is taken.
func TestARehearsalsSettingsLeadNowhereElse(t *testing.T) {
	in := RehearsalEnv(Layout{EnvFile: "/home/mastodon/.env.production"}, Direct{Host: "fork.example", Port: 25060, Name: "mastodon", User: "mastodon"}, &url.URL{Scheme: "rediss", Host: "valkey.example:25061"})
	gone := func(name string) bool {
		_, set := in.Set[name]
		return set || slices.Contains(in.Drop, name) || slices.ContainsFunc(in.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
	for _, name := range []string{
		"DB_HOST", "DB_PORT", "DB_NAME", "DATABASE_URL", "REPLICA_DATABASE_URL", "REPLICA_DB_HOST", "REDIS_URL", "REDIS_HOST", "REDIS_PASSWORD", "REDIS_SENTINELS",
		"SIDEKIQ_REDIS_URL", "SIDEKIQ_REDIS_HOST", "CACHE_REDIS_URL", "SMTP_SERVER", "SMTP_PASSWORD", "BULK_SMTP_SERVER", "S3_ENABLED", "S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"SWIFT_ENABLED", "AZURE_STORAGE_ACCESS_KEY", "ES_ENABLED", "ES_HOST", "DEEPL_API_KEY", "LIBRE_TRANSLATE_ENDPOINT", "CDN_HOST", "SENTRY_DSN", "STATSD_ADDR", "OTEL_EXPORTER_OTLP_ENDPOINT", "http_proxy",
		"SKIP_POST_DEPLOYMENT_MIGRATIONS",
	} {
		if !gone(name) {
			t.Errorf("%s stays", name)
		}
	}
	for _, name := range []string{"LOCAL_DOMAIN", "WEB_DOMAIN", "SECRET_KEY_BASE", "OTP_SECRET", "VAPID_PRIVATE_KEY", "ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY", "DB_PASS", "DB_SSLMODE", "RAILS_ENV"} {
		if gone(name) && name != "DB_PASS" {
			t.Errorf("%s is taken", name)
		}
	}
}
