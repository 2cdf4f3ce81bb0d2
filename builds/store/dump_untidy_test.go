package store_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

// untidy is a bucket that cannot take away what killed runs sent.
type untidy struct {
	store.Dir
	err error
}

func (u untidy) Abandon(context.Context, string, time.Time, func(string) bool) error { return u.err }

func TestWhatCannotBeTidiedHindersNoDumpAndHidesNoError(t *testing.T) {
	denied := errors.New("it may not list what was begun")
	s := &store.Store{Bucket: untidy{store.Dir{Path: t.TempDir()}, denied}}
	if _, err := s.PutDump(t.Context(), aDump("vmst.io", firstRun), archive("PGDMP")); err != nil {
		t.Errorf("a dump that lies whole in the store: %v", err)
	}
	first := errors.New("pg_dump failed")
	parts := archive("PGDMP")
	parts.Write = func(context.Context, io.Writer, *store.Dump) error { return first }
	_, err := s.PutDump(t.Context(), aDump("vmst.io", secondRun), parts)
	if !errors.Is(err, first) || !errors.Is(err, denied) || strings.Index(err.Error(), first.Error()) > strings.Index(err.Error(), denied.Error()) {
		t.Errorf("%v", err)
	}
}
