package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Ground is the fleet as the engine looks at it after a step has failed: every
// host and its boot, each node's way to Redis, the database that takes writes.
func (d Deps) Ground() pipeline.Ground { return ground{d} }

type ground struct{ d Deps }

// Look sees all hosts at once.
func (g ground) Look(ctx context.Context) pipeline.Footing {
	f := pipeline.Footing{Marks: map[string]string{}, Missing: map[string]error{}}
	var mu sync.Mutex
	noRedis := map[string]error{}
	gather(g.d.Fleet, func(n Node) {
		marks, err := g.host(ctx, n)
		var redis *redisError
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.As(err, &redis):
			noRedis[n.Name] = err
		case err != nil:
			f.Missing[n.Name] = err
		default:
			maps.Copy(f.Marks, marks)
		}
	})
	g.blame(f, noRedis)
	mark, err := g.database(ctx, f)
	switch {
	case err != nil:
		f.Missing["the database"] = err
	case mark != "":
		f.Marks["the database"] = mark
	}
	return f
}

// redisError is what a node answered that does not reach Redis.
type redisError struct{ error }

func (e *redisError) Unwrap() error { return e.error }

// blame names what is missing where Redis is not reached: the node that alone does
// not reach it, or Redis, if no node that answers does.
func (g ground) blame(f pipeline.Footing, noRedis map[string]error) {
	answer := 0
	for _, n := range g.d.Fleet.Apps() {
		if f.Missing[n.Name] == nil {
			answer++
		}
	}
	if len(noRedis) < 2 || len(noRedis) < answer {
		maps.Copy(f.Missing, noRedis)
		return
	}
	for _, n := range g.d.Fleet.Apps() { // in the fleet's order, so that the words stay the same
		if err := noRedis[n.Name]; err != nil {
			f.Missing["Redis"] = fmt.Errorf("no node reaches it; %w", err)
			return
		}
	}
}

// host asks one host for its boot, for what this run left at work there, and a node
// that runs Mastodon for the Redis servers that it reaches.
func (g ground) host(ctx context.Context, n Node) (map[string]string, error) {
	facts, err := n.Agent.Facts(ctx, node.FactsIn{})
	if err != nil {
		return nil, err
	}
	marks := map[string]string{n.Name: facts.Boot}
	fence, err := n.Agent.FenceShow(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range fence.Verbs {
		// Its caller lost it; it must not meet its own repetition.
		if v.Run == n.Agent.Run && n.Agent.Epoch != nil && v.Epoch == n.Agent.Epoch() {
			return nil, fmt.Errorf("%s: %s, whose answer was lost, is still at work there", n.Name, v)
		}
	}
	if !n.Has(hosts.Web) && !n.Has(hosts.Sidekiq) {
		return marks, nil
	}
	redis, err := mastodon.ReadRedis(ctx, n.Agent, mastodon.RedisIn{Layout: g.d.Layout})
	if err != nil && !g.Shook(err) {
		err = &redisError{err}
	}
	if err != nil {
		return nil, err
	}
	for _, s := range redis.Servers {
		marks["Redis ("+strings.Join(s.Uses, ", ")+")"] = s.RunID
	}
	return marks, nil
}

// database asks the first node that answers for the database. Where none does, the
// nodes are what is missing.
func (g ground) database(ctx context.Context, f pipeline.Footing) (string, error) {
	for _, n := range append(Fleet{g.d.migrator()}, g.d.Fleet.Apps()...) {
		if f.Missing[n.Name] != nil {
			continue
		}
		// Which server it is and whether it takes writes is all that counts: while the
		// first release is built the database may hold nothing yet.
		db, err := mastodon.ReadDatabase(ctx, n.Agent, mastodon.DatabaseIn{Layout: g.d.Layout, Direct: g.d.Direct, SkipApp: true, SkipSchema: true})
		switch {
		case err != nil && g.Shook(err):
			continue
		case err != nil:
			return "", err
		case db.InRecovery:
			return "", fmt.Errorf("the database at %s:%d takes no writes: it is a standby that was not promoted yet", g.d.Direct.Host, g.d.Direct.Port)
		}
		return db.Started.UTC().String(), nil
	}
	return "", nil
}

// Shook tells whether an error is of the link to a host.
func (ground) Shook(err error) bool { return lost(err) }

// lost tells that a host did not answer. What it would have said is not known: a step
// that takes it for a no would work on, unsaid, against a host that is away.
func lost(err error) bool {
	return errors.Is(err, hosts.ErrUnreachable) || errors.Is(err, hosts.ErrSilent) || errors.Is(err, hosts.ErrLost)
}
