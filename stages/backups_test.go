package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// copies is what a world knows of its database's copies.
type copies struct {
	own    time.Time // of the last backup, as the command on uhura tells
	ownErr error
	asked  int // for it

	tools   map[string][]int // pg_dump's versions, by node; nil for 17 on every one
	archive string
	listed  *mastodon.DumpList // what the archive's contents are said to be
	cutAt   int                // after so many bytes the link is gone; 0 for never
	dumps   int                // begun
}

// copying are the verbs for that.
func (w *world) copying(n Node) []node.Verb {
	return []node.Verb{
		answer(w, n, "backup.last", func(in node.LastBackupIn) (node.LastBackup, error) {
			w.copies.asked++
			if n.Name != "uhura" || in.Argv[0] != "/usr/local/bin/last-backup" {
				return node.LastBackup{}, fmt.Errorf("%s has no %q", n.Name, in.Argv)
			}
			return node.LastBackup{At: w.copies.own, Clock: time.Now()}, w.copies.ownErr
		}),
		answer(w, n, "database.dumptools", func(mastodon.DumpToolsIn) (mastodon.DumpTools, error) {
			have := []int{17}
			if w.copies.tools != nil {
				have = w.copies.tools[n.Name]
			}
			var out mastodon.DumpTools
			for _, major := range have {
				out.Tools = append(out.Tools, mastodon.DumpTool{Version: fmt.Sprintf("%d.6", major), Major: major})
			}
			return out, nil
		}),
		{Name: "database.dump", Stream: func(_ context.Context, raw json.RawMessage, to io.Writer, _ func(string)) (any, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.deeds = append(w.deeds, n.Name+": dump")
			w.copies.dumps++
			if k := w.copies.cutAt; k > 0 {
				if _, err := io.WriteString(to, w.copies.archive[:k]); err != nil {
					return nil, err
				}
				return nil, errDown
			}
			_, err := io.WriteString(to, w.copies.archive)
			return mastodon.DumpOut{Program: "17.6"}, err
		}},
		{Name: "database.dumplist", Run: node.Typed(func(_ context.Context, _ mastodon.DumpListIn, r io.Reader, _ func(string)) (mastodon.DumpList, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			head := make([]byte, 5)
			if _, err := io.ReadFull(r, head); err != nil || string(head) != "PGDMP" {
				return mastodon.DumpList{}, fmt.Errorf("did not find magic string in %q: %w", head, err)
			}
			if w.copies.listed != nil {
				return *w.copies.listed, nil
			}
			return mastodon.DumpList{Entries: 900, Tables: 120, Database: "mastodon", Migrations: true}, nil
		})},
	}
}

// provider is an account with backups of one database.
type provider struct {
	all []cloud.Backup
	err error
}

func (p *provider) Backups(_ context.Context, database string) ([]cloud.Backup, error) {
	if database != "vmst-db" {
		return nil, cloud.ErrNotFound
	}
	return p.all, p.err
}

// shelf lists objects.
type shelf []store.Item

func (s shelf) List(context.Context, string) ([]store.Item, error) { return s, nil }
func (s shelf) String() string                                     { return "https://s3.example/vmst-backups/db" }

const aRun = "20261122-073000-aaaaa"

// kept gives a world backups that are fresh, and a store.
func (w *world) kept() *provider {
	p := &provider{all: []cloud.Backup{{At: time.Now().Add(-30 * time.Hour)}, {At: time.Now().Add(-20 * time.Hour)}}}
	w.d.Backups = &Backups{
		Provider: p, Database: "vmst-db", MaxAge: 26 * time.Hour, Dump: DumpAlways, Keep: 2, Fleet: "vmst.io",
		Own: &OwnBackup{Host: "uhura", Argv: []string{"/usr/local/bin/last-backup"}, MaxAge: 5 * time.Hour},
	}
	w.d.Store = &store.Store{Bucket: store.Dir{Path: w.t.TempDir()}}
	w.copies.own, w.copies.archive = time.Now().Add(-4*time.Hour), "PGDMP and the rows"
	w.db.Size, w.db.LSN = 1<<30, "4F/C0"
	return p
}

