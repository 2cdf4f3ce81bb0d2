package mastodon

import (
	"context"

	"vmst.io/refit/hosts/node"
)

// Verbs are the verbs of this package, for the agent's table.
func Verbs() []node.Verb {
	dumps := dumper{home: dumpHome}
	return []node.Verb{
		{Name: "sidekiq", Run: serve(readSidekiq)},
		{Name: "db", Run: serve(readDatabase)},
		{Name: "db.activity", Run: serve(readActivity)},
		{Name: "database.dumptools", Run: serve(dumps.findDumpTools)},
		{Name: "database.dump", Stream: dumps.dump},
		{Name: "database.dumplist", Run: node.Typed(dumps.dumpList)},
		{Name: "db.tables", Run: serve(readTables)},
		{Name: "env.outside", Run: serve(readOutside)},
		{Name: "redis", Run: serve(readRedis)},
		{Name: "probe", Run: serve(runProbe)},
		{Name: "packs", Run: serve(askPacks)},
		{Name: "packs.list", Run: serve(listPacks)},
		{Name: "search", Run: serve(readSearch)},
		{Name: "libraries", Run: serve(readLibraries)},
	}
}

// ReadSidekiq asks a node that reaches Redis for the state of all Sidekiq
// processes and queues of the fleet.
func ReadSidekiq(ctx context.Context, a *node.Agent, in SidekiqIn) (SidekiqState, error) {
	return call[SidekiqState](ctx, a, "sidekiq", in, nil)
}

// ReadDatabase asks a node for everything about the database but what goes on in
// it this moment.
func ReadDatabase(ctx context.Context, a *node.Agent, in DatabaseIn) (Database, error) {
	return call[Database](ctx, a, "db", in, nil)
}

// ReadActivity asks who migrates, what that waits for and what waits behind it.
// It is cheap enough to be asked every second.
func ReadActivity(ctx context.Context, a *node.Agent, in ActivityIn) (Activity, error) {
	return call[Activity](ctx, a, "db.activity", in, nil)
}

// ReadRedis asks a node for the Redis servers that its environment names.
func ReadRedis(ctx context.Context, a *node.Agent, in RedisIn) (RedisServers, error) {
	return call[RedisServers](ctx, a, "redis", in, nil)
}

// RunProbe asks a web node to look at its own Puma and streaming server. A check
// that fails is part of the result, not an error.
func RunProbe(ctx context.Context, a *node.Agent, in ProbeIn) (Probe, error) {
	return call[Probe](ctx, a, "probe", in, nil)
}

// AskPacks asks a web node's Puma for every file named and tells which are not
// answered with 200.
func AskPacks(ctx context.Context, a *node.Agent, in PacksIn, say func(string)) (Packs, error) {
	return call[Packs](ctx, a, "packs", in, say)
}

// ListPacks asks a host for the hashed assets of a release that lies there,
// node.ErrNotFound for one without a manifest.
func ListPacks(ctx context.Context, a *node.Agent, in ListPacksIn) (PackList, error) {
	return call[PackList](ctx, a, "packs.list", in, nil)
}

// ReadSearch asks a node for the search server that its environment names.
func ReadSearch(ctx context.Context, a *node.Agent, in SearchIn) (Search, error) {
	return call[Search](ctx, a, "search", in, nil)
}

// ReadLibraries looks for shared libraries that a release's native gems need and
// the host lacks.
func ReadLibraries(ctx context.Context, a *node.Agent, in LibrariesIn) (Libraries, error) {
	return call[Libraries](ctx, a, "libraries", in, nil)
}

func call[Out any](ctx context.Context, a *node.Agent, verb string, in any, say func(string)) (Out, error) {
	var out Out
	err := a.Call(ctx, verb, in, nil, &out, say)
	return out, err
}
