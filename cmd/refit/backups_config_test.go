package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

type account struct{}

func (account) Backups(context.Context, string) ([]cloud.Backup, error) { return nil, nil }

// written parses the example with a block of backups, a store and a cloud account.
func written(t *testing.T, backups string) config {
	t.Helper()
	text := strings.Replace(string(exampleYML), "# backups:", "cloud: {token: {env: A}, database: vmst-db}\nbackups: "+backups+"\n#", 1)
	c, err := parseConfig("refit.yml", []byte(strings.Replace(text, "  # dir: ~/.local/share/refit/artifacts", "  dir: kept", 1)))
	if err != nil {
		t.Fatal(err)
	}
	c.dir = t.TempDir()
	return c
}

func TestBackupsAreWiredAsTheyAreWrittenDown(t *testing.T) {
	x := &session{config: written(t, "{max_age: 26h, own: {max_age: 5h, command: {host: uhura, argv: [/usr/local/bin/last-backup, majel]}}, dump: one-way}"), say: t.Logf}
	if err := x.wireBackups(account{}); err != nil {
		t.Fatal(err)
	}
	b := x.deps.Backups
	if b.Provider != (account{}) || b.Database != "vmst-db" || b.MaxAge != 26*time.Hour || b.Dump != stages.DumpOneWay || b.Keep != 3 || b.Fleet != "vmst.io" ||
		b.Own.Host != "uhura" || len(b.Own.Argv) != 2 || b.Own.MaxAge != 5*time.Hour || b.Own.Bucket != nil {
		t.Errorf("%+v, own %+v", b, b.Own)
	}
	if err := x.wireBackups(nil); err == nil || !strings.Contains(err.Error(), "backups.max_age cannot be held") {
		t.Errorf("without an account: %v", err)
	}
	t.Setenv("B2_KEY", "x")
	x = &session{config: written(t, `{own: {max_age: 5h, s3: {endpoint: "https://s3.example", bucket: vmst-backups, prefix: db, access_key: {env: B2_KEY}, secret_key: {env: B2_KEY}}}}`), say: t.Logf}
	if err := x.wireBackups(nil); err != nil {
		t.Fatal(err)
	}
	if b := x.deps.Backups; b.Provider != nil || b.Dump != stages.DumpNever || b.Own.Bucket.String() != "https://s3.example/vmst-backups/db" {
		t.Errorf("%+v, own %+v", b, b.Own)
	}
	x = &session{config: defaults()}
	if err := x.wireBackups(nil); err != nil || x.deps.Backups != nil {
		t.Errorf("nothing written down: %+v, %v", x.deps.Backups, err)
	}
}

func TestDumpsAreListedBesideArtifacts(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	s := &store.Store{Bucket: store.Dir{Path: dir}, Now: func() time.Time { return at }}
	d, err := s.PutDump(t.Context(), store.Dump{Fleet: "vmst.io", Run: "20261120-120000-aaaaa", Database: "mastodon", Server: "17.6", Taken: at}, store.DumpParts{
		Write: func(_ context.Context, w io.Writer, _ *store.Dump) error {
			_, err := w.Write(make([]byte, 2048))
			return err
		},
		Check: func(context.Context, io.Reader, *store.Dump) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bucket.Put(t.Context(), "dump/other/20261120-120000-aaaaa/database.pgdump", strings.NewReader("torn")); err != nil {
		t.Fatal(err)
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"refit", "artifacts", "--config", storing(t, dir)}, nil, &out, &errw); code != exitDone {
		t.Fatalf("exit %d: %s", code, errw.String())
	}
	for _, want := range []string{
		"dump of mastodon of vmst.io,  2.0 KiB  2026-11-20 12:00, by run 20261120-120000-aaaaa, PostgreSQL 17.6: " + d.Key() + "\n",
		"1 objects of no whole dump, 4 B",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "of no artifact") {
		t.Errorf("a dump counts as a stray:\n%s", out.String())
	}
}

func TestARunThatFailedSaysWhatTheDatabaseIsRestoredTo(t *testing.T) {
	f := &stages.Facts{RestoreBefore: &stages.RestoreTo{At: time.Date(2026, 11, 22, 7, 30, 0, 999, time.UTC), LSN: "4F/C0"}}
	const want = "restore the database to 2026-11-22T07:30:00Z, log position 4F/C0"
	for status, said := range map[pipeline.Status]bool{pipeline.Done: false, pipeline.Undone: false, pipeline.Refused: false, pipeline.Person: true, pipeline.Interrupted: true, "": true} {
		if got := restores(status, f); (len(got) == 1 && strings.Contains(got[0], want)) != said {
			t.Errorf("%q: %q", status, got)
		}
	}
	f.Applied = []builds.Migration{{Version: "20251101000000"}}
	if got := restores(pipeline.Undone, f); len(got) != 1 {
		t.Errorf("with a migration that stays: %q", got)
	}
}