func TestABackupThatIsNotAsFreshAsItMustBeIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *provider)
		want   string // "" for none
	}{
		"all fresh":        {func(*world, *provider) {}, ""},
		"exactly as old":   {func(w *world, p *provider) { p.all = []cloud.Backup{{At: time.Now().Add(-26 * time.Hour)}} }, ""},
		"a second older":   {func(w *world, p *provider) { p.all = []cloud.Backup{{At: time.Now().Add(-26*time.Hour - time.Second)}} }, "the provider's newest backup of vmst-db is 26h0m1s old (of "},
		"none at all":      {func(w *world, p *provider) { p.all = nil }, "the provider's newest backup of vmst-db: there is none, and backups.max_age is 26h0m0s"},
		"not to be asked":  {func(w *world, p *provider) { p.all, p.err = nil, &cloud.ScopeError{Scope: "database:read"} }, "the age of the provider's newest backup of vmst-db is not known, and backups.max_age is 26h0m0s: the token lacks the scope database:read"},
		"half an answer":   {func(w *world, p *provider) { p.err = cloud.ErrLimit }, "is not known"},
		"another database": {func(w *world, p *provider) { w.d.Backups.Database = "other" }, "not in the account"},
		"own, stale": {
			func(w *world, p *provider) { w.copies.own = time.Now().Add(-6 * time.Hour) },
			"the newest backup of your own in uhura (as /usr/local/bin/last-backup says) is 6h0m0s old (of ",
		},
		"own, unknown":           {func(w *world, p *provider) { w.copies.ownErr = errDown }, "backups.own.max_age is 5h0m0s: uhura: the link is gone"},
		"own, the host is away":  {func(w *world, p *provider) { w.d.Backups.Own.Host = "picard" }, "the fleet has no host picard"},
		"from the future":        {func(w *world, p *provider) { w.copies.own = time.Now().Add(time.Hour) }, "which is 1h0m0s ahead of this machine's clock: set the clock that is wrong"},
		"a clock a little ahead": {func(w *world, p *provider) { w.copies.own = time.Now().Add(4 * time.Minute) }, ""},
		"own, of objects": {func(w *world, p *provider) {
			w.d.Backups.Own = &OwnBackup{MaxAge: 5 * time.Hour, Bucket: shelf{{Key: "a", Size: 9, Modified: time.Now().Add(-time.Hour)}, {Key: "b", Size: 9, Modified: time.Now().Add(-9 * time.Hour)}}}
		}, ""},
		"own, only an empty object is new": {func(w *world, p *provider) {
			w.d.Backups.Own = &OwnBackup{MaxAge: 5 * time.Hour, Bucket: shelf{{Key: "a", Modified: time.Now()}, {Key: "b", Size: 9, Modified: time.Now().Add(-9 * time.Hour)}}}
		}, "the newest backup of your own in https://s3.example/vmst-backups/db is 9h0m0s old"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c.change(w, w.kept())
				err := (preflight{w.d, w.f}).Run(t.Context(), w.say)
				switch {
				case c.want == "" && err != nil:
					t.Error(err)
				case c.want != "" && (!errors.Is(err, pipeline.ErrRefused) || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%v\nwanted %s", err, c.want)
				}
				did(t, w, "")
			})
		})
	}
}

func TestAFleetWithoutBackupsAsksForNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil || w.copies.asked > 0 {
			t.Errorf("%v, asked %d times", err, w.copies.asked)
		}
		w.onNew()
		w.db.Applied = append(w.db.Applied, preMigration.Version)
		if err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil || w.copies.asked > 0 || w.f.RestoreBeforePost != nil {
			t.Errorf("%v, asked %d times, %v", err, w.copies.asked, w.f.RestoreBeforePost)
		}
	})
}

