package mastodon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// answerTimeout bounds each statement: they are all short, and one that waits for
// a lock must not hang a verb.
const answerTimeout = 10 * time.Second

// insufficientPrivilege is the SQLSTATE of a refused right.
const insufficientPrivilege = "42501"

// readDatabase is the verb "db".
func readDatabase(ctx context.Context, in DatabaseIn, _ func(string)) (Database, error) {
	d := Database{Applied: []string{}}
	env, err := readEnviron(in.Layout)
	if err != nil {
		return d, err
	}
	d.Traps = env.traps()
	way, err := env.directWay(in.Direct)
	if err != nil {
		return d, err
	}
	d.Direct = way.shown
	server, err := d.readDirect(ctx, way, in.SkipSchema)
	if err != nil {
		return d, env.clean(fmt.Errorf("cannot ask the database at %s: %w", way, err))
	}
	if in.SkipApp {
		return d, nil
	}
	app, err := env.appWay()
	if err != nil {
		return d, err
	}
	d.App = &app.shown
	if err := app.try(ctx, func(c *pgx.Conn) error {
		s, err := askServer(ctx, c)
		d.Same = s.same(server)
		return err
	}); err != nil {
		d.App.Error = env.clean(err).Error()
		return d, nil
	}
	if err := app.prove(ctx, d.App); err != nil {
		d.App.Error = env.clean(err).Error()
	}
	return d, nil
}

// readDirect reads all that is read past the pooler, and proves that it is.
func (d *Database) readDirect(ctx context.Context, way way, skipSchema bool) (server, error) {
	var s server
	err := way.try(ctx, func(c *pgx.Conn) error {
		var err error
		if s, err = askServer(ctx, c); err != nil {
			return err
		}
		d.Server, _, _ = strings.Cut(s.version, " ") // "17.6 (Debian …)"
		d.Number, d.InRecovery, d.Started = s.number, s.recovery, s.started
		d.MaxConnections, d.Reserved = s.most, s.reserved
		if err := c.QueryRow(ctx, sqlUsed).Scan(&d.Used); err != nil {
			return err
		}
		if err := c.QueryRow(ctx, sqlNow).Scan(&d.Now, &d.Size); err != nil {
			return err
		}
		d.Now = d.Now.UTC()
		// Some managed servers let no client see the log's position.
		var refused *pgconn.PgError
		if err := c.QueryRow(ctx, sqlLSN).Scan(&d.LSN); err != nil && !(errors.As(err, &refused) && refused.Code == insufficientPrivilege) {
			return err
		}
		if skipSchema {
			return nil
		}
		var there bool
		if err := c.QueryRow(ctx, sqlMigrationsTable).Scan(&there); err != nil {
			return err
		}
		if !there {
			return errors.New("it has no table schema_migrations; is this Mastodon's database?")
		}
		if d.Applied, err = column[string](ctx, c, sqlMigrations); err != nil {
			return err
		}
		rows, err := c.Query(ctx, sqlInvalid)
		if err != nil {
			return err
		}
		d.Invalid, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Index])
		return err
	})
	if err != nil {
		return s, err
	}
	return s, way.prove(ctx, &d.Direct)
}

// server is what tells one database of one running server from another.
type server struct {
	version, name, user, addr string
	number, most, reserved    int
	port                      int
	recovery                  bool
	started                   time.Time
	oid                       int64
}

// same: a server has one start, to the microsecond, and one database of that oid.
func (s server) same(other server) bool {
	return s.started.Equal(other.started) && s.oid == other.oid && !s.started.IsZero()
}

func askServer(ctx context.Context, c *pgx.Conn) (s server, err error) {
	err = c.QueryRow(ctx, sqlServer).Scan(&s.version, &s.number, &s.recovery, &s.started, &s.name, &s.user, &s.most, &s.reserved, &s.addr, &s.port, &s.oid)
	return s, err
}

