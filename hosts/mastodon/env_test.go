package mastodon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/node"
)

// canaries are secrets; none may be seen in any result or error.
var canaries = []string{"canary-db", "canary-redis", "canary-url", "canary-es", "canary+key/base"}

const secretEnv = `# settings
LOCAL_DOMAIN=lab.vmst.test
SECRET_KEY_BASE="canary+key/base"
DB_HOST=127.0.0.1
DB_PORT=1
DB_USER=mastodon
DB_PASS=canary-db
REDIS_URL=redis://:canary-redis@127.0.0.1:1/0
SIDEKIQ_REDIS_HOST=127.0.0.1
SIDEKIQ_REDIS_PORT=2
SIDEKIQ_REDIS_PASSWORD=canary-redis
DATABASE_URL=postgres://mastodon:canary-url@127.0.0.1:3/mastodon-pool
ES_ENABLED=true
ES_HOST=127.0.0.1
ES_PORT=4
ES_USER=elastic
ES_PASS=canary-es
`

func TestNoVerbTellsASecret(t *testing.T) {
	for name, env := range map[string]string{
		"nothing answers":   secretEnv,
		"a broken URL":      strings.ReplaceAll(strings.ReplaceAll(secretEnv, "redis://:canary-redis@", "redis://:canary-redis@%zz"), "postgres://mastodon:canary-url@", "postgres://mastodon:canary-url@%zz"),
		"another scheme":    strings.ReplaceAll(secretEnv, "redis://", "rodis://"),
		"a port of letters": strings.ReplaceAll(strings.ReplaceAll(secretEnv, "DB_PORT=1", "DB_PORT=canary-db"), ":3/mastodon-pool", ":canary-url/x"),
		"a broken line":     secretEnv + "\nCANARY canary-db canary-redis\n",
		"an odd sslmode":    secretEnv + "DB_SSLMODE=canary-db\n",
	} {
		layout := layoutWith(t, env)
		for _, v := range Verbs() {
			switch v.Name {
			case "probe", "packs", "libraries", "database.dumptools", "database.dumplist":
				continue // they need more than a layout, or none, and take no secret but the token
			case "env.outside":
				continue // it asks nobody; see TestWhereSettingsLeadToIsToldWithoutASecret
			}
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				failsUnseen(t, v, layout)
			})
		}
	}
}

// failsUnseen runs a verb that must fail, and asks that none of the canaries is in its
// error or beside it. It returns the error.
func failsUnseen(t *testing.T, v node.Verb, layout Layout) error {
	t.Helper()
	in, err := json.Marshal(map[string]any{"layout": layout})
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	run := v.Run
	if v.Stream != nil {
		run = func(ctx context.Context, in json.RawMessage, _ io.Reader, say func(string)) (any, error) {
			return v.Stream(ctx, in, &sent, say)
		}
	}
	out, err := run(context.Background(), in, nil, func(string) {})
	if err == nil {
		t.Fatalf("no error: %v", out)
	}
	text, jsonErr := json.Marshal(out)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	for _, c := range canaries {
		if strings.Contains(err.Error()+string(text)+sent.String(), c) {
			t.Errorf("%q is in %v %s", c, err, text)
		}
	}
	return err
}

func TestAMissingEnvironmentFileIsSaidToBeMissing(t *testing.T) {
	_, err := readRedis(context.Background(), RedisIn{Layout: Layout{EnvFile: "/nonexistent/.env.production"}}, nil)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/.env.production") {
		t.Errorf("got %v", err)
	}
}

func TestEachUseOfRedisHasItsOwnSettingsOrTheMainOnes(t *testing.T) {
	env := environ{"REDIS_HOST": "main", "REDIS_PASSWORD": "p", "SIDEKIQ_REDIS_URL": "rediss://:q@jobs:25061/3", "CACHE_REDIS_PORT": "9"}
	for prefix, want := range map[string]string{"": "main:6379", "SIDEKIQ_": "jobs:25061", "CACHE_": "main:6379"} {
		o, err := env.redisOptions(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if o.Addr != want || (o.TLSConfig != nil) != (prefix == "SIDEKIQ_") {
			t.Errorf("%q: %s, TLS %v", prefix, o.Addr, o.TLSConfig != nil)
		}
	}
	for _, bad := range []environ{{"REDIS_NAMESPACE": "x"}, {"REDIS_SENTINELS": "a:1"}, {"REDIS_DB": "x"}} {
		if _, err := bad.redisOptions(""); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func TestTheDirectWayOverridesTheEnvironmentAndTheAppsOwnIsItsURL(t *testing.T) {
	env := environ{
		"DB_HOST": "pool", "DB_PORT": "25061", "DB_NAME": "mastodon-pool", "DB_USER": "masto", "DB_PASS": "it's",
		"DATABASE_URL": "postgresql://other:pw@elsewhere:7/db?sslmode=require",
	}
	way, err := env.directWay(Direct{Host: "majel", Port: 5432, Name: "mastodon"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Connection{Host: "majel", Port: 5432, Name: "mastodon", User: "masto"}, way.shown); diff != "" {
		t.Error(diff)
	}
	if c := way.config; c.Host != "majel" || c.Port != 5432 || c.Database != "mastodon" || c.Password != "it's" {
		t.Errorf("%s %d %s", c.Host, c.Port, c.Database)
	}
	app, err := env.appWay()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Connection{Host: "elsewhere", Port: 7, Name: "db", User: "other"}, app.shown); diff != "" {
		t.Error(diff)
	}
	if len(app.config.Fallbacks) != 0 || app.config.TLSConfig == nil {
		t.Error("sslmode=require was not kept")
	}
}

func TestSettingsThatAMigrationCannotWinOverAreTold(t *testing.T) {
	if got := (environ{"DB_HOST": "x"}).traps(); got != nil {
		t.Errorf("got %v", got)
	}
	got := environ{"DATABASE_URL": "postgres://x", "SKIP_POST_DEPLOYMENT_MIGRATIONS": ""}.traps()
	if len(got) != 2 || !strings.HasPrefix(got[0], "DATABASE_URL") || !strings.HasPrefix(got[1], "SKIP_POST") {
		t.Errorf("got %v", got)
	}
}

func TestPasswordsInConnectionStringsAreCutOut(t *testing.T) {
	for in, want := range map[string]string{
		"dial redis://user:pw@host:1/0 failed":        "dial redis://user:[hidden]@host:1/0 failed",
		"cannot parse host=x password='a b' port=1":   "cannot parse host=x password=[hidden] port=1",
		"cannot parse password=ab: failed":            "cannot parse password=[hidden] failed",
		"https://lab.vmst.test/packs/a@b.js answered": "https://lab.vmst.test/packs/a@b.js answered",
	} {
		if got := scrub(in, nil); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
