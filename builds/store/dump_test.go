package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

func aDump(fleet, run string) store.Dump {
	return store.Dump{Fleet: fleet, Run: run, Database: "mastodon", Server: "17.6", Host: "scotty", Taken: noon}
}

// archive writes a dump of that content, whose table of contents it is at once.
func archive(content string) store.DumpParts {
	return store.DumpParts{
		Write: func(_ context.Context, w io.Writer, d *store.Dump) error {
			d.Program = "17.6"
			_, err := io.WriteString(w, content)
			return err
		},
		Check: func(_ context.Context, r io.Reader, d *store.Dump) error {
			head := make([]byte, 3)
			if _, err := io.ReadFull(r, head); err != nil || string(head) != content[:3] {
				return fmt.Errorf("read back %q, %w", head, err)
			}
			d.Entries, d.Tables = 7, 2
			return nil
		},
	}
}

func dumped(t *testing.T, s *store.Store, fleet, run string) store.Dump {
	t.Helper()
	d, err := s.PutDump(t.Context(), aDump(fleet, run), archive("PGDMP of "+run))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const firstRun, secondRun, thirdRun = "20261120-120000-aaaaa", "20261121-120000-bbbbb", "20261122-120000-ccccc"

func TestADumpIsFoundByItsRunAndReadAsItWasWritten(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b, Now: func() time.Time { return noon }}
		dumped(t, s, "vmst.io", firstRun)
		d, err := s.FindDump(t.Context(), "vmst.io", firstRun)
		if err != nil || d.Program != "17.6" || d.Entries != 7 || !d.Stored.Equal(noon) || d.Archive.Size != int64(len("PGDMP of "+firstRun)) {
			t.Fatalf("found %+v, %v", d, err)
		}
		r, err := s.OpenDump(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "PGDMP of "+firstRun || r.Close() != nil {
			t.Errorf("read %q, %v", got, err)
		}
		for fleet, run := range map[string]string{"vmst.io": secondRun, "other": firstRun} {
			if _, err := s.FindDump(t.Context(), fleet, run); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s %s: %v", fleet, run, err)
			}
		}
		put(t, b, d.Key(), "PGDMP of something else")
		if _, err := s.FindDump(t.Context(), "vmst.io", firstRun); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("of another length: %v", err)
		}
		put(t, b, d.Key(), strings.Repeat("x", int(d.Archive.Size)))
		if r, err = s.OpenDump(t.Context(), d); err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("of another content: %v", err)
		}
	})
}

func TestADumpThatIsCutOrFailsItsCheckLeavesNothing(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b}
		gone := errors.New("scotty: no answer for 20s")
		cut := archive("PGDMP")
		cut.Write = func(_ context.Context, w io.Writer, _ *store.Dump) error {
			if _, err := w.Write(noise(3, 9<<20)); err != nil {
				return err
			}
			return gone
		}
		unread := archive("PGDMP")
		unread.Check = func(context.Context, io.Reader, *store.Dump) error { return gone }
		for name, parts := range map[string]store.DumpParts{"cut": cut, "not what was written": unread} {
			if _, err := s.PutDump(t.Context(), aDump("vmst.io", firstRun), parts); !errors.Is(err, gone) {
				t.Errorf("%s: %v", name, err)
			}
			if left := keysOf(t, b); len(left) > 0 {
				t.Errorf("%s: left %v", name, left)
			}
		}
		if _, err := s.PutDump(t.Context(), aDump("vmst.io", firstRun), store.DumpParts{
			Write: func(context.Context, io.Writer, *store.Dump) error { return nil }, Check: archive("PGDMP").Check,
		}); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("an empty one: %v", err)
		}
		if _, err := s.PutDump(t.Context(), aDump("../x", firstRun), archive("PGDMP")); err == nil {
			t.Error("a fleet that leads out")
		}
		if _, err := s.PutDump(t.Context(), aDump("vmst.io", "u-1"), archive("PGDMP")); err == nil {
			t.Error("a run that is none")
		}
	})
}

// shortening loses the end of what it is given, and says nothing.
type shortening struct{ store.Bucket }

func (s shortening) Put(ctx context.Context, key string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.Bucket.Put(ctx, key, strings.NewReader(string(b[:len(b)-1])))
}

