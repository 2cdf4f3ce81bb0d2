package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// backed is a configuration with a store in a folder, a dump before every upgrade, and a
// command on uhura that says when the last backup was made.
func (f *fleet) backed(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b) + fmt.Sprintf("\nstore: {dir: %s}\nbackups:\n  dump: always\n  own: {max_age: 5h, command: {host: uhura, argv: [/usr/local/bin/last-backup]}}\n", dir)
	file := filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lastBackup makes the command on uhura say a time.
func (f *fleet) lastBackup(t *testing.T, at time.Time) {
	t.Helper()
	file := filepath.Join(f.Root("uhura"), "usr/local/bin/last-backup")
	script := fmt.Sprintf("#!/bin/sh\n[ \"$(id -u)\" != 0 ] || { echo it has the rights of root >&2; exit 1; }\necho %s\n", at.UTC().Format(time.RFC3339))
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(file); err != nil {
			t.Error(err)
		}
	})
}

// TestLabADumpIsInTheStoreBeforeTheFirstMigration proves by the dump itself, which is read
// by PostgreSQL's own program on a host, that it was taken before the first migration.
func TestLabADumpIsInTheStoreBeforeTheFirstMigration(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	dir := t.TempDir()
	config, upgrade := f.backed(t, dir), []string{"upgrade", "--to", "v4.6.0", "--yes"}

	before := f.fingerprint(t)
	f.lastBackup(t, time.Now().Add(-6*time.Hour))
	f.must(t, 3, config, upgrade, "the newest backup of your own in uhura (as /usr/local/bin/last-backup says) is 6h0m", "backups.own.max_age is 5h0m0s")
	f.lastBackup(t, time.Now().Add(time.Hour))
	f.must(t, 3, config, upgrade, "ahead of this machine's clock")
	f.same(t, before)

	f.lastBackup(t, time.Now().Add(-time.Hour))
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			a := f.must(t, 0, config, upgrade, "before the pre-migrations the database is at 20", "read back from there", "DONE")
			dump, migrate := strings.Index(a.err, "dump: begun"), strings.Index(a.err, "pre-migrate on scotty: begun")
			if dump < 0 || migrate < dump {
				t.Errorf("the dump was begun at %d and the migrations at %d:\n%s", dump, migrate, a.err)
			}
		})
		kept, err := filepath.Glob(filepath.Join(dir, "dump", "*", "*", "database.pgdump"))
		if err != nil || len(kept) != 1 {
			t.Fatalf("kept %v, %v", kept, err)
		}
		b, err := os.ReadFile(kept[0])
		if err != nil {
			t.Fatal(err)
		}
		on := filepath.Join(f.Root("scotty"), "var/tmp/refit-lab.pgdump")
		if err := os.WriteFile(on, b, 0o644); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Remove(on); err != nil {
				t.Error(err)
			}
		}()
		if list := f.onHost(t, "scotty", "pg_restore", "--list", "/var/tmp/refit-lab.pgdump"); !strings.Contains(list, "TABLE DATA public accounts") {
			t.Errorf("its contents are\n%s", list)
		}
		rows := f.onHost(t, "scotty", "pg_restore", "--data-only", "--table=schema_migrations", "--file=-", "/var/tmp/refit-lab.pgdump")
		if strings.Contains(rows, "20251118115700") || !strings.Contains(rows, "COPY public.schema_migrations") {
			t.Errorf("it has a migration that came after it:\n%s", rows)
		}
		if now := f.sql(t, "select count(*) from schema_migrations where version = '20251118115700'"); strings.TrimSpace(now) != "1" {
			t.Errorf("the database has it %s times", now)
		}
		f.must(t, 0, config, []string{"artifacts"}, "dump of mastodon of ")
		f.must(t, 0, config, []string{"rollback", "--yes"}, "the dump stays: dump/")
	})
	f.runsEverywhere(t, "v4.5.2")
}
