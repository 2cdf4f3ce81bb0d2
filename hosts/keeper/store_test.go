package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/node"
)

func TestOfManyWhoAcquireAtOnceOneWins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keeper")
	const many = 16
	errs := make([]error, many)
	epochs := make([]int64, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			s := newStore(dir)              // a store each, as processes have
			s.lock = exclusive(time.Minute) // sixteen in a row on a slow disk are no fault
			k := person(s, fmt.Sprint("operator", i))
			epochs[i], _, errs[i] = k.Acquire(context.WithoutCancel(t.Context()), "upgrade")
		})
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		var held *HeldError
		switch {
		case err == nil:
			won++
			if epochs[i] != 1 {
				t.Errorf("the winner has epoch %d", epochs[i])
			}
		case !errors.As(err, &held):
			t.Errorf("operator %d: %v", i, err)
		}
	}
	if won != 1 {
		t.Errorf("%d hold the lease", won)
	}
}

func TestAFullOrReadOnlyKeeperIsNamedToTheOperator(t *testing.T) {
	for cause, kind := range map[error]error{syscall.ENOSPC: ErrNoSpace, syscall.EROFS: ErrReadOnly} {
		s, _ := testStore(t)
		disk := &tape{}
		s.fs = disk
		ana := person(s, "ana")
		epoch := acquire(t, ana)
		if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("one")); err != nil {
			t.Fatal(err)
		}
		disk.fail = map[string]error{"create": cause}
		for what, err := range map[string]error{
			"save":    ana.Save(t.Context(), "run-1", epoch, 2, []byte("two")),
			"renew":   second(ana.Renew(t.Context(), "")),
			"release": ana.Release(t.Context()),
		} {
			if !errors.Is(err, kind) || !strings.HasPrefix(err.Error(), "keeper uhura: ") {
				t.Errorf("%s on a disk with %v: %v", what, cause, err)
			}
		}
		disk.fail = nil
		if b, err := ana.Load(t.Context(), "run-1"); err != nil || string(b) != "one" {
			t.Errorf("then there is %q, %v", b, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAnAcquireThatWasRefusedByTheDiskHoldsNothing(t *testing.T) {
	s, _ := testStore(t)
	disk := &tape{fail: map[string]error{"sync": syscall.ENOSPC}}
	s.fs = disk
	ana := person(s, "ana")
	if _, _, err := ana.Acquire(t.Context(), ""); !errors.Is(err, ErrNoSpace) || ana.Epoch() != 0 {
		t.Errorf("epoch %d, %v", ana.Epoch(), err)
	}
	disk.fail = nil
	acquire(t, person(s, "bob"))
}

func TestTheKeepersVerbsHaveNamesThatNobodyElseTakes(t *testing.T) {
	taken := map[string]bool{}
	for _, v := range append(node.Verbs(), Verbs("")...) {
		if taken[v.Name] {
			t.Errorf("%s is there twice", v.Name)
		}
		taken[v.Name] = true
	}
	for _, name := range []string{"lease.acquire", "lease.renew", "lease.release", "lease.show", "lease.take", "shelf.load", "shelf.save", "shelf.remove", "shelf.list", "shelf.aside", "approval.give", "approval.show", "approval.use"} {
		if !taken[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestARequestThatIsNotUnderstoodChangesNothing(t *testing.T) {
	s, _ := testStore(t)
	for _, v := range verbs(s) {
		for _, raw := range []string{`{"surprise":1}`, `[]`, `{"epoch":`} {
			if v.Name == "lease.show" && raw == `[]` {
				continue
			}
			if _, err := v.Run(t.Context(), json.RawMessage(raw), nil, nil); err == nil {
				t.Errorf("%s takes %s", v.Name, raw)
			}
		}
	}
	if l, err := s.lease(t.Context()); err != nil || l.Epoch != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestTheMirrorIsNotReadFromByItself(t *testing.T) {
	main, local := &Dir{Path: t.TempDir()}, &Dir{Path: t.TempDir()}
	m := &Mirror{Main: main, Local: local}
	if err := m.Save(t.Context(), "run-1", 1, 1, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := main.Save(t.Context(), "run-1", 1, 2, []byte("y")); err != nil {
		t.Fatal(err)
	}
	if b, err := m.Load(t.Context(), "run-1"); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	if list, err := m.List(t.Context()); err != nil || len(list) != 1 || list[0].Seq != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestOnlyTheHolderOfTheLeaseRemovesAJournal(t *testing.T) {
	s, _ := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	epoch := acquire(t, ana)
	if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := bob.Remove(t.Context(), "run-1"); !errors.Is(err, ErrStale) {
		t.Errorf("who does not hold the lease: %v", err)
	}
	for range 2 { // the answer to the first may have been lost
		if err := ana.Remove(t.Context(), "run-1"); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := ana.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := ana.Remove(t.Context(), "../lease"); err == nil {
		t.Error("a name leaves the folder")
	}
}

func TestADamagedJournalIsListedByTheTimeOfItsFileAndNotByWhatItsHeadSays(t *testing.T) {
	s, _ := testStore(t)
	shelf := s.shelf()
	for i, id := range []string{"old", "new"} {
		if err := shelf.Save(t.Context(), id, 1, int64(i+1), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(shelf.Path, "new.json"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	later := s.now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(shelf.Path, "new.json"), later, later); err != nil {
		t.Fatal(err)
	}
	list, err := shelf.List(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != "new" || list[0].Damaged == "" {
		t.Errorf("%+v, %v", list, err)
	}
}
