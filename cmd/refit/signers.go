package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/ssh"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages/watcher"
)

// approvalsConfig says whose word counts for a plan.
type approvalsConfig struct {
	// Required is how many of the signers have to approve a plan.
	Required int            `yaml:"required"`
	Signers  []signerConfig `yaml:"signers"`
}

// signerConfig is a person and the public half of that person's key.
type signerConfig struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
}

// approvalNamespace is what a signature is for: one that was made for anything else, such
// as a commit or what was built, is no approval.
const approvalNamespace = "refit-approval"

// skew is how far a signer's clock may be ahead of the one that verifies.
const skew = 5 * time.Minute

func (c config) checkApprovals(w *wrongs) {
	a := c.Approvals
	if a == nil {
		return
	}
	if len(a.Signers) == 0 {
		w.say("approvals.signers", "names nobody: whose approvals count? Take the block out to let everybody's count who reaches the keeper")
	}
	names, keys := map[string]bool{}, map[string]string{}
	for i, s := range a.Signers {
		at := fmt.Sprintf("approvals.signers[%d]", i)
		if !signerName.MatchString(s.Name) || names[s.Name] {
			w.say(at+".name", "%q is no name of letters, digits and @._+- only, or stands there twice", s.Name)
		}
		names[s.Name] = true
		key, _, err := ssh.PublicKey(s.Key)
		switch {
		case strings.Contains(s.Key, "PRIVATE KEY"):
			w.say(at+".key", "is a private key: it must leave this file, and is known to all who read it. Name its public half")
		case err != nil:
			w.say(at+".key", "%v", err)
		case keys[key] != "":
			w.say(at+".key", "is that of %s too: one person's word would count twice", keys[key])
		default:
			keys[key] = s.Name
		}
	}
	if a.Required < 0 || a.Required > max(len(a.Signers), 1) {
		w.say("approvals.required", "%d of %d signers cannot be had", a.Required, len(a.Signers))
	}
}

// required is how many have to approve a plan.
func (a *approvalsConfig) required() int { return max(a.Required, 1) }

// approvalText is what a signer signs: which plan of which fleet, for how long, and whether
// at once. So a signature counts nowhere else and at no other time.
func approvalText(fleet, plan string, s keeper.Signed) []byte {
	return fmt.Appendf(nil, "refit approval v1\nfleet: %s\nplan: %s\nby: %s\ngiven: %s\nuntil: %s\nat once: %t\n",
		fleet, plan, s.By, s.Given.UTC().Format(time.RFC3339Nano), s.Until.UTC().Format(time.RFC3339Nano), s.AtOnce)
}

// weighed is what of an approval counts.
type weighed struct {
	// good are those that count: those that are verified, or the one of who gave it where
	// no signer is named.
	good []pipeline.Approval
	// atOnce: outside maintenance windows too.
	atOnce bool
	// until is when the first of those ends without which there are too few.
	until time.Time
	// lacks is why it counts for nothing; empty if it counts.
	lacks string
}

// by names whose words they are.
func (w weighed) by() string {
	var out []string
	for _, g := range w.good {
		if g.Key != "" {
			g.By += " (signed with " + g.Key + ")"
		}
		out = append(out, g.By)
	}
	return strings.Join(out, ", ")
}

// weigh finds out what of an approval counts now. Where signers are named only their
// signatures do, each verified by the key that refit.yml lists for that name.
func (c config) weigh(a keeper.Approval, now time.Time) weighed {
	if c.Approvals == nil {
		return weighed{good: []pipeline.Approval{{By: a.By, Given: a.Given, Until: a.Until}}, atOnce: a.AtOnce, until: a.Until, lacks: a.Over}
	}
	var w weighed
	var bad []string
	once := 0
	for _, s := range a.Signed {
		key, err := c.verify(a.Plan, s, now)
		if err != nil {
			bad = append(bad, fmt.Sprintf("what %s gave does not count: %v", s.By, err))
			continue
		}
		if slices.ContainsFunc(w.good, func(g pipeline.Approval) bool { return g.By == s.By }) {
			continue
		}
		if s.AtOnce {
			once++
		}
		w.good = append(w.good, pipeline.Approval{By: s.By, Key: key, Given: s.Given.UTC(), Until: s.Until.UTC()})
	}
	need := c.Approvals.required()
	w.atOnce = once >= need
	if len(a.Signed) == 0 {
		bad = append(bad, fmt.Sprintf("what %s gave is not signed", a.By))
	}
	switch {
	case a.Over != "":
		w.lacks = a.Over
	case len(w.good) < need:
		w.lacks = strings.Join(append([]string{fmt.Sprintf("%d of %d signed approvals", len(w.good), need)}, bad...), "; ")
	default:
		ends := slices.SortedFunc(slices.Values(w.good), func(x, y pipeline.Approval) int { return y.Until.Compare(x.Until) })
		w.until = ends[need-1].Until
		if a.Until.Before(w.until) {
			w.until = a.Until
		}
	}
	return w
}