func TestBackupsAreAskedForAgainRightBeforeThePointOfNoReturn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		w.onNew()
		w.db.Applied = append(w.db.Applied, preMigration.Version)
		if err := pause(t.Context(), 2*time.Hour); err != nil { // a soak, or a person's night
			t.Fatal(err)
		}
		err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "every node runs v4.5.15, and its post-migrations (20251102000000 drop_a_column) wait for a backup", "`refit resume`; `refit rollback` still works")
		failsWith(t, err, "is 6h0m", "backups.own.max_age is 5h0m0s")
		if w.f.PostBegun || w.f.RestoreBeforePost != nil {
			t.Errorf("begun %t, %v", w.f.PostBegun, w.f.RestoreBeforePost)
		}
		did(t, w, "")

		w.copies.ownErr = errDown
		err = (postMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "wait for a backup", "`refit resume`")
		failsWith(t, err, "is not known", "uhura: the link is gone")
		did(t, w, "")

		w.copies.own, w.copies.ownErr = time.Now(), nil
		before := time.Now()
		if err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if at := w.f.RestoreBeforePost; at == nil || at.At.Before(before) || at.LSN != "4F/C0" || !w.heard("the newest backup of your own in uhura") {
			t.Errorf("noted %v", at)
		}
		did(t, w, "scotty: start refit-migrate-post.service")
	})
}

func TestPostMigrationsThatHaveBegunDoNotWaitForABackup(t *testing.T) {
	second := builds.Migration{Version: "20251103000000", Name: "drop_another", Post: true}
	for name, begun := range map[string]func(*world){
		"one is applied": func(w *world) {
			w.f.Post = append(w.f.Post, second)
			w.db.Applied = append(w.db.Applied, second.Version)
		},
		"the unit was begun": func(w *world) { w.f.PostBegun = true },
		"it is at work": func(w *world) {
			argv := migration{w.d, w.f, true}.recipe().Argv
			w.jobs[postUnit] = node.Job{Unit: postUnit, State: node.JobRunning, Argv: argv, Began: time.Now()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.kept()
				w.onNew()
				w.db.Applied = append(w.db.Applied, preMigration.Version)
				was := &RestoreTo{At: morning}
				w.f.RestoreBeforePost, w.copies.own = was, morning
				begun(w)
				if err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil || w.f.RestoreBeforePost != was {
					t.Errorf("%v, noted %v", err, w.f.RestoreBeforePost)
				}
			})
		})
	}
}

func TestTheInstantBeforeMigrationsIsNotedOnceAndOnlyBeforeThem(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		s := restorePoint{w.d, w.f, false}
		now := time.Now()
		if err := s.Run(t.Context(), w.say); err != nil || w.f.RestoreBefore == nil || !w.f.RestoreBefore.At.Equal(now) {
			t.Fatalf("%v, noted %v", err, w.f.RestoreBefore)
		}
		b, err := json.Marshal(w.f)
		var back Facts
		if err := errors.Join(err, json.Unmarshal(b, &back)); err != nil || *back.RestoreBefore != *w.f.RestoreBefore {
			t.Errorf("%v, journalled %v", err, back.RestoreBefore)
		}
		if got := back.Restores(); len(got) != 1 || !strings.Contains(got[0], "restore the database to "+now.UTC().Format(time.RFC3339)+", log position 4F/C0") {
			t.Errorf("%q", got)
		}
		// As when a run is taken up again in the middle of them.
		w.db.Applied = append(w.db.Applied, preMigration.Version)
		was := *w.f.RestoreBefore
		if err := pause(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), w.say); err != nil || *w.f.RestoreBefore != was {
			t.Errorf("%v, then %v", err, w.f.RestoreBefore)
		}
		w.f.RestoreBefore = nil
		if err := s.Run(t.Context(), w.say); err != nil || w.f.RestoreBefore != nil || !w.heard("the pre-migrations have begun, and the instant before them is not known") {
			t.Errorf("%v, then %v", err, w.f.RestoreBefore)
		}
		w.dbFails = errDown
		if err := s.Run(t.Context(), w.say); err == nil {
			t.Error("the database was away, and nothing was said")
		}
		needsPerson(t, (restorePoint{w.d, w.f, true}).Run(t.Context(), w.say), "every node runs v4.5.15", "`refit resume`")
	})
}

