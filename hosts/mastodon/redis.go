package mastodon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisOptions are those of one of Mastodon's uses of Redis: prefix is "",
// "SIDEKIQ_" or "CACHE_". A use without settings of its own has the main ones
// (Mastodon's redis_configuration.rb).
func (e environ) redisOptions(prefix string) (*redis.Options, error) {
	if e["REDIS_NAMESPACE"] != "" {
		return nil, errors.New("REDIS_NAMESPACE is set, with which Mastodon 4.4 and later do not boot; migrate its keys and remove it")
	}
	name := func(s string) string { return prefix + "REDIS_" + s }
	if e[name("SENTINELS")] != "" {
		return nil, fmt.Errorf("%s is set; refit reaches Redis by an address only, not through Sentinel", name("SENTINELS"))
	}
	var o *redis.Options
	switch {
	case e[name("URL")] != "":
		var err error
		// ParseURL's errors quote the URL, password and all.
		if o, err = redis.ParseURL(e[name("URL")]); err != nil {
			return nil, fmt.Errorf("cannot use %s: it is no redis:// URL", name("URL"))
		}
	case prefix != "" && e[name("HOST")] == "":
		return e.redisOptions("")
	default:
		db, err := strconv.Atoi(e.or(name("DB"), "0"))
		if err != nil {
			return nil, fmt.Errorf("cannot use %s: it is no number", name("DB"))
		}
		o = &redis.Options{
			Addr:     hostPort(e.or(name("HOST"), "localhost"), e.or(name("PORT"), "6379")),
			Username: e[name("USER")],
			Password: e[name("PASSWORD")],
			DB:       db,
		}
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 10*time.Second, 5*time.Second
	o.PoolSize, o.MaxRetries, o.DialerRetries = 2, 1, 1
	// The plainest protocol: nothing is sent that an old server or a proxy before it
	// would not know.
	o.Protocol, o.DisableIdentity = 2, true
	return o, nil
}

// silent is where go-redis logs to: what it logs comes back as an error too, and
// an agent's standard error is no place for both.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

var silence sync.Once

// withRedis connects to the Redis of one use and closes it after f. All errors are
// scrubbed.
func withRedis(ctx context.Context, l Layout, prefix string, f func(context.Context, *redis.Client) error) error {
	env, err := readEnviron(l)
	if err != nil {
		return err
	}
	o, err := env.redisOptions(prefix)
	if err != nil {
		return err
	}
	silence.Do(func() { redis.SetLogger(silent{}) })
	c := redis.NewClient(o)
	err = f(ctx, c)
	if err != nil {
		err = fmt.Errorf("cannot ask Redis at %s: %w", o.Addr, err)
	}
	return env.clean(errors.Join(err, c.Close()))
}

// readRedis is the verb "redis".
func readRedis(ctx context.Context, in RedisIn, _ func(string)) (RedisServers, error) {
	var out RedisServers
	env, err := readEnviron(in.Layout)
	if err != nil {
		return out, err
	}
	seen := map[string]int{}
	for use, prefix := range map[string]string{"main": "", "sidekiq": "SIDEKIQ_", "cache": "CACHE_"} {
		o, err := env.redisOptions(prefix)
		if err != nil {
			return out, err
		}
		if i, ok := seen[o.Addr]; ok {
			out.Servers[i].Uses = append(out.Servers[i].Uses, use)
			slices.Sort(out.Servers[i].Uses)
			continue
		}
		s := RedisServer{Uses: []string{use}, Address: o.Addr}
		err = withRedis(ctx, in.Layout, prefix, func(ctx context.Context, c *redis.Client) error {
			info, err := c.Info(ctx).Result()
			if err != nil {
				return err
			}
			return s.fill(info)
		})
		if err != nil {
			return out, err
		}
		seen[o.Addr] = len(out.Servers)
		out.Servers = append(out.Servers, s)
	}
	slices.SortFunc(out.Servers, func(a, b RedisServer) int { return strings.Compare(a.Address, b.Address) })
	return out, nil
}

// fill reads the answer to INFO.
func (s *RedisServer) fill(info string) error {
	values := map[string]string{}
	for l := range strings.Lines(info) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), ":"); ok {
			values[k] = v
		}
	}
	s.Version, s.Role, s.Policy, s.RunID = values["redis_version"], values["role"], values["maxmemory_policy"], values["run_id"]
	if s.Version == "" {
		return errors.New("its INFO tells no version")
	}
	for name, field := range map[string]*int64{"used_memory": &s.UsedMemory, "maxmemory": &s.MaxMemory} {
		if values[name] == "" {
			continue
		}
		n, err := strconv.ParseInt(values[name], 10, 64)
		if err != nil {
			return fmt.Errorf("its INFO tells %s as %q", name, values[name])
		}
		*field = n
	}
	return nil
}

// databaseURL tells whether the environment names the database by a URL.
func (e environ) databaseURL() (*url.URL, error) {
	raw := e["DATABASE_URL"]
	if raw == "" {
		return nil, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil, errors.New("cannot use DATABASE_URL: it is no postgres:// URL")
	}
	return u, nil
}
