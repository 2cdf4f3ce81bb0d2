package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Approval is a person's word for one plan, kept where every operator and the watcher
// find it. It is good for one run, and for a time.
type Approval struct {
	// Plan is the plan's hash.
	Plan string `json:"plan"`
	// By is who gave it, "michael@bridge".
	By string `json:"by"`
	// Given and Until are by the keeper's clock.
	Given time.Time `json:"given"`
	Until time.Time `json:"until"`
	// AtOnce: outside maintenance windows too.
	AtOnce bool `json:"at_once,omitempty"`
	// Run is the run that used it up; empty while none has.
	Run string `json:"run,omitempty"`
	// Signed are the words of people with their signatures, one of each. The keeper keeps
	// them and knows no keys: who uses the approval verifies them.
	Signed []Signed `json:"signed,omitempty"`
	// Spent are the hashes of signatures that runs used up before: none is good for another.
	Spent []string `json:"spent,omitempty"`
	// Over is why it counts for nothing any more, by the keeper's clock when it was shown;
	// empty while it is good. It is not stored.
	Over string `json:"over,omitempty"`
}

// Signed is one person's word with its signature.
type Signed struct {
	By string `json:"by"`
	// Given and Until are by that person's clock: both are signed.
	Given  time.Time `json:"given"`
	Until  time.Time `json:"until"`
	AtOnce bool      `json:"at_once,omitempty"`
	// Signature is armored, as of "ssh-keygen -Y sign".
	Signature string `json:"signature"`
}

// spent is what is kept of a signature once it was used up.
func (s Signed) spent() string {
	sum := sha256.Sum256([]byte(s.Signature))
	return hex.EncodeToString(sum[:16])
}

// ErrNoApproval: nobody approved the plan, or what was given has expired or was used up.
var ErrNoApproval = errors.New("not approved")

// Lives is how long an approval is good that does not say: over a night and a day.
const Lives = 36 * time.Hour

// longestLife bounds what a person may ask for.
const longestLife = 14 * 24 * time.Hour

var planForm = regexp.MustCompile(`^[0-9a-f]{16,64}$`)

type giveIn struct {
	Plan   string        `json:"plan"`
	By     string        `json:"by"`
	Life   time.Duration `json:"life_ns"`
	AtOnce bool          `json:"at_once"`
	Signed *Signed       `json:"signed,omitempty"`
}

type useIn struct {
	Plan string `json:"plan"`
	Run  string `json:"run"`
}

func (s *store) approvalFile(plan string) (string, error) {
	if !planForm.MatchString(plan) {
		return "", fmt.Errorf("%q is no plan's hash", plan)
	}
	return filepath.Join(s.dir, "approvals", plan+".json"), nil
}

// give keeps an approval. One that is there is replaced: a person may renew it, and give
// a plan that was used up, and stands as it was, another run. Of others the signatures stay
// beside a new one, until a run has used them up.
func (s *store) give(ctx context.Context, in giveIn) (a Approval, err error) {
	path, err := s.approvalFile(in.Plan)
	if err != nil {
		return Approval{}, err
	}
	if in.Life <= 0 {
		in.Life = Lives
	}
	if in.By == "" || in.Life > longestLife {
		return Approval{}, fmt.Errorf("an approval names who gave it and lives for %s at most", longestLife)
	}
	err = s.locked(ctx, func() error {
		now := s.now().UTC()
		if err := s.forgetApprovals(now); err != nil {
			return err
		}
		a = Approval{Plan: in.Plan, By: in.By, Given: now, Until: now.Add(in.Life), AtOnce: in.AtOnce}
		if err := s.beside(&a, in.Signed); err != nil {
			return err
		}
		return s.putApproval(path, a)
	})
	return a, err
}

// mostSigned bounds how many people's words are kept for one plan.
const mostSigned = 32

// beside adds a signature to an approval, nil for none, with those that others gave and no
// run used up. The whole lives as long as the longest of them; each has its own time beside.
func (s *store) beside(a *Approval, one *Signed) error {
	old, err := s.approval(a.Plan)
	if err != nil && !errors.Is(err, ErrNoApproval) && !errors.Is(err, ErrDamaged) {
		return err
	}
	a.Spent = old.Spent
	if one == nil {
		return nil
	}
	if one.By == "" || one.Signature == "" || len(one.Signature) > 16<<10 {
		return errors.New("a signed approval names who gave it, and has a signature of 16 KiB at most")
	}
	if slices.Contains(a.Spent, one.spent()) {
		return fmt.Errorf("that signature of %s was used up by a run: sign anew", one.By)
	}
	if old.Run == "" {
		a.Signed = slices.DeleteFunc(old.Signed, func(o Signed) bool { return o.By == one.By })
	}
	if len(a.Signed) >= mostSigned {
		return fmt.Errorf("%d people signed for plan %s already", len(a.Signed), a.Plan)
	}
	if len(a.Signed) > 0 && old.Until.After(a.Until) {
		a.Until = old.Until
	}
	a.Signed = append(a.Signed, *one)
	return nil
}