func TestTheTableHasDumpAndRestorePointsWhereTheyAreAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		dump      DumpPolicy
		pre, post []builds.Migration
		want      []string
	}{
		"always":               {DumpAlways, []builds.Migration{preMigration}, []builds.Migration{postMigration}, []string{"bridge assets", "dump", "restore point", "pre-migrate", "soak", "last restore point", "post-migrate"}},
		"always, no migration": {DumpAlways, nil, nil, []string{"bridge assets", "dump", "pre-migrate", "soak", "post-migrate"}},
		"one-way":              {DumpOneWay, nil, []builds.Migration{postMigration}, []string{"bridge assets", "dump", "pre-migrate", "soak", "last restore point", "post-migrate"}},
		"one-way, none is":     {DumpOneWay, []builds.Migration{preMigration}, nil, []string{"bridge assets", "restore point", "pre-migrate", "soak", "post-migrate"}},
		"never":                {DumpNever, []builds.Migration{preMigration}, []builds.Migration{postMigration}, []string{"bridge assets", "restore point", "pre-migrate", "soak", "last restore point", "post-migrate"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, f := someDeps(), someFacts(t)
			d.Backups, f.Pre, f.Post = &Backups{Dump: c.dump}, c.pre, c.post
			got := slices.DeleteFunc(stepNames(Upgrade("u-1", d, f)), func(s string) bool {
				return !slices.Contains([]string{"bridge assets", "dump", "restore point", "pre-migrate", "soak", "last restore point", "post-migrate"}, s)
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("%q; wanted %q", got, c.want)
			}
		})
	}
}

func (w *world) dumps(t *testing.T) []store.Dump {
	t.Helper()
	list, err := w.d.Store.List(t.Context())
	if err != nil || len(list.Torn) > 0 {
		t.Fatalf("%v, torn %v", err, list.Torn)
	}
	return list.Dumps
}

func TestADumpLiesWholeInTheStoreAndIsNotMadeTwiceByOneRun(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		now := time.Now()
		for range 2 { // the second as after a kill
			if err := (dump{w.d, w.f, aRun}).Run(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
		}
		all := w.dumps(t)
		if len(all) != 1 || all[0].Run != aRun || all[0].Fleet != "vmst.io" || all[0].Host != "scotty" || all[0].Tables != 120 || !all[0].Taken.Equal(now) || all[0].From != "v4.5.14" {
			t.Fatalf("%+v", all)
		}
		r, err := w.d.Store.OpenDump(t.Context(), all[0])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, []byte(w.copies.archive)) || r.Close() != nil {
			t.Errorf("%q, %v", b, err)
		}
		did(t, w, "scotty: dump")
		if err := (dump{w.d, w.f, aRun}).Undo(t.Context(), w.say); err != nil || !w.heard("the dump stays: dump/vmst.io/"+aRun+"/database.pgdump in ") || len(w.dumps(t)) != 1 {
			t.Errorf("%v, said %q", err, w.said)
		}
		if err := (dump{w.d, w.f, "20261122-093000-bbbbb"}).Run(t.Context(), w.say); err != nil || w.copies.dumps != 2 {
			t.Errorf("another run: %v, %d dumps", err, w.copies.dumps)
		}
	})
}