func TestADumpThatLiesThereShorterThanItWasSentIsNone(t *testing.T) {
	b := store.Dir{Path: t.TempDir()}
	s := &store.Store{Bucket: shortening{b}}
	if _, err := s.PutDump(t.Context(), aDump("vmst.io", firstRun), archive("PGDMP")); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "5 bytes were sent and 4 lie there") {
		t.Errorf("%v", err)
	}
	if left := keysOf(t, b); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestOnlyTheOldestDumpsOfTheOwnFleetArePrunedAndNoneCountsAsAStray(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		now := time.Now()
		s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
		for i, run := range []string{secondRun, firstRun, thirdRun} {
			now = now.Add(time.Duration(i+1) * time.Minute)
			dumped(t, s, "vmst.io", run)
			dumped(t, s, "vmst", run)
		}
		torn := map[string][]string{}
		for _, fleet := range []string{"vmst.io", "vmst"} {
			torn[fleet] = []string{path.Join("dump", fleet, "20261119-120000-ddddd", "database.pgdump"), path.Join("dump", fleet, "20261118-120000-ddddd", "dump.json")}
			for _, key := range torn[fleet] {
				put(t, b, key, "{}")
			}
		}
		others := []string{"dump/vmst.io/notes.txt", "dump/vmst.io/u-1/dump.json", "dump/vmst.io/" + firstRun + "/x", "dump/vmst.io/" + secondRun + "/y/dump.json", "my/dump/vmst.io/" + firstRun + "/dump.json", "dump.json"}
		for _, key := range others {
			put(t, b, key, "{}")
		}
		list, err := s.List(t.Context())
		if err != nil || len(list.Dumps) != 6 || len(list.Torn) != 4 || len(list.Strays) != 0 || len(list.Artifacts) != 0 {
			t.Fatalf("listed %+v, %v", list, err)
		}
		keep := func(string) bool { return false }
		if out, err := s.Prune(t.Context(), store.Rule{}, keep); err != nil || len(out.Dumps)+out.Strays != 0 {
			t.Errorf("without a rule: %+v, %v", out, err)
		}
		rule := store.Rule{Fleet: "vmst.io", Dumps: 2}
		out, err := s.Prune(t.Context(), rule, keep)
		if err != nil || len(out.Dumps) != 1 || out.Dumps[0].Run != secondRun || out.Strays != 0 {
			t.Errorf("pruned %+v, %v", out, err)
		}
		now = now.Add(25 * time.Hour)
		if out, err = s.Prune(t.Context(), rule, keep); err != nil || len(out.Dumps) != 0 || out.Strays != 2 {
			t.Errorf("a day later: %+v, %v", out, err)
		}
		want := slices.Concat(others, torn["vmst"])
		for fleet, runs := range map[string][]string{"vmst.io": {firstRun, thirdRun}, "vmst": {firstRun, secondRun, thirdRun}} {
			for _, run := range runs {
				want = append(want, path.Join("dump", fleet, run, "database.pgdump"), path.Join("dump", fleet, run, "dump.json"))
			}
		}
		slices.Sort(want)
		if got := keysOf(t, b); !slices.Equal(got, want) {
			t.Errorf("left\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestADumpOfAnotherVersionIsNeitherFoundNorPruned(t *testing.T) {
	b := store.Dir{Path: t.TempDir()}
	now := noon
	s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
	d := dumped(t, s, "vmst.io", firstRun)
	at := path.Join(path.Dir(d.Key()), "dump.json")
	raw, err := get(t, b, at, 0)
	if err != nil {
		t.Fatal(err)
	}
	for what, changed := range map[string]string{
		"another format": strings.Replace(string(raw), `"format": 1`, `"format": 2`, 1),
		"a field more":   strings.Replace(string(raw), `"fleet"`, `"jobs": 4, "fleet"`, 1),
	} {
		put(t, b, at, changed)
		now = time.Now().AddDate(1, 0, 0)
		list, err := s.List(t.Context())
		if err != nil || list.ForeignDumps != 1 || len(list.Dumps)+len(list.Torn) != 0 {
			t.Errorf("%s: listed %+v, %v", what, list, err)
		}
		if out, err := s.Prune(t.Context(), store.Rule{Fleet: "vmst.io", Dumps: 1}, func(string) bool { return false }); err != nil || out.Strays+len(out.Dumps) != 0 {
			t.Errorf("%s: pruned %+v, %v", what, out, err)
		}
	}
	put(t, b, at, strings.Replace(string(raw), firstRun, secondRun, 1))
	if list, err := s.List(t.Context()); err != nil || len(list.Torn) != 2 || len(list.Dumps) != 0 {
		t.Errorf("a record of another place: %+v, %v", list, err)
	}
}
