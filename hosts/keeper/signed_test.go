package keeper

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func (c *clock) signs(by, signature string, life time.Duration) Signed {
	return Signed{By: by, Given: c.Now(), Until: c.Now().Add(life), Signature: signature}
}

func TestSignaturesOfSeveralPeopleLieBesideEachOtherUntilARunUsesThemUp(t *testing.T) {
	s, c := testStore(t)
	k := person(s, "ana")
	for _, one := range []Signed{c.signs("ana", "1", 2*time.Hour), c.signs("michael", "2", time.Hour), c.signs("ana", "3", 30*time.Minute)} {
		if _, err := k.ApproveSigned(t.Context(), plan, one); err != nil {
			t.Fatal(err)
		}
	}
	a, err := k.Approval(t.Context(), plan)
	if err != nil || len(a.Signed) != 2 || a.Signed[0].By != "michael" || a.Signed[1].Signature != "3" || !a.Until.Equal(c.Now().Add(2*time.Hour)) {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := k.UseApproval(t.Context(), plan, "run-1"); err != nil {
		t.Fatal(err)
	}
	for _, signature := range []string{"2", "3"} {
		if _, err := k.ApproveSigned(t.Context(), plan, c.signs("ana", signature, time.Hour)); err == nil || !strings.Contains(err.Error(), "was used up by a run") {
			t.Errorf("%s is taken again: %v", signature, err)
		}
	}
	a, err = k.ApproveSigned(t.Context(), plan, c.signs("michael", "4", time.Hour))
	if err != nil || a.Run != "" || len(a.Signed) != 1 {
		t.Errorf("after a run: %+v, %v", a, err)
	}
}

func TestASignedApprovalHasItsBounds(t *testing.T) {
	s, c := testStore(t)
	k := person(s, "ana")
	for name, one := range map[string]Signed{
		"nobody's": c.signs("", "1", time.Hour), "unsigned": c.signs("ana", "", time.Hour), "endless": c.signs("ana", strings.Repeat("x", 17<<10), time.Hour),
		"for ever": c.signs("ana", "1", 1000*time.Hour),
	} {
		if _, err := k.ApproveSigned(t.Context(), plan, one); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var err error
	for i := 0; err == nil && i <= mostSigned; i++ {
		_, err = k.ApproveSigned(t.Context(), plan, c.signs(fmt.Sprint("person-", i), "x", time.Hour))
	}
	if err == nil || !strings.Contains(err.Error(), "32 people signed") {
		t.Errorf("without bound: %v", err)
	}
	if _, err := k.Approval(t.Context(), "fedcba9876543210"); !errors.Is(err, ErrNoApproval) {
		t.Errorf("another plan: %v", err)
	}
}
