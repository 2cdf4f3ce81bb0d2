package keeper

import (
	"errors"
	"os/exec"
	"testing"
)

func TestAHolderProvenDeadIsSucceededAndAFrozenOneIsNot(t *testing.T) {
	me, err := Me("upgrade")
	if err != nil {
		t.Fatal(err)
	}
	if me.Machine == "" || me.Started == "" {
		t.Fatalf("this machine is not told from others: %+v", me)
	}
	sleeper := exec.CommandContext(t.Context(), "sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	old := me
	old.PID, old.Token, old.User = sleeper.Process.Pid, "another", "ana"
	if old.Started, _, err = stat(old.PID); err != nil {
		t.Fatal(err)
	}
	s, _ := testStore(t)
	before, after := person(s, "ana"), person(s, "bob")
	before.Me, after.Me = old, me
	acquire(t, before)

	var held *HeldError
	if _, _, err := after.Acquire(t.Context(), "resume"); !errors.As(err, &held) {
		t.Errorf("the holder lives: %v", err)
	} else if after.Succeeds(held.Lease) {
		t.Error("a holder that lives counts as dead")
	}
	elsewhere := me
	elsewhere.Machine = "another machine"
	if err := sleeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Wait(); err == nil {
		t.Fatal("killed and without an error")
	}
	left, err := after.Show(t.Context())
	if err != nil || !after.Succeeds(left) {
		t.Errorf("the holder is dead, and the lease counts as held by somebody who works: %+v %v", left, err)
	}
	after.Me = elsewhere
	if after.Succeeds(left) {
		t.Error("from another machine the holder counts as dead")
	}
	if _, _, err := after.Acquire(t.Context(), "resume"); !errors.As(err, &held) {
		t.Errorf("from another machine nothing is proven: %v", err)
	}
	after.Me = me
	acquire(t, after)

	reused := me
	reused.Token, reused.Started = "a third", "1"
	if !reused.dead(me) {
		t.Error("a process of the same number that began at another time counts as the holder")
	}
}