// verify tells whether one person's signature counts now, and gives its key's fingerprint.
func (c config) verify(plan string, s keeper.Signed, now time.Time) (fingerprint string, err error) {
	i := slices.IndexFunc(c.Approvals.Signers, func(o signerConfig) bool { return o.Name == s.By })
	if i < 0 {
		return "", errors.New("approvals.signers in refit.yml names nobody of that name")
	}
	key := c.Approvals.Signers[i].Key
	if _, fingerprint, err = ssh.PublicKey(key); err != nil {
		return "", err
	}
	if err := ssh.VerifyBy(key, approvalNamespace, approvalText(c.Fleet, plan, s), []byte(s.Signature)); err != nil {
		return "", fmt.Errorf("its signature is not of this person, fleet, plan and time: %w", err)
	}
	switch {
	case !now.Before(s.Until):
		return "", fmt.Errorf("it expired at %s", s.Until.UTC().Format(time.RFC3339))
	case s.Given.After(now.Add(skew)):
		return "", fmt.Errorf("it was given at %s, which is yet to come: compare the clocks", s.Given.UTC().Format(time.RFC3339))
	}
	return fingerprint, nil
}

// approval is an approval as the watcher takes it.
func (c config) approval(a keeper.Approval, now time.Time) *watcher.Approval {
	w := c.weigh(a, now)
	out := &watcher.Approval{Hash: a.Plan, By: w.by(), At: a.Given, Until: a.Until, AtOnce: w.atOnce, Over: w.lacks}
	if !w.until.IsZero() {
		out.Until = w.until
	}
	return out
}

// byApproval makes an execution one that uses up its plan's approval. That is weighed here,
// so that nothing is begun for nothing, and again, under the lease, when it is used up.
func (x *session) byApproval(ctx context.Context, e *execution) error {
	a, err := x.keeper.Approval(ctx, e.hash)
	if errors.Is(err, keeper.ErrNoApproval) {
		return refuse("plan %s is not approved: `refit approve --to %s --plan %s`; nothing was touched", e.hash, e.plan.To, e.hash)
	}
	if err != nil {
		return x.withoutKeeper(ctx, err)
	}
	w := x.config.weigh(a, time.Now())
	if w.lacks != "" {
		return refuse("the approval of plan %s does not count: %s. `refit approve --to %s --plan %s`; nothing was touched", e.hash, w.lacks, e.plan.To, e.hash)
	}
	e.why += ", approved by " + w.by()
	used := []pipeline.Approval{}
	e.approvals = &used
	e.begin = func(ctx context.Context) error {
		a, err := x.keeper.UseApproval(ctx, e.hash, e.plan.ID)
		if err != nil {
			return err
		}
		w := x.config.weigh(a, time.Now())
		if w.lacks != "" {
			return fmt.Errorf("the approval of plan %s does not count any more: %s", e.hash, w.lacks)
		}
		used = w.good
		return nil
	}
	return nil
}

// signer finds the key that signs, and whose it is: the one of a file, or that one of the
// ssh agent's which refit.yml lists.
func (c config) signer(ctx context.Context, file string) (*ssh.Signer, string, error) {
	agent := os.Getenv("SSH_AUTH_SOCK")
	if file != "" {
		path, err := c.path(file)
		if err != nil {
			return nil, "", err
		}
		s := ssh.NewSigner(ssh.SignOptions{KeyFile: path, AgentSocket: agent, Namespace: approvalNamespace})
		line, fingerprint, err := s.Key()
		if err != nil {
			return nil, "", err
		}
		for _, one := range c.Approvals.Signers {
			if key, _, err := ssh.PublicKey(one.Key); err == nil && key == line {
				return s, one.Name, s.Ready(ctx)
			}
		}
		return nil, "", fmt.Errorf("the key %s of %s is none of approvals.signers in refit.yml: an approval that it signs would count for nothing", fingerprint, path)
	}
	var errs []error
	for _, one := range c.Approvals.Signers {
		s := ssh.NewSigner(ssh.SignOptions{PublicKey: one.Key, AgentSocket: agent, Namespace: approvalNamespace})
		err := s.Ready(ctx)
		if err == nil {
			return s, one.Name, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", one.Name, err))
	}
	return nil, "", fmt.Errorf("an approval has to be signed by one of approvals.signers: name the key with --sign, or load it into the ssh agent\n%w", errors.Join(errs...))
}

// canSign tells what keeps the caller from approving anything; nil where nobody has to sign.
func (c config) canSign(ctx context.Context, file string) error {
	if c.Approvals == nil {
		if file != "" {
			return errors.New("--sign: refit.yml names no approvals.signers, so nobody would look at the signature")
		}
		return nil
	}
	_, _, err := c.signer(ctx, file)
	return err
}

// approve gives the caller's word for a plan: signed, where refit.yml names signers.
func (x *session) approve(ctx context.Context, plan, file string, life time.Duration, atOnce bool) (keeper.Approval, error) {
	if x.config.Approvals == nil {
		return x.keeper.Approve(ctx, plan, x.keeper.Me.User+"@"+x.keeper.Me.Host, life, atOnce)
	}
	signer, name, err := x.config.signer(ctx, file)
	if err != nil {
		return keeper.Approval{}, err
	}
	if life == 0 {
		life = keeper.Lives
	}
	now := time.Now().UTC().Truncate(time.Second)
	one := keeper.Signed{By: name, Given: now, Until: now.Add(life), AtOnce: atOnce}
	signature, err := signer.Sign(ctx, approvalText(x.config.Fleet, plan, one))
	if err != nil {
		return keeper.Approval{}, err
	}
	one.Signature = string(signature)
	if _, err := x.config.verify(plan, one, time.Now()); err != nil {
		return keeper.Approval{}, fmt.Errorf("what was just signed does not verify: %w", err)
	}
	return x.keeper.ApproveSigned(ctx, plan, one)
}