func TestADumpThatIsCutLeavesNothingAndIsMadeAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		w.copies.cutAt = 9
		s := dump{w.d, w.f, aRun}
		failsWith(t, s.Run(t.Context(), w.say), "scotty: the database was not dumped", "the link is gone")
		if len(w.dumps(t)) > 0 || w.f.Dump != "" {
			t.Errorf("%q", w.f.Dump)
		}
		w.copies.cutAt = 0
		for name, list := range map[string]mastodon.DumpList{
			"of another database":  {Entries: 900, Tables: 120, Database: "postgres", Migrations: true},
			"without its contents": {Database: "mastodon"},
		} {
			w.copies.listed = &list
			if err := s.Run(t.Context(), w.say); !errors.Is(err, store.ErrDamaged) || len(w.dumps(t)) > 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.copies.listed = nil
		if err := s.Run(t.Context(), w.say); err != nil || len(w.dumps(t)) != 1 {
			t.Errorf("then %v", err)
		}
	})
}

func TestNoDumpHoldsUpAMigrationThatIsAtWork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		w.jobs[preUnit], w.lasts = node.Job{Unit: preUnit, State: node.JobRunning}, 9
		if err := (dump{w.d, w.f, aRun}).Run(t.Context(), w.say); err != nil || w.copies.dumps > 0 || !w.heard("none is taken any more") {
			t.Errorf("%v, %d dumps", err, w.copies.dumps)
		}
	})
}

func TestADumpIsMadeWhereAPgDumpIsNewEnough(t *testing.T) {
	for name, c := range map[string]struct {
		tools map[string][]int
		host  string
		why   string
	}{
		"on the migrator":       {map[string][]int{"scotty": {15, 17}, "decker": {17}}, "scotty", ""},
		"a newer one":           {map[string][]int{"scotty": {18}}, "scotty", ""},
		"on another worker":     {map[string][]int{"scotty": {15}, "decker": {17}, "kirk": {17}}, "decker", ""},
		"on a web node":         {map[string][]int{"spock": {17}}, "spock", ""},
		"nowhere, not even old": {map[string][]int{}, "", "no node has a pg_dump that reads PostgreSQL 17 (scotty has none, decker has none, kirk has none, spock has none): install postgresql-client-17 on scotty"},
		"too old everywhere":    {map[string][]int{"scotty": {14, 15}}, "", "scotty has 15.6"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.kept()
				w.copies.tools = c.tools
				asked := (preflight{w.d, w.f}).Run(t.Context(), w.say)
				did(t, w, "")
				err := (dump{w.d, w.f, aRun}).Run(t.Context(), w.say)
				if c.why == "" {
					if asked != nil || err != nil {
						t.Errorf("%v, %v", asked, err)
					}
					did(t, w, c.host+": dump")
					return
				}
				for _, err := range []error{asked, err} {
					if !errors.Is(err, pipeline.ErrRefused) || !strings.Contains(err.Error(), c.why) {
						t.Errorf("%v", err)
					}
				}
			})
		})
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		w.d.Store = nil
		failsWith(t, (preflight{w.d, w.f}).Run(t.Context(), w.say), "backups.dump is always, and refit.yml names no store")
		w.d.Store = &store.Store{Bucket: &ailing{Bucket: store.Dir{Path: t.TempDir()}, list: errDown}}
		failsWith(t, (preflight{w.d, w.f}).Run(t.Context(), w.say), "the store cannot be asked", "the link is gone")
		w.d.Backups.Dump, w.f.Post, w.copies.tools = DumpOneWay, nil, map[string][]int{}
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Errorf("where nothing is dumped: %v", err)
		}
	})
}

func TestOlderDumpsOfTheFleetGoWithTheOldReleases(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.kept()
		runs := []string{"20261120-073000-aaaaa", "20261121-073000-aaaaa", aRun}
		for _, run := range runs {
			if err := (dump{w.d, w.f, run}).Run(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if err := (prune{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		all := w.dumps(t)
		if len(all) != 2 || all[0].Run != runs[2] || all[1].Run != runs[1] || !w.heard("removed from the store: the dump of mastodon taken by run "+runs[0]) {
			t.Errorf("%v, said %q", all, w.said)
		}
	})
}
