package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// dump writes the whole database to the store before anything of it is changed. It goes
// on beside what serves; only what alters tables would wait for it.
type dump struct {
	d   Deps
	f   *Facts
	run string
}

func (dump) Name() string { return "dump" }

func (dump) Check(context.Context, pipeline.Say) error { return nil }

func (s dump) Run(ctx context.Context, say pipeline.Say) error {
	if s.d.Backups == nil {
		return pipeline.Refuse("%w", errNoBackups)
	}
	if s.d.Store == nil {
		return pipeline.Refuse("%s", noStore(s.f.asked(s.d).Dump))
	}
	found, err := s.d.Store.FindDump(ctx, s.d.Backups.Fleet, s.run)
	if err == nil {
		s.note(found)
		say("found whole: %s", s.f.Dump)
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	db, err := s.d.database(ctx)
	if err != nil {
		return err
	}
	for _, r := range databaseRules(db) {
		return pipeline.Refuse("%s", r)
	}
	if job, err := s.d.migrator().Agent.JobStatus(ctx, preUnit); err != nil || job.State == node.JobRunning {
		if err == nil {
			say("%s is at work, which a dump would hold up: none is taken any more", preUnit)
		}
		return err
	}
	n, why := dumper(s.d, s.d.lookForDumpers(ctx), db)
	if why != "" {
		return pipeline.Refuse("%s", why)
	}
	stored, err := s.take(ctx, n, db, say)
	if err != nil {
		return err
	}
	s.note(stored)
	say("%s: %d tables, read back from there", s.f.Dump, stored.Tables)
	return nil
}

// take dumps on a node, into the store, and reads the archive's contents back there.
func (s dump) take(ctx context.Context, n Node, db mastodon.Database, say pipeline.Say) (store.Dump, error) {
	major := db.Number / 10000
	say("%s: dumping %s (%s) to %s", n.Name, db.Direct.Name, humanize.IBytes(uint64(db.Size)), s.d.Store)
	d := store.Dump{
		Fleet: s.d.Backups.Fleet, Run: s.run, From: s.f.From.Version.String(), To: s.f.To.Version.String(),
		Database: db.Direct.Name, Server: db.Server, Host: n.Name, Taken: db.Now.UTC(),
	}
	stored, err := s.d.Store.PutDump(ctx, d, store.DumpParts{
		// A value that cannot be compressed is written in two letters a byte.
		Most: 2 * db.Size,
		Write: func(ctx context.Context, w io.Writer, d *store.Dump) error {
			out, err := mastodon.Dump(ctx, n.Agent, mastodon.DumpIn{Layout: s.d.Layout, Direct: s.d.Direct, Major: major}, &meter{w: w, say: sayer(n, say), at: time.Now()}, sayer(n, say))
			d.Program = out.Program
			return err
		},
		Check: func(ctx context.Context, r io.Reader, d *store.Dump) error {
			list, err := mastodon.ListDump(ctx, n.Agent, mastodon.DumpListIn{Layout: s.d.Layout, Major: major}, io.LimitReader(r, contentsWithin))
			if err != nil {
				return fmt.Errorf("what lies in the store cannot be read: %w", err)
			}
			if list.Database != d.Database || !list.Migrations {
				return fmt.Errorf("%w: it is of the database %q with %d tables, and schema_migrations must be among them", store.ErrDamaged, list.Database, list.Tables)
			}
			d.Entries, d.Tables = list.Entries, list.Tables
			return nil
		},
	})
	if err != nil {
		return stored, fmt.Errorf("%s: the database was not dumped: %w", n.Name, err)
	}
	return stored, nil
}

// contentsWithin is within how much of an archive's beginning its table of contents ends,
// in bytes: a hundred times what Mastodon's takes.
const contentsWithin = 64 << 20

func (s dump) note(d store.Dump) {
	s.f.Dump = fmt.Sprintf("%s in %s (%s, as of %s)", d.Key(), s.d.Store, humanize.IBytes(uint64(d.Archive.Size)), instant(d.Taken))
}

// Undo keeps the dump: who goes back may want it most. It is removed as later ones come.
func (s dump) Undo(_ context.Context, say pipeline.Say) error {
	if s.f.Dump != "" {
		say("the dump stays: %s", s.f.Dump)
	}
	return nil
}

// meter says now and then how much went through it.
type meter struct {
	w   io.Writer
	say func(string)
	at  time.Time
	n   int64
}

func (m *meter) Write(b []byte) (int, error) {
	k, err := m.w.Write(b)
	m.n += int64(k)
	if now := time.Now(); now.Sub(m.at) >= time.Minute {
		m.at = now
		m.say(humanize.IBytes(uint64(m.n)) + " of the dump are in the store")
	}
	return k, err
}

// Dumpers are what nodes have to dump a database with, by node, each with the error of one
// that could not be asked.
type Dumpers struct {
	Tools map[string]mastodon.DumpTools
	Err   map[string]error
}

// asked tells whether nodes were asked. They are not where refit.yml asks for no dump any
// more since the plan was made; the step itself asks again.
func (d Dumpers) asked() bool { return d.Tools != nil }

// lookForDumpers asks every node that can reach the database.
func (d Deps) lookForDumpers(ctx context.Context) Dumpers {
	out := Dumpers{map[string]mastodon.DumpTools{}, map[string]error{}}
	var mu sync.Mutex
	gather(d.Fleet.Apps(), func(n Node) {
		t, err := mastodon.FindDumpTools(ctx, n.Agent)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			out.Err[n.Name] = err
			return
		}
		out.Tools[n.Name] = t
	})
	return out
}

// dumper is the node that dumps the database: the one that migrates, else another worker,
// else a web node. why says that there is none, and what to install where.
func dumper(d Deps, have Dumpers, db mastodon.Database) (n Node, why string) {
	major, first := db.Number/10000, d.migrator()
	order := append(Fleet{first}, d.sidekiqs().But(first.Name)...)
	var seen []string
	for _, n := range append(order, d.webs()...) {
		t := have.Tools[n.Name]
		if _, ok := t.For(major); ok {
			return n, ""
		}
		switch err := have.Err[n.Name]; {
		case err != nil:
			seen = append(seen, err.Error())
		case len(t.Tools) == 0:
			seen = append(seen, n.Name+" has none")
		default:
			seen = append(seen, fmt.Sprintf("%s has %s", n.Name, t.Tools[len(t.Tools)-1].Version))
		}
	}
	return Node{}, fmt.Sprintf("no node has a pg_dump that reads PostgreSQL %d (%s): install %s on %s", major, strings.Join(seen, ", "), mastodon.DumpPackage(major), first.Name)
}

func noStore(p DumpPolicy) string {
	return fmt.Sprintf("backups.dump is %s, and refit.yml names no store to dump to: give it one", p)
}

// dumpable: what a dump needs is there. It takes no room on any host.
func (j *judgement) dumpable() {
	switch {
	case !j.f.asked(j.d).dumps(j.f):
	case j.d.Backups == nil:
		j.refuse("%v", errNoBackups)
	case j.d.Store == nil:
		j.refuse("%s", noStore(j.f.asked(j.d).Dump))
	case j.v.StoreErr != nil:
		j.refuse("the store cannot be asked, and the database is to be dumped to it: %v", j.v.StoreErr)
	case j.v.DatabaseErr == nil && j.v.Dumpers.asked():
		if _, why := dumper(j.d, j.v.Dumpers, j.v.Database); why != "" {
			j.refuse("%s", why)
		}
	}
}
