package mastodon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/node"
)

// postgres puts programs of PostgreSQL's that are shell scripts on a host that has no
// others, and gives the layout of a Mastodon whose password is "hunter-22".
func postgres(t *testing.T, programs map[string]string) (dumper, Layout) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d := dumper{home: filepath.Join(t.TempDir(), "postgresql")}
	for name, script := range programs {
		file := filepath.Join(d.home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		version, program, _ := strings.Cut(name, "/bin/")
		head := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] && { echo '%s (PostgreSQL) %s.6 (Debian %s.6-1)'; exit 0; }\n", program, version, version)
		if err := os.WriteFile(file, []byte(head+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tools := t.TempDir() // the PATH without the machine's own pg_dump
	for _, name := range []string{"sh", "nice", "cat", "echo", "env", "sleep", "tr"} {
		for _, dir := range []string{"/usr/bin", "/bin"} {
			if os.Symlink(filepath.Join(dir, name), filepath.Join(tools, name)) == nil {
				break
			}
		}
	}
	t.Setenv("PATH", tools)
	l := Layout{User: me.Username, EnvFile: filepath.Join(t.TempDir(), ".env.production")}
	if err := os.WriteFile(l.EnvFile, []byte("DB_HOST=pool.internal\nDB_PORT=25061\nDB_NAME=pool\nDB_USER=mastodon\nDB_PASS=hunter-22\nDB_SSLMODE=require\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, l
}

func (d dumper) dumps(ctx context.Context, l Layout, w io.Writer) (DumpOut, error) {
	raw, err := json.Marshal(DumpIn{Layout: l, Direct: Direct{Host: "majel.internal", Port: 25060, Name: "mastodon"}, Major: 17})
	if err != nil {
		return DumpOut{}, err
	}
	out, err := d.dump(ctx, raw, w, nil)
	if err != nil {
		return DumpOut{}, err
	}
	return out.(DumpOut), nil
}

func TestADumpGoesStraightToTheDatabaseAndItsPasswordStandsOnNoCommandLine(t *testing.T) {
	d, l := postgres(t, map[string]string{
		"17/bin/pg_dump": `echo "PGDMP"; tr '\0' ' ' < /proc/$$/cmdline; echo; env; nice`, "17/bin/pg_restore": "",
		"15/bin/pg_dump": "exit 9", "15/bin/pg_restore": "", "18/bin/pg_dump": "exit 9", "18/bin/pg_restore": "",
	})
	var w bytes.Buffer
	out, err := d.dumps(t.Context(), l, &w)
	if err != nil || out.Program != "17.6" {
		t.Fatalf("%+v, %v", out, err)
	}
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	if lines[0] != "PGDMP" || !strings.HasSuffix(strings.TrimSpace(lines[1]), "--format=custom --no-password --lock-wait-timeout=60s") || strings.Contains(lines[1], "hunter") || strings.Contains(lines[1], "majel") {
		t.Errorf("its command line: %q", lines[:2])
	}
	for _, want := range []string{"PGHOST=majel.internal", "PGPORT=25060", "PGDATABASE=mastodon", "PGUSER=mastodon", "PGPASSWORD=hunter-22", "PGSSLMODE=require"} {
		if !strings.Contains(w.String(), "\n"+want+"\n") {
			t.Errorf("it lacks %s", want)
		}
	}
	if nice := lines[len(lines)-1]; nice != "19" {
		t.Errorf("its niceness is %s", nice)
	}
}

func TestADumpThatFailsSaysWhyAndHidesThePassword(t *testing.T) {
	d, l := postgres(t, map[string]string{
		"17/bin/pg_dump": "echo half; echo 'pg_dump: error: password hunter-22 was refused' >&2; exit 1", "17/bin/pg_restore": "",
	})
	_, err := d.dumps(t.Context(), l, io.Discard)
	if err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "pg_dump of majel.internal:25060, database mastodon: exit status 1: pg_dump: error: password [hidden] was refused") {
		t.Errorf("%v", err)
	}
}

func TestADumpWhoseCallerIsGoneEnds(t *testing.T) {
	d, l := postgres(t, map[string]string{"17/bin/pg_dump": "echo begun; exec sleep 600", "17/bin/pg_restore": ""})
	gone := errors.New("the caller is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	began := time.Now()
	_, err := d.dumps(ctx, l, writerFunc(func(b []byte) (int, error) {
		cancel(gone)
		return len(b), nil
	}))
	if !errors.Is(err, gone) || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestADumpWhoseCallerTakesNothingAnyMoreEndsAndLetsGoOfItsLocks(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	d, l := postgres(t, map[string]string{"17/bin/pg_dump": "echo $$ > " + pid + "; echo begun; exec sleep 600", "17/bin/pg_restore": ""})
	d.stall = 200 * time.Millisecond
	var there error
	_, err := d.dumps(t.Context(), l, writerFunc(func(b []byte) (int, error) {
		// A link that vanished: nothing is refused, and nothing is taken, until pg_dump is gone.
		id, err := os.ReadFile(pid)
		for end := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			_, err = os.Stat(filepath.Join("/proc", strings.TrimSpace(string(id))))
		}
		there = err
		return len(b), nil
	}))
	if err == nil || !strings.Contains(err.Error(), "nobody took what pg_dump wrote for 200ms, so it was ended") {
		t.Errorf("%v", err)
	}
	if !errors.Is(there, os.ErrNotExist) {
		t.Errorf("pg_dump was still there: %v", there)
	}
}

func TestADumpThatIsReadSlowlyButReadIsNotEnded(t *testing.T) {
	d, l := postgres(t, map[string]string{"17/bin/pg_dump": "echo 1; sleep 0.4; echo 2", "17/bin/pg_restore": ""})
	d.stall = 200 * time.Millisecond // it writes nothing for longer than that
	if _, err := d.dumps(t.Context(), l, io.Discard); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestAHostWithoutAPgDumpThatIsNewEnoughNamesThePackage(t *testing.T) {
	d, l := postgres(t, map[string]string{
		"15/bin/pg_dump": "", "15/bin/pg_restore": "",
		"18/bin/pg_dump": "", // without its pg_restore nothing could be read back
	})
	out, err := d.findDumpTools(t.Context(), DumpToolsIn{}, nil)
	if err != nil || len(out.Tools) != 1 || out.Tools[0].Major != 15 || out.Tools[0].Version != "15.6" {
		t.Errorf("found %+v, %v", out, err)
	}
	_, err = d.dumps(t.Context(), l, io.Discard)
	var e *node.Error
	if !errors.As(err, &e) || e.Code != node.CodeNotFound || !strings.Contains(err.Error(), "install postgresql-client-17") {
		t.Errorf("%v", err)
	}
}

func TestTheServersOwnVersionIsPickedElseTheNextNewerOne(t *testing.T) {
	all := DumpTools{Tools: []DumpTool{{Major: 14}, {Major: 16}, {Major: 18}}}
	for server, want := range map[int]int{13: 14, 14: 14, 15: 16, 17: 18, 19: 0} {
		if got, ok := all.For(server); got.Major != want || ok != (want > 0) {
			t.Errorf("for %d: %d", server, got.Major)
		}
	}
}

const listing = `;
; Archive created at 2026-11-22 07:30:00 UTC
;     dbname: mastodon
;     TOC Entries: 3
;     Compression: gzip
;
; Selected TOC Entries:
;
5; 2615 2200 SCHEMA - public postgres
215; 1259 16385 TABLE public accounts mastodon
4521; 0 16385 TABLE DATA public accounts mastodon
4522; 0 16623 TABLE DATA public schema_migrations mastodon
`

func TestAnArchivesTableOfContentsIsRead(t *testing.T) {
	d, l := postgres(t, map[string]string{
		"17/bin/pg_dump":    "",
		"17/bin/pg_restore": "[ \"$*\" = '--list --format=custom' ] || exit 9\nread head\n[ \"$head\" = PGDMP ] || { echo 'pg_restore: error: did not find magic string in file header' >&2; exit 1; }\ncat <<'END'\n" + listing + "END",
	})
	out, err := d.dumpList(t.Context(), DumpListIn{Layout: l, Major: 17}, strings.NewReader("PGDMP\n"+strings.Repeat("rows\n", 1<<18)), nil)
	if want := (DumpList{Entries: 4, Tables: 2, Database: "mastodon", Migrations: true}); err != nil || out != want {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := d.dumpList(t.Context(), DumpListIn{Layout: l, Major: 17}, strings.NewReader("<html>"), nil); err == nil || !strings.Contains(err.Error(), "did not find magic string") {
		t.Errorf("%v", err)
	}
	if out := readDumpList(strings.ReplaceAll(listing, "schema_migrations", "x")); out.Migrations || out.Tables != 2 {
		t.Errorf("%+v", out)
	}
}
