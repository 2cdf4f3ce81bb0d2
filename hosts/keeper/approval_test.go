package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const plan = "0123456789abcdef"

func TestAnApprovalIsGoodForOneRunAndForATime(t *testing.T) {
	s, c := testStore(t)
	ana, watch := person(s, "ana"), person(s, "watch")
	if _, err := watch.Approval(t.Context(), plan); !errors.Is(err, ErrNoApproval) || !strings.Contains(err.Error(), plan) {
		t.Fatalf("before it was given: %v", err)
	}
	given, err := ana.Approve(t.Context(), plan, "ana@bridge", 0, true)
	if err != nil || !given.Until.Equal(c.Now().Add(Lives)) {
		t.Fatalf("%+v, %v", given, err)
	}
	if a, err := watch.Approval(t.Context(), plan); err != nil || a.By != "ana@bridge" || !a.AtOnce {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := watch.Approval(t.Context(), "fedcba9876543210"); !errors.Is(err, ErrNoApproval) {
		t.Errorf("another plan: %v", err)
	}
	for range 2 { // the answer to the first call may be lost
		if a, err := watch.UseApproval(t.Context(), plan, "run-1"); err != nil || a.Run != "run-1" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if _, err := watch.UseApproval(t.Context(), plan, "run-2"); !errors.Is(err, ErrNoApproval) || !strings.Contains(err.Error(), "run-1 used up") {
		t.Errorf("a second run: %v", err)
	}
	if a, err := watch.Approval(t.Context(), plan); err != nil || a.Over != "run run-1 used up what ana@bridge gave" {
		t.Errorf("shown after its use: %+v, %v", a, err)
	}
	if _, err := ana.Approve(t.Context(), plan, "ana@bridge", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(time.Hour)
	if a, err := watch.Approval(t.Context(), plan); err != nil || !strings.Contains(a.Over, "what ana@bridge gave expired at ") {
		t.Errorf("shown after its time: %+v, %v", a, err)
	}
	if _, err := watch.UseApproval(t.Context(), plan, "run-3"); !errors.Is(err, ErrNoApproval) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("used after its time: %v", err)
	}
}

func TestOfManyRunsThatUseOneApprovalOneWins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keeper")
	if _, err := person(newStore(dir), "ana").Approve(t.Context(), plan, "ana", 0, false); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			s := newStore(dir)
			s.lock = exclusive(time.Minute)
			_, errs[i] = person(s, "w").UseApproval(t.Context(), plan, fmt.Sprint("run-", i))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrNoApproval) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d runs have it", won)
	}
}

func TestAnApprovalThatWasEditedCountsForNothingUntilItIsGivenAgain(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	if _, err := ana.Approve(t.Context(), plan, "ana", 0, false); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "approvals", plan+".json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), `"by":"ana"`, `"by":"bob"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ana.UseApproval(t.Context(), plan, "run-1"); !errors.Is(err, ErrDamaged) {
		t.Errorf("used: %v", err)
	}
	if _, err := ana.Approve(t.Context(), plan, "ana", 0, false); err != nil {
		t.Error(err)
	}
	// Another plan's, put under this name.
	other := filepath.Join(s.dir, "approvals", "fedcba9876543210.json")
	if err := os.Rename(file, other); err != nil {
		t.Fatal(err)
	}
	if _, err := ana.Approval(t.Context(), "fedcba9876543210"); !errors.Is(err, ErrDamaged) {
		t.Errorf("renamed: %v", err)
	}
}

func TestWhatIsNoApprovalIsRefused(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	for name, err := range map[string]error{
		"a path for a hash": second(ana.Approve(t.Context(), "../../../../tmp/x", "ana", 0, false)),
		"nobody's":          second(ana.Approve(t.Context(), plan, "", 0, false)),
		"for ever":          second(ana.Approve(t.Context(), plan, "ana", 1000*time.Hour, false)),
		"used by a path":    second(ana.UseApproval(t.Context(), plan, "../x")),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	disk := &tape{}
	s.fs = disk
	disk.fail = map[string]error{"create": syscall.ENOSPC}
	if _, err := ana.Approve(t.Context(), plan, "ana", 0, false); !errors.Is(err, ErrNoSpace) {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestApprovalsThatEndedLongAgoAreForgotten(t *testing.T) {
	s, c := testStore(t)
	ana := person(s, "ana")
	if _, err := ana.Approve(t.Context(), plan, "ana", 0, false); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(365 * 24 * time.Hour)
	if _, err := ana.Approve(t.Context(), "fedcba9876543210", "ana", 0, false); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(s.dir, "approvals"))
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}
