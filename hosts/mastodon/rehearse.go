package mastodon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"vmst.io/refit/hosts/node"
)

// OutsideIn asks where a host's settings lead to.
type OutsideIn struct {
	Layout Layout `json:"layout"`
	// Tunnels is the folder of stunnel's settings; empty for /etc/stunnel.
	Tunnels string `json:"tunnels,omitempty"`
}

// Outside is where a host's settings lead to. It holds no secret.
type Outside struct {
	// Addresses are "host:port" of whatever the settings name: the database, Redis, search,
	// mail, storage, and the far ends of tunnels. None is of the host itself.
	Addresses []string `json:"addresses"`
	// Name and User are the database's, as the settings have them.
	Name string `json:"name"`
	User string `json:"user"`
}

// ReadOutside asks a host where its settings lead to.
func ReadOutside(ctx context.Context, a *node.Agent, in OutsideIn) (Outside, error) {
	return call[Outside](ctx, a, "env.outside", in, nil)
}

// tunnelEnd is where a tunnel of stunnel's leads to.
var tunnelEnd = regexp.MustCompile(`(?mi)^[ \t]*connect[ \t]*=[ \t]*(\S+)`)

// readOutside is the verb env.outside.
func readOutside(_ context.Context, in OutsideIn, _ func(string)) (Outside, error) {
	env, err := readEnviron(in.Layout)
	if err != nil {
		return Outside{}, err
	}
	way, err := env.directWay(Direct{})
	if err != nil {
		return Outside{}, err
	}
	out := Outside{Name: way.shown.Name, User: way.shown.User}
	seen := map[string]bool{}
	add := func(host, port string) {
		host = strings.Trim(host, "[]")
		if host == "" || host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "127.") || host == "::1" {
			return
		}
		seen[net.JoinHostPort(host, port)] = true
	}
	add(way.shown.Host, strconv.Itoa(way.shown.Port))
	for _, u := range []struct{ host, port, usual string }{
		{"REPLICA_DB_HOST", "REPLICA_DB_PORT", "5432"},
		{"REDIS_HOST", "REDIS_PORT", "6379"},
		{"SIDEKIQ_REDIS_HOST", "SIDEKIQ_REDIS_PORT", "6379"},
		{"CACHE_REDIS_HOST", "CACHE_REDIS_PORT", "6379"},
		{"ES_HOST", "ES_PORT", "9200"},
		{"SMTP_SERVER", "SMTP_PORT", "587"},
		{"BULK_SMTP_SERVER", "BULK_SMTP_PORT", "587"},
		{"S3_HOSTNAME", "", "443"},
		{"CDN_HOST", "", "443"},
		{"S3_ALIAS_HOST", "", "443"},
	} {
		host := env[u.host]
		if strings.Contains(host, "://") {
			addURL(host, u.usual, add)
			continue
		}
		add(host, env.or(u.port, u.usual))
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		usual := map[string]string{"https": "443", "http": "80", "redis": "6379", "rediss": "6379", "postgres": "5432", "postgresql": "5432"}
		if scheme, _, ok := strings.Cut(value, "://"); ok && usual[scheme] != "" && (strings.HasSuffix(name, "_URL") || strings.HasSuffix(name, "ENDPOINT") || strings.HasSuffix(name, "DSN")) {
			addURL(value, usual[scheme], add)
		}
	}
	files, err := filepath.Glob(filepath.Join(cmp.Or(in.Tunnels, "/etc/stunnel"), "*.conf"))
	if err != nil {
		return out, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return out, fmt.Errorf("cannot read a tunnel's settings: %w", err)
		}
		for _, m := range tunnelEnd.FindAllSubmatch(b, -1) {
			if host, port, err := net.SplitHostPort(string(m[1])); err == nil {
				add(host, port)
			}
		}
	}
	for a := range seen {
		out.Addresses = append(out.Addresses, a)
	}
	slices.Sort(out.Addresses)
	return out, nil
}

func addURL(text, port string, add func(host, port string)) {
	if u, err := url.Parse(text); err == nil {
		add(u.Hostname(), cmp.Or(u.Port(), port))
	}
}

// The settings that a rehearsal's copy of a node must not have: the ways to the fleet's own
// database and Redis, and whatever lets mail, files, searches or reports out.
// LOCAL_DOMAIN, the keys that data is encrypted with and VAPID's stay: Mastodon does not boot, or
// reads no account, without them.
var (
	rehearsalDrop = []string{
		"DATABASE_URL", "PRIMARY_DATABASE_URL", "REDIS_URL", "REDIS_NAMESPACE", "CDN_HOST", "PREPARED_STATEMENTS",
		"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "http_hidden_proxy", "HTTP_HIDDEN_PROXY", "PAPERCLIP_ROOT_URL", "EXTRA_DATA_HOSTS",
		"SKIP_POST_DEPLOYMENT_MIGRATIONS",
	}
	rehearsalPrefixes = []string{
		"REPLICA_", "REDIS_", "SIDEKIQ_REDIS_", "CACHE_REDIS_", "SMTP_", "BULK_SMTP_", "S3_", "AWS_", "SWIFT_", "AZURE_", "ES_",
		"DEEPL_", "LIBRE_TRANSLATE_", "SENTRY_", "STATSD_", "OTEL_", "HCAPTCHA_", "CACHE_BUSTER_",
	}
)

// RehearsalEnv is how a copy of a node is made to use a rehearsal's database and Redis, and
// nothing else of the fleet's. The password of Redis must go nowhere but to the host.
func RehearsalEnv(l Layout, db Direct, redis *url.URL) node.RehearseIn {
	return node.RehearseIn{
		EnvFile: l.filled().EnvFile, Drop: slices.Clone(rehearsalDrop), Prefixes: slices.Clone(rehearsalPrefixes),
		Set: map[string]string{
			"DB_HOST": db.Host, "DB_PORT": strconv.Itoa(db.Port), "DB_NAME": db.Name, "DB_USER": db.User,
			"REDIS_URL": redis.String(),
		},
	}
}

// Table is a table of the database.
type Table struct {
	Name string `json:"name"`
	// Rows is the server's own estimate, Bytes the size with indexes.
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// TablesIn asks for the largest tables.
type TablesIn struct {
	Layout Layout `json:"layout"`
	Direct Direct `json:"direct"`
	Most   int    `json:"most"`
}

// ReadTables asks for the largest tables, the largest first.
func ReadTables(ctx context.Context, a *node.Agent, in TablesIn) ([]Table, error) {
	return call[[]Table](ctx, a, "db.tables", in, nil)
}

// sqlTables: planner's estimates are there without reading a table; one that was never
// analysed has what its sessions counted.
const sqlTables = `select c.relname::text, greatest(c.reltuples, s.n_live_tup, 0)::bigint, pg_total_relation_size(c.oid)
	from pg_class c left join pg_stat_user_tables s on s.relid = c.oid
	where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
	order by 3 desc, 1 limit $1`

// readTables is the verb db.tables.
func readTables(ctx context.Context, in TablesIn, _ func(string)) ([]Table, error) {
	env, err := readEnviron(in.Layout)
	if err != nil {
		return nil, err
	}
	way, err := env.directWay(in.Direct)
	if err != nil {
		return nil, err
	}
	var out []Table
	err = way.try(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, sqlTables, max(in.Most, 1))
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
		return err
	})
	if err != nil {
		return nil, env.clean(fmt.Errorf("cannot ask the database at %s: %w", way, err))
	}
	return out, nil
}
