package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/ssh"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

const aPlan = "0123456789abcdef"

// person is one with a key in a file.
type person struct{ name, file, public string }

func newPerson(t *testing.T, name string) person {
	t.Helper()
	p := person{name: name}
	p.file, p.public = hoststest.NewKey(t)
	return p
}

// signersOf lists people, and how many of them are needed.
func signersOf(required int, list ...person) *approvalsConfig {
	a := &approvalsConfig{Required: required}
	for _, p := range list {
		a.Signers = append(a.Signers, signerConfig{p.name, p.public + " " + p.name + "@laptop"})
	}
	return a
}

// signed is a session whose refit.yml lists ana and michael.
func signed(t *testing.T, required int) (x *session, ana, michael person) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("SSH_AUTH_SOCK", "")
	x = manyHosts(t, 50).session(t)
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	ana, michael = newPerson(t, "ana"), newPerson(t, "michael")
	x.config.Approvals = signersOf(required, ana, michael)
	return x, ana, michael
}

// gives has a person approve a plan.
func (x *session) gives(t *testing.T, p person, plan string, atOnce bool) keeper.Approval {
	t.Helper()
	a, err := x.approve(t.Context(), plan, p.file, time.Hour, atOnce)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// lacks is why an approval does not count, empty if it does.
func (x *session) lacks(t *testing.T, plan string) string {
	t.Helper()
	a, err := x.keeper.Approval(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	return x.config.weigh(a, time.Now()).lacks
}

func (x *session) executionOf(run string) *execution {
	return &execution{hash: aPlan, why: "upgrade", plan: pipeline.Plan{ID: run, To: "v4.5.15"}}
}

func TestASignedApprovalCountsForOneRunAndStandsInItsJournalAndInWhatIsTold(t *testing.T) {
	x, ana, _ := signed(t, 1)
	if err := x.byApproval(t.Context(), x.executionOf(run1)); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "not approved: `refit approve --to v4.5.15 --plan "+aPlan) {
		t.Fatalf("before it was given: code %d: %v", exitCode(err), err)
	}
	x.gives(t, ana, aPlan, false)
	e := x.executionOf(run1)
	if err := x.byApproval(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	_, fingerprint, err := ssh.PublicKey(ana.public)
	if err != nil {
		t.Fatal(err)
	}
	if want := "upgrade, approved by ana (signed with " + fingerprint + ")"; e.why != want {
		t.Errorf("%q, want %q", e.why, want)
	}
	if told := x.runOf(*e, nil); !strings.Contains(told.Why, "approved by ana") { // Slack's message shows it
		t.Errorf("%+v", told)
	}
	if err := e.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := x.hand(*e)
	if len(h.Approvals) != 1 || h.Approvals[0].By != "ana" || h.Approvals[0].Key != fingerprint || h.Plan != aPlan {
		t.Errorf("%+v", h)
	}
	p := report.PastOf(&pipeline.Journal{Hands: []pipeline.Hand{h}})
	if got := byWhom(p); !strings.HasSuffix(got, ", approved by ana") {
		t.Errorf("the history says %q", got)
	}
	if err := x.byApproval(t.Context(), x.executionOf(run2)); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "used up") {
		t.Errorf("for a second run: %v", err)
	}
}

func TestWhatIsNotSignedByAListedPersonDoesNotCount(t *testing.T) {
	x, ana, michael := signed(t, 1)
	mallory := newPerson(t, "mallory")
	if _, err := x.approve(t.Context(), aPlan, mallory.file, time.Hour, false); err == nil || !strings.Contains(err.Error(), "none of approvals.signers") {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := x.approve(t.Context(), aPlan, "", time.Hour, false); err == nil || !strings.Contains(err.Error(), "name the key with --sign") {
		t.Errorf("no key at all: %v", err)
	}
	if _, err := x.keeper.Approve(t.Context(), aPlan, "ana@bridge", time.Hour, true); err != nil {
		t.Fatal(err)
	}
	if got := x.lacks(t, aPlan); got != "0 of 1 signed approvals; what ana@bridge gave is not signed" {
		t.Error(got)
	}
	// Somebody who can write on the keeper says to be ana.
	text := func(p person, s keeper.Signed, namespace string) keeper.Signed {
		sig, err := ssh.NewSigner(ssh.SignOptions{KeyFile: p.file, Namespace: namespace}).Sign(t.Context(), approvalText("many", aPlan, s))
		if err != nil {
			t.Fatal(err)
		}
		s.Signature = string(sig)
		return s
	}
	now := time.Now().UTC().Truncate(time.Second)
	s := keeper.Signed{By: "ana", Given: now, Until: now.Add(time.Hour)}
	for name, test := range map[string]struct {
		signed keeper.Signed
		want   string
	}{
		"another's key":      {text(mallory, s, approvalNamespace), "not of this person"},
		"a listed other's":   {text(michael, s, approvalNamespace), "not of this person"},
		"for something else": {text(ana, s, "git"), "not of this person"},
		"no signature":       {keeper.Signed{By: "ana", Given: s.Given, Until: s.Until, Signature: "yes"}, "no ssh signature"},
		"an unknown name":    {text(mallory, keeper.Signed{By: "mallory", Given: now, Until: s.Until}, approvalNamespace), "names nobody of that name"},
		"of tomorrow":        {text(ana, keeper.Signed{By: "ana", Given: now.Add(time.Hour), Until: now.Add(2 * time.Hour)}, approvalNamespace), "yet to come"},
	} {
		if _, err := x.keeper.ApproveSigned(t.Context(), aPlan, test.signed); err != nil {
			t.Fatal(err)
		}
		got := x.lacks(t, aPlan)
		if !strings.Contains(got, "0 of 1 signed approvals") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q", name, got)
		}
		if err := x.byApproval(t.Context(), x.executionOf(run1)); exitCode(err) != exitRefused {
			t.Errorf("%s: an upgrade begins: %v", name, err)
		}
	}
}

func TestASignatureReplayedForAnotherFleetPlanTimeOrRunIsRefused(t *testing.T) {
	x, ana, _ := signed(t, 1)
	a := x.gives(t, ana, aPlan, false)
	good := a.Signed[0]
	if x.lacks(t, aPlan) != "" {
		t.Fatal(x.lacks(t, aPlan))
	}
	other := x.config
	other.Fleet = "elsewhere"
	if got := other.weigh(a, time.Now()).lacks; !strings.Contains(got, "not of this person, fleet, plan and time") {
		t.Errorf("another fleet: %q", got)
	}
	const another = "fedcba9876543210"
	if _, err := x.keeper.ApproveSigned(t.Context(), another, good); err != nil {
		t.Fatal(err)
	}
	if got := x.lacks(t, another); !strings.Contains(got, "not of this person, fleet, plan and time") {
		t.Errorf("another plan: %q", got)
	}
	if got := x.config.weigh(a, good.Until).lacks; !strings.Contains(got, "expired") {
		t.Errorf("after its end: %q", got)
	}
	for name, change := range map[string]func(*keeper.Signed){
		"made longer":       func(s *keeper.Signed) { s.Until = s.Until.Add(24 * time.Hour) },
		"made later":        func(s *keeper.Signed) { s.Given = s.Given.Add(time.Second) },
		"made at once":      func(s *keeper.Signed) { s.AtOnce = true },
		"given for another": func(s *keeper.Signed) { s.By = "michael" },
	} {
		s := good
		change(&s)
		forged := a
		forged.Signed = []keeper.Signed{s}
		if got := x.config.weigh(forged, time.Now()).lacks; !strings.Contains(got, "not of this person, fleet, plan and time") {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Once a run has used it up, the same signature is not taken again.
	if _, err := x.keeper.UseApproval(t.Context(), aPlan, run1); err != nil {
		t.Fatal(err)
	}
	if _, err := x.keeper.ApproveSigned(t.Context(), aPlan, good); err == nil || !strings.Contains(err.Error(), "was used up by a run: sign anew") {
		t.Errorf("the same again: %v", err)
	}
	if _, err := x.keeper.Approve(t.Context(), aPlan, "mallory", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if _, err := x.keeper.ApproveSigned(t.Context(), aPlan, good); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Errorf("the same after another's word was put in its place: %v", err)
	}
}

func TestAsManyAsAreRequiredHaveToSignEachWithAKeyOfTheirOwn(t *testing.T) {
	x, ana, michael := signed(t, 2)
	x.gives(t, ana, aPlan, true)
	x.gives(t, ana, aPlan, true) // again: one person's word
	if got := x.lacks(t, aPlan); got != "1 of 2 signed approvals" {
		t.Errorf("one of two: %q", got)
	}
	x.gives(t, michael, aPlan, false)
	a, err := x.keeper.Approval(t.Context(), aPlan)
	if err != nil {
		t.Fatal(err)
	}
	w := x.config.weigh(a, time.Now())
	if w.lacks != "" || len(w.good) != 2 || w.atOnce {
		t.Errorf("%+v: at once was said by one of two", w)
	}
	x.gives(t, michael, aPlan, true)
	a, err = x.keeper.Approval(t.Context(), aPlan)
	if seen := x.config.approval(a, time.Now()); err != nil || !seen.AtOnce || seen.Over != "" || !strings.Contains(seen.By, "ana") || !strings.Contains(seen.By, "michael") {
		t.Errorf("as the watcher sees it: %+v, %v", seen, err)
	}
	// It is verified when it is used: whoever left the list meanwhile does not count.
	e := x.executionOf(run1)
	if err := x.byApproval(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	x.config.Approvals = signersOf(2, ana, newPerson(t, "scotty"))
	if err := e.begin(t.Context()); err == nil || !strings.Contains(err.Error(), "1 of 2 signed approvals; what michael gave does not count: approvals.signers in refit.yml names nobody of that name") {
		t.Errorf("after michael was struck off: %v", err)
	}
}

func TestTheWatcherTakesNoApprovalThatIsNotSigned(t *testing.T) {
	m, f := watching(t)
	ana := newPerson(t, "ana")
	b, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.config, fmt.Sprintf("%sapprovals: {signers: [{name: ana, key: %q}]}\n", b, ana.public))
	x := m.session(t)
	defer closing(x, f.s)
	if _, err := x.keeper.Approve(t.Context(), aPlan, "mallory@bridge", time.Hour, true); err != nil {
		t.Fatal(err)
	}
	a, err := f.Approval(t.Context(), aPlan)
	if err != nil || a == nil || a.Over != "0 of 1 signed approvals; what mallory@bridge gave is not signed" || a.AtOnce {
		t.Fatalf("%+v, %v", a, err)
	}
	x.gives(t, ana, aPlan, true)
	if a, err := f.Approval(t.Context(), aPlan); err != nil || a.Over != "" || !a.AtOnce || !strings.HasPrefix(a.By, "ana (signed with SHA256:") {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAnApprovalThatNeedsNoSignatureTakesNone(t *testing.T) {
	x, ana, _ := signed(t, 1)
	if err := x.config.canSign(t.Context(), ana.file); err != nil {
		t.Error(err)
	}
	x.config.Approvals = nil
	if err := x.config.canSign(t.Context(), ana.file); err == nil || !strings.Contains(err.Error(), "names no approvals.signers") {
		t.Errorf("a signature that nobody looks at: %v", err)
	}
	if _, err := x.approve(t.Context(), aPlan, "", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if got := x.lacks(t, aPlan); got != "" {
		t.Error(got)
	}
}

func TestAKeeperThatDoesNotAnswerLetsNothingBeginByApproval(t *testing.T) {
	x, _ := withoutItsKeeper(t, context.DeadlineExceeded)
	if err := x.byApproval(t.Context(), x.executionOf(run1)); err == nil || errors.Is(err, keeper.ErrNoApproval) || !strings.Contains(err.Error(), "uhura") {
		t.Errorf("%v", err)
	}
}

func TestWhatWasApprovedIsSaidWithWhatItLacks(t *testing.T) {
	x, ana, _ := signed(t, 2)
	a := x.gives(t, ana, aPlan, false)
	var out strings.Builder
	s := streams{out: &out}
	if err := s.approved(x.config, a, false); err != nil || !strings.Contains(out.String(), "it does not count yet: 1 of 2 signed approvals") {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	var got map[string]any
	if err := s.approved(x.config, a, true); err != nil || json.Unmarshal([]byte(out.String()), &got) != nil || got["counts"] != false {
		t.Errorf("%v: %s", err, out.String())
	}
}
