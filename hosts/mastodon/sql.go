package mastodon

// Every statement that refit sends to PostgreSQL. None changes anything. They
// need no more rights than Mastodon's own account has; an account that may not see
// other accounts' statements gets "<insufficient privilege>" in their place.
const (
	sqlServer = `select current_setting('server_version'), current_setting('server_version_num')::int,
	pg_is_in_recovery(), pg_postmaster_start_time(), current_database()::text, current_user::text,
	current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int,
	coalesce(host(inet_server_addr()), ''), coalesce(inet_server_port(), 0),
	(select oid from pg_database where datname = current_database())::bigint`

	sqlNow = `select clock_timestamp(), pg_database_size(current_database())`

	sqlLSN = `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text else pg_current_wal_lsn()::text end`

	// pg_stat_activity hides the kind of other accounts' sessions; this does not.
	sqlUsed = `select coalesce(sum(numbackends), 0)::int from pg_stat_database`

	sqlMigrationsTable = `select to_regclass('schema_migrations') is not null`

	sqlMigrations = `select version::text from schema_migrations order by version`

	// An index that a session builds concurrently is invalid until it is done; it is
	// told apart by pg_stat_progress_create_index.
	sqlInvalid = `select i.indexrelid::regclass::text, i.indrelid::regclass::text,
	exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
	from pg_index i where not i.indisvalid order by 1`

	sqlPid = `select pg_backend_pid()`

	// Sessions of clients, with what each waits for. xact_start is empty outside of
	// a transaction. Of another role's session every time is empty, and its state
	// too, unless the account is a member of pg_read_all_stats.
	sqlSessions = `select a.pid, coalesce(a.usename, '')::text, coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''),
	coalesce(a.state, ''), coalesce(a.wait_event_type || '/' || a.wait_event, ''), left(coalesce(a.query, ''), 1000),
	coalesce(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.query_start, a.backend_start)), 0)::float8,
	coalesce(extract(epoch from a.backend_start), 0)::float8,
	case when a.wait_event_type = 'Lock' then pg_blocking_pids(a.pid) else '{}'::int[] end,
	a.datname = current_database()
	from pg_stat_activity a
	where a.datid is not null and a.pid <> pg_backend_pid()`

	// Who holds Rails' lock for migrations: a session-level advisory lock on one
	// 64-bit key, which pg_locks shows as two halves.
	sqlLock = `select l.pid from pg_locks l
	where l.locktype = 'advisory' and l.granted and l.objsubid = 1
	and l.database = (select oid from pg_database where datname = current_database())
	and l.classid::bigint = $1 and l.objid::bigint = $2`
)