func column[T any](ctx context.Context, c *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// way is one way to the database, with its secret inside.
type way struct {
	shown  Connection
	config *pgx.ConnConfig
}

func (w way) String() string {
	return fmt.Sprintf("%s, database %s", net.JoinHostPort(w.shown.Host, strconv.Itoa(w.shown.Port)), w.shown.Name)
}

// directWay is the way of a migration: the environment file's DB_ settings with
// the direct ones in their place (Mastodon's config/database.yml).
func (e environ) directWay(d Direct) (way, error) {
	port, err := strconv.Atoi(e.or("DB_PORT", "5432"))
	if err != nil {
		return way{}, errors.New("cannot use DB_PORT: it is no number")
	}
	c := Connection{
		Host: e.or("DB_HOST", "localhost"), Port: port,
		Name: e.or("DB_NAME", "mastodon_production"), User: e.or("DB_USER", "mastodon"),
	}
	if d.Host != "" {
		c.Host = d.Host
	}
	if d.Port != 0 {
		c.Port = d.Port
	}
	if d.Name != "" {
		c.Name = d.Name
	}
	if d.User != "" {
		c.User = d.User
	}
	return newWay(c, e["DB_PASS"], e.or("DB_SSLMODE", "prefer"))
}

// appWay is the application's own: DATABASE_URL if there is one, as in Rails.
func (e environ) appWay() (way, error) {
	u, err := e.databaseURL()
	if err != nil {
		return way{}, err
	}
	if u == nil {
		return e.directWay(Direct{})
	}
	return urlWay(u)
}

func urlWay(u *url.URL) (way, error) {
	port := 5432
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil {
			return way{}, errors.New("cannot use DATABASE_URL: its port is no number")
		}
		port = n
	}
	mode := u.Query().Get("sslmode")
	if mode == "" {
		mode = "prefer"
	}
	password, _ := u.User.Password()
	return newWay(Connection{Host: u.Hostname(), Port: port, Name: strings.TrimPrefix(u.Path, "/"), User: u.User.Username()}, password, mode)
}

// sslModes are libpq's.
var sslModes = map[string]bool{"disable": true, "allow": true, "prefer": true, "require": true, "verify-ca": true, "verify-full": true}

func newWay(c Connection, password, sslmode string) (way, error) {
	if !sslModes[sslmode] {
		return way{}, errors.New("cannot use DB_SSLMODE: PostgreSQL knows no such mode")
	}
	// Only what must be parsed goes through the parser, whose errors quote it.
	config, err := pgx.ParseConfig("sslmode=" + sslmode + " host=" + quoted(c.Host) + " port=" + strconv.Itoa(c.Port))
	if err != nil {
		return way{}, fmt.Errorf("cannot use the database address %s: %w", c.Host, err)
	}
	config.Database, config.User, config.Password = c.Name, c.User, password
	config.ConnectTimeout = answerTimeout
	config.RuntimeParams = map[string]string{"application_name": "refit"}
	// A transaction pooler keeps no prepared statements.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return way{shown: c, config: config}, nil
}

// quoted is a value of a connection string.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// try connects, lets f ask and closes.
func (w way) try(ctx context.Context, f func(*pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*answerTimeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, w.config.Copy())
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close(ctx))
}

// prove finds out whether the way goes through a transaction pooler: a pooler
// gives the session that one client left idle to another that begins a
// transaction, and then has to give the first one another session.
func (w way) prove(ctx context.Context, c *Connection) error {
	return w.try(ctx, func(idle *pgx.Conn) error {
		return w.try(ctx, func(busy *pgx.Conn) (err error) {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			var before, during, after int
			if err := idle.QueryRow(ctx, sqlPid).Scan(&before); err != nil {
				return err
			}
			tx, err := busy.Begin(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
			if err := tx.QueryRow(ctx, sqlPid).Scan(&during); err != nil {
				return err
			}
			if during == before {
				c.Pooled = true
				c.Proof = fmt.Sprintf("two connections open at once are both served by session %d: a transaction pooler", before)
				return nil
			}
			if err := idle.QueryRow(ctx, sqlPid).Scan(&after); err != nil {
				return err
			}
			if after != before {
				c.Pooled = true
				c.Proof = fmt.Sprintf("one connection was served by session %d, then by %d: a transaction pooler", before, after)
				return nil
			}
			c.Proof = fmt.Sprintf("two connections open at once have sessions of their own, %d and %d", before, during)
			return nil
		})
	})
}

// traps names settings of the environment file that a migration's own settings
// cannot win over.
func (e environ) traps() []string {
	var out []string
	for _, name := range []string{"DATABASE_URL", "PRIMARY_DATABASE_URL"} {
		if e[name] != "" {
			out = append(out, name+" is set in the environment file and wins over DB_HOST, DB_PORT and DB_NAME, so a migration would go through the pooler; write those instead of it")
		}
	}
	if _, set := e["SKIP_POST_DEPLOYMENT_MIGRATIONS"]; set {
		out = append(out, "SKIP_POST_DEPLOYMENT_MIGRATIONS is set in the environment file, with any value it leaves out post-deployment migrations for good; remove it")
	}
	return out
}
