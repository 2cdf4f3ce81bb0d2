package mastodon

import "time"

// Direct is how to reach the database itself, past its pooler. An empty field
// means what the environment file says.
type Direct struct {
	Host string `json:"host,omitempty"`
	Port int    `json:"port,omitempty"`
	Name string `json:"name,omitempty"`
	User string `json:"user,omitempty"`
}

// DatabaseIn asks about the database.
type DatabaseIn struct {
	Layout Layout `json:"layout"`
	Direct Direct `json:"direct"`
	// SkipApp leaves out the application's own connection, through the pooler.
	SkipApp bool `json:"skip_app,omitempty"`
	// SkipSchema leaves out what Mastodon has in it, for a database that may be empty yet.
	SkipSchema bool `json:"skip_schema,omitempty"`
}

// Database is what the database says.
type Database struct {
	// Direct is the connection past the pooler; the facts below were read on it.
	Direct Connection `json:"direct"`
	// App is the application's own connection; nil when not asked for.
	App *Connection `json:"app,omitempty"`
	// Same: both reach one database of one running server.
	Same bool `json:"same"`
	// Server is PostgreSQL's version, "17.6", and Number its server_version_num.
	Server string `json:"server"`
	Number int    `json:"number"`
	// InRecovery: this is a standby, which takes no writes.
	InRecovery bool `json:"in_recovery"`
	// Started is when the server started: another time means it was restarted or is
	// another server.
	Started time.Time `json:"started"`
	// Now is the server's clock.
	Now time.Time `json:"now,omitzero"`
	// Size is the database's, in bytes.
	Size int64 `json:"size,omitempty"`
	// LSN is the write-ahead log's position, for the record.
	LSN string `json:"lsn,omitempty"`
	// Applied are the versions in schema_migrations, in rising order.
	Applied []string `json:"applied"`
	// Invalid are indexes that an interrupted concurrent build left behind.
	Invalid []Index `json:"invalid,omitempty"`
	// MaxConnections that the server allows, Reserved of them for superusers, Used
	// now by clients.
	MaxConnections int `json:"max_connections"`
	Reserved       int `json:"reserved"`
	Used           int `json:"used"`
	// Traps are settings in the environment file that change what a migration does,
	// each with its remedy.
	Traps []string `json:"traps,omitempty"`
}

// Connection is one way to the database. It holds no secret.
type Connection struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	Name string `json:"name"`
	User string `json:"user"`
	// Pooled: proven to go through a transaction pooler, on which a migration's
	// advisory lock cannot be released.
	Pooled bool `json:"pooled"`
	// Proof says what was seen.
	Proof string `json:"proof,omitempty"`
	// Error says why this way could not be tried.
	Error string `json:"error,omitempty"`
}

// Index is an index of a table.
type Index struct {
	Name  string `json:"name"`
	Table string `json:"table"`
	// Building: a session works on it at this moment.
	Building bool `json:"building,omitempty"`
}

// Remedy is the statement that mends an invalid index.
func (i Index) Remedy() string { return "REINDEX INDEX CONCURRENTLY " + i.Name }

// Has tells whether a migration was applied.
func (d Database) Has(version string) bool {
	for _, v := range d.Applied {
		if v == version {
			return true
		}
	}
	return false
}

// ActivityIn asks what goes on in the database.
type ActivityIn struct {
	Layout Layout `json:"layout"`
	Direct Direct `json:"direct"`
}

// Activity is what goes on in the database this moment, as far as a migration is
// concerned.
type Activity struct {
	Now time.Time `json:"now"`
	// Migrators are sessions of a running migration: the one that holds Rails' lock
	// for migrations, and those that came from the same program.
	Migrators []Session `json:"migrators,omitempty"`
	// Blockers are the sessions that the migrators wait for, whoever blocks first.
	Blockers []Blocker `json:"blockers,omitempty"`
	// Queued is how many sessions wait behind the migrators, directly or behind
	// each other.
	Queued int `json:"queued"`
	// LockHeld: somebody holds Rails' lock for migrations.
	LockHeld bool `json:"lock_held"`
	// Used and MaxConnections as in Database.
	Used           int  `json:"used"`
	MaxConnections int  `json:"max_connections"`
	InRecovery     bool `json:"in_recovery"`
	// Started as in Database: another time than before means another server.
	Started time.Time `json:"started"`
}

// Session is a session of the database.
type Session struct {
	Pid         int    `json:"pid"`
	User        string `json:"user"`
	Application string `json:"application,omitempty"`
	// Client is its address, empty for a local socket.
	Client string `json:"client,omitempty"`
	// State as in pg_stat_activity: "active", "idle in transaction"; empty for a
	// session of another role that the account may not look into, of which only pid,
	// user and application are known.
	State string `json:"state"`
	// Waits is what it waits for: "Lock/relation"; empty when it works.
	Waits string `json:"waits,omitempty"`
	// Query is its current or last statement, with its literals masked, at most 200
	// characters.
	Query string `json:"query"`
	// Age is that of its transaction, or of its statement outside of one.
	Age time.Duration `json:"age"`
	// HoldsLock: it holds Rails' lock for migrations.
	HoldsLock bool `json:"holds_lock,omitempty"`
}

// Blocker is a session that a migration waits for.
type Blocker struct {
	Session
	// Blocks are the migrators' process IDs that wait for it.
	Blocks []int `json:"blocks"`
}