func (s *store) putApproval(path string, a Approval) error {
	if err := s.fs.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", filepath.Dir(path), typed(err))
	}
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("cannot write the approval: %w", err)
	}
	return write(s.fs, path, head{ID: a.Plan, Saved: s.now().UTC()}, append(b, '\n'))
}

// approval is a plan's, whether it is good still or over.
func (s *store) approval(plan string) (Approval, error) {
	path, err := s.approvalFile(plan)
	if err != nil {
		return Approval{}, err
	}
	_, b, err := read(s.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return Approval{}, fmt.Errorf("plan %s is %w", plan, ErrNoApproval)
	}
	var a Approval
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	switch {
	case err != nil:
		return Approval{}, err
	case a.Plan != plan:
		return Approval{}, fmt.Errorf("%s is %w: it is the approval of plan %s", path, ErrDamaged, a.Plan)
	case a.Run != "":
		a.Over = fmt.Sprintf("run %s used up what %s gave", a.Run, a.By)
	case !s.now().Before(a.Until):
		a.Over = fmt.Sprintf("what %s gave expired at %s", a.By, a.Until.Format(time.RFC3339))
	}
	return a, nil
}

// use uses an approval up for a run; asked again for the same run, it is so still.
func (s *store) use(ctx context.Context, in useIn) (a Approval, err error) {
	path, err := s.approvalFile(in.Plan)
	if err != nil {
		return Approval{}, err
	}
	if !idRule.MatchString(in.Run) {
		return Approval{}, fmt.Errorf("%q cannot be the name of a run", in.Run)
	}
	err = s.locked(ctx, func() error {
		if a, err = s.approval(in.Plan); err != nil {
			return err
		}
		if a.Run == in.Run {
			a.Over = "" // of this very run
			return nil
		}
		if a.Over != "" {
			return fmt.Errorf("plan %s is %w any more: %s", in.Plan, ErrNoApproval, a.Over)
		}
		a.Run = in.Run
		for _, one := range a.Signed {
			a.Spent = append(a.Spent, one.spent())
		}
		return s.putApproval(path, a)
	})
	return a, err
}

// approvalsKept is how long an approval is kept after its end, to be read by people.
const approvalsKept = 90 * 24 * time.Hour

// forgetApprovals removes those that ended months ago. One that cannot be read stays.
func (s *store) forgetApprovals(now time.Time) error {
	dir := filepath.Join(s.dir, "approvals")
	files, err := s.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", dir, typed(err))
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		h, _, err := read(s.fs, path)
		if err != nil || now.Sub(h.Saved) < approvalsKept+longestLife {
			continue
		}
		if err := s.fs.Remove(path); err != nil {
			return fmt.Errorf("cannot remove %s: %w", path, typed(err))
		}
	}
	return nil
}

// Approve keeps a person's word for a plan; life is how long it is good, 0 for Lives.
func (k *Keeper) Approve(ctx context.Context, plan, by string, life time.Duration, atOnce bool) (Approval, error) {
	a, err := k.ask(ctx, "approval.give", giveIn{Plan: plan, By: by, Life: life, AtOnce: atOnce}, few)
	return a.approval(err, k.Name)
}

// ApproveSigned keeps a person's word for a plan with its signature, beside those of others;
// it is good for as long as is signed.
func (k *Keeper) ApproveSigned(ctx context.Context, plan string, one Signed) (Approval, error) {
	in := giveIn{Plan: plan, By: one.By, Life: one.Until.Sub(one.Given), AtOnce: one.AtOnce, Signed: &one}
	a, err := k.ask(ctx, "approval.give", in, few)
	return a.approval(err, k.Name)
}

// Approval is the word that was given for a plan, also one that is over; ErrNoApproval
// for none.
func (k *Keeper) Approval(ctx context.Context, plan string) (Approval, error) {
	a, err := k.ask(ctx, "approval.show", useIn{Plan: plan}, few)
	return a.approval(err, k.Name)
}

// UseApproval uses up the word for a plan, for a run; ErrNoApproval where there is none.
func (k *Keeper) UseApproval(ctx context.Context, plan, run string) (Approval, error) {
	a, err := k.ask(ctx, "approval.use", useIn{Plan: plan, Run: run}, few)
	return a.approval(err, k.Name)
}

func (a answer) approval(err error, keeper string) (Approval, error) {
	if err != nil {
		return Approval{}, err
	}
	if a.Approval == nil {
		return Approval{}, fmt.Errorf("keeper %s: its answer holds no approval", keeper)
	}
	return *a.Approval, nil
}
