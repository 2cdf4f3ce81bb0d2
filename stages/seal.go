package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// seal lets no unit of Mastodon's start on a machine that has no permit for itself, on
// every node at once, before any image is taken of one. Units that run go on.
type seal struct{ d Deps }

func (seal) Name() string { return "seal" }

func (seal) Check(context.Context, pipeline.Say) error { return nil }

// Run writes what lacks. A node with another machine's permit is not given one of its own
// here: whether it is the right machine is for a person to say.
func (s seal) Run(ctx context.Context, say pipeline.Say) error {
	return s.d.Fleet.Apps().each(ctx, func(ctx context.Context, n Node) error {
		p, err := n.Agent.Permit(ctx, s.d.permitIn(n))
		if err != nil {
			return fmt.Errorf("cannot ask %s for its permit: %w", n.Name, err)
		}
		if why := foreign(n, p); why != "" {
			return pipeline.Refuse("%s", why)
		}
		if p.Held() && p.Refused == "" {
			return nil
		}
		return s.d.WritePermit(ctx, n, say)
	})
}

// Undo has nothing to take back: a permit harms nothing, and the machine that has it
// starts what it started before.
func (seal) Undo(context.Context, pipeline.Say) error { return nil }

// WritePermit seals a node: what runs there goes on, and starts again on this machine
// alone. It is an error where the seal would not hold, or where a unit does not run as before.
func (d Deps) WritePermit(ctx context.Context, n Node, say pipeline.Say) error {
	before, err := d.mains(ctx, n)
	if err != nil {
		return err
	}
	out, err := n.Agent.WritePermit(ctx, d.permitIn(n))
	if err != nil {
		return fmt.Errorf("cannot seal %s: %w", n.Name, err)
	}
	after, err := d.mains(ctx, n)
	if err != nil {
		return err
	}
	for _, u := range n.Units() {
		if before[u] != 0 && before[u] != after[u] {
			return fmt.Errorf("%s: %s had the process %d before it was sealed and has %d now (0 for none): sealing restarts nothing, so somebody else did; journalctl -u %s", n.Name, u, before[u], after[u], u)
		}
	}
	if len(out.Wrote) == 0 {
		say("%s: sealed already, for machine %s", n.Name, out.Instance.ID)
		return nil
	}
	say("%s: sealed; Mastodon's units start on machine %s (by its %s) and on no clone of it", n.Name, out.Instance.ID, out.Instance.From)
	return nil
}

// mains are the main processes of a node's units; 0 for one that does not run.
func (d Deps) mains(ctx context.Context, n Node) (map[string]int, error) {
	out, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: n.Units(), Home: d.Layout.Home}, nil)
	if err != nil {
		return nil, err
	}
	pids := map[string]int{}
	for _, u := range out.Units {
		pids[u.Name] = u.Pid
	}
	return pids, nil
}

// Sealed is nil where an image of the node may be taken: every unit of Mastodon's asks for
// a permit before it starts, and the permit there is the node's own. The error says what
// lacks and what mends it.
func (d Deps) Sealed(ctx context.Context, n Node) error {
	p, err := n.Agent.Permit(ctx, d.permitIn(n))
	if err != nil {
		return fmt.Errorf("cannot ask %s for its permit: %w", n.Name, err)
	}
	if why := unsealed(n, p); why != "" {
		return fmt.Errorf("%s; refit seal --host %s", why, n.Name)
	}
	return nil
}

// Foreign says why a node must not be sealed unless a person names it: it has another machine's
// permit, or one that nobody can read, and may be a clone. It is empty where nothing is wrong.
func (d Deps) Foreign(ctx context.Context, n Node) (string, error) {
	p, err := n.Agent.Permit(ctx, d.permitIn(n))
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its permit: %w", n.Name, err)
	}
	return foreign(n, p), nil
}

func (d Deps) permitIn(n Node) node.PermitIn {
	return node.PermitIn{Units: n.Units(), User: d.Layout.User, Home: d.Layout.Home}
}

// seal: every node says which machine it is, and none has the permit of another.
func (j *judgement) seal() {
	for _, n := range j.d.Fleet.Apps() {
		p := j.v.Facts[n.Name].Permit
		switch {
		case p == nil: // images are taken of none
		case p.InstanceError != "":
			j.refuse("%s: %s: an image of it could not be told from it", n.Name, p.InstanceError)
		default:
			if why := foreign(n, *p); why != "" {
				j.refuse("%s", why)
			}
		}
	}
}

// sealSaid: what is not sealed yet, and what no seal holds.
func (j *judgement) sealSaid() {
	for _, n := range j.d.Fleet.Apps() {
		p := j.v.Facts[n.Name].Permit
		if p == nil {
			continue
		}
		if why := unsealed(n, *p); why != "" && p.InstanceError == "" && !p.Elsewhere() {
			j.say("%s; the next upgrade seals it, or now: refit seal --host %s", why, n.Name)
		}
		if len(p.Beside) > 0 {
			j.say("%s: these start Mastodon's code by themselves and ask no permit, so a clone would run them too: %s. Give them a unit called mastodon-… with a timer, and they are held", n.Name, strings.Join(p.Beside, "; "))
		}
	}
}

// foreign says that a node may be a clone; empty where nothing speaks for that.
func foreign(n Node, p node.PermitOut) string {
	const remedy = "If this is the machine that %[1]s should be: refit seal --host %[1]s. If it is a clone: switch it off, nothing of Mastodon's starts there"
	switch {
	case !p.Elsewhere():
		return ""
	case p.PermitError != "":
		return fmt.Sprintf("%[1]s: its permit cannot be read, so no unit of Mastodon's would start again (%[2]s). "+remedy, n.Name, p.PermitError)
	}
	return fmt.Sprintf("%[1]s: its permit is for machine %[2]s, and it is %[3]s: a clone, or set up from an image. "+remedy, n.Name, p.Permit.Instance, p.Instance.ID)
}

// unsealed says what a node's seal lacks; empty for nothing.
func unsealed(n Node, p node.PermitOut) string {
	var parts []string
	if p.Refused != "" {
		parts = append(parts, p.Refused)
	}
	if len(p.Lacks) > 0 {
		parts = append(parts, "systemd starts "+strings.Join(p.Lacks, ", ")+" without asking for a permit")
	}
	if len(p.Stale) > 0 {
		parts = append(parts, strings.Join(slices.Sorted(slices.Values(p.Stale)), ", ")+" not as it should be")
	}
	if len(parts) == 0 {
		return ""
	}
	return n.Name + " is not sealed: " + strings.Join(parts, "; ")
}
