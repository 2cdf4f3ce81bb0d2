package mastodon

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxQuery is how much of a statement is told, in characters.
const maxQuery = 200

// readActivity is the verb "db.activity".
func readActivity(ctx context.Context, in ActivityIn, _ func(string)) (Activity, error) {
	var a Activity
	env, err := readEnviron(in.Layout)
	if err != nil {
		return a, err
	}
	way, err := env.directWay(in.Direct)
	if err != nil {
		return a, err
	}
	err = way.try(ctx, func(c *pgx.Conn) error {
		s, err := askServer(ctx, c)
		if err != nil {
			return err
		}
		a.MaxConnections, a.InRecovery, a.Started = s.most, s.recovery, s.started
		if err := c.QueryRow(ctx, sqlUsed).Scan(&a.Used); err != nil {
			return err
		}
		high, low := migrationLock(s.name)
		holders, err := column[int](ctx, c, sqlLock, high, low)
		if err != nil {
			return err
		}
		backends, err := readBackends(ctx, c)
		if err != nil {
			return err
		}
		a.judge(backends, holders)
		a.Now = time.Now().UTC()
		return nil
	})
	if err != nil {
		return a, env.clean(fmt.Errorf("cannot ask the database at %s: %w", way, err))
	}
	return a, nil
}

// migrationLock gives the two halves of the key of Rails' lock for migrations
// (ActiveRecord::Migrator: MIGRATOR_SALT times the CRC-32 of the database's name).
func migrationLock(database string) (high, low int64) {
	const salt = 2053462845
	key := uint64(salt) * uint64(crc32.ChecksumIEEE([]byte(database)))
	return int64(key >> 32), int64(key & 0xffffffff)
}

// backend is a session with what is needed to judge it.
type backend struct {
	Session
	begun   time.Time
	waitsOn []int // process IDs that it waits for
	here    bool  // in this database
}

func readBackends(ctx context.Context, c *pgx.Conn) ([]backend, error) {
	rows, err := c.Query(ctx, sqlSessions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (backend, error) {
		var b backend
		var age, begun float64
		var query string
		var here *bool
		var waits []int32
		err := row.Scan(&b.Pid, &b.User, &b.Application, &b.Client, &b.State, &b.Waits, &query, &age, &begun, &waits, &here)
		b.Query = shorten(query)
		b.Age = time.Duration(max(0, age) * float64(time.Second)).Round(time.Millisecond)
		whole, fraction := math.Modf(begun)
		b.begun = time.Unix(int64(whole), int64(fraction*1e9))
		b.here = here != nil && *here
		if b.Waits == "Client/ClientRead" { // for its client: it is idle
			b.Waits = ""
		}
		for _, p := range waits {
			b.waitsOn = append(b.waitsOn, int(p))
		}
		return b, err
	})
}

// companions is how much later than the session with the lock another one of the
// same program may have begun, or earlier: Rails opens both while it begins.
const companions = 2 * time.Minute

// judge finds the migration, what it waits for and what waits behind it. Rails
// may hold its lock in another session than the one that migrates, and Mastodon
// gives neither a name; so the sessions of the same user and address that began at
// nearly the same time and run a change of schema, or wait for a lock, count too.
func (a *Activity) judge(all []backend, holders []int) {
	byPid := map[int]*backend{}
	for i := range all {
		byPid[all[i].Pid] = &all[i]
	}
	migrating := map[int]bool{}
	for _, pid := range holders {
		a.LockHeld = true
		if b := byPid[pid]; b != nil {
			b.HoldsLock = true
			migrating[pid] = true
		}
	}
	// Changes of schema first: who then waits for a migrator is behind it, and who
	// waits for somebody else may be the migration itself.
	for _, counts := range []func(*backend) bool{
		func(b *backend) bool { return schemaChange.MatchString(b.Query) },
		func(b *backend) bool {
			return strings.HasPrefix(b.Waits, "Lock/") && !slices.ContainsFunc(b.waitsOn, func(pid int) bool { return migrating[pid] })
		},
	} {
		for i := range all {
			if b := &all[i]; counts(b) && slices.ContainsFunc(holders, func(pid int) bool { return b.cameWith(byPid[pid]) }) {
				migrating[b.Pid] = true
			}
		}
	}
	blocks := map[int][]int{}
	for i := range all {
		if b := &all[i]; migrating[b.Pid] {
			a.Migrators = append(a.Migrators, b.Session)
			for _, pid := range b.waitsOn {
				if !migrating[pid] && !slices.Contains(blocks[pid], b.Pid) {
					blocks[pid] = append(blocks[pid], b.Pid)
				}
			}
		}
	}
	for pid, blocked := range blocks {
		blocker := Blocker{Blocks: blocked, Session: Session{Pid: pid}}
		switch b := byPid[pid]; {
		case b != nil:
			blocker.Session = b.Session
		case pid == 0: // pg_blocking_pids gives 0 for a prepared transaction
			blocker.State = "prepared transaction"
		default:
			blocker.State = "gone or no client"
		}
		a.Blockers = append(a.Blockers, blocker)
	}
	slices.SortFunc(a.Blockers, func(x, y Blocker) int { return int(y.Age - x.Age) })
	a.Queued = queuedBehind(all, migrating)
}

// cameWith tells whether a session may be of the same program as the one that
// holds the lock.
func (b *backend) cameWith(holder *backend) bool {
	return holder != nil && b.here && b.User == holder.User && b.Client == holder.Client &&
		b.Application == holder.Application && b.begun.Sub(holder.begun).Abs() <= companions
}

// queuedBehind counts the sessions whose chain of waiting leads to a migrator.
func queuedBehind(all []backend, migrating map[int]bool) int {
	behind := map[int]bool{}
	for grew := true; grew; {
		grew = false
		for _, b := range all {
			if migrating[b.Pid] || behind[b.Pid] {
				continue
			}
			if slices.ContainsFunc(b.waitsOn, func(pid int) bool { return migrating[pid] || behind[pid] }) {
				behind[b.Pid] = true
				grew = true
			}
		}
	}
	return len(behind)
}

var schemaChange = regexp.MustCompile(`(?i)^\s*(alter|create|drop|reindex|refresh|truncate|lock)\b`)

// String tells a blocker as a person needs it.
func (b Blocker) String() string {
	who := b.User
	if b.Application != "" {
		who += " (" + b.Application + ")"
	}
	if b.Client != "" {
		who += " from " + b.Client
	}
	return fmt.Sprintf("pid %d of %s, %s for %s: %s", b.Pid, who, b.State, b.Age.Round(time.Second), b.Query)
}

// shorten masks the string literals of a statement, which may be what people
// wrote, makes one line of it and cuts it.
func shorten(query string) string {
	var out strings.Builder
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c != '\'' {
			out.WriteByte(c)
			continue
		}
		out.WriteString("'…'")
		for i++; i < len(query); i++ {
			if query[i] != '\'' {
				continue
			}
			if i+1 < len(query) && query[i+1] == '\'' {
				i++
				continue
			}
			break
		}
	}
	s := strings.Join(strings.Fields(out.String()), " ")
	if r := []rune(s); len(r) > maxQuery {
		return string(r[:maxQuery-1]) + "…"
	}
	return s
}
