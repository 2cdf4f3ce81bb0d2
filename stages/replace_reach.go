package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// reach meets the new machine. The key that it shows is its image's, which known_hosts has
// from the host whose disk the image is; over that connection it gets keys of its own.
type reach struct{ birth }

func (s reach) Name() string { return "reach " + s.b().Host }

func (s reach) Check(context.Context, pipeline.Say) error { return nil }

func (s reach) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	n, err := s.meet(ctx, say)
	if err != nil {
		return err
	}
	if err := s.fence(ctx, n); err != nil {
		return err
	}
	if err := s.sealed(ctx, n); err != nil {
		return err
	}
	made, err := n.Agent.MakeHostKeys(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(made.Public, b.Keys) {
		b.Keys = made.Public
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
	}
	// Written down before the host shows them: a crash in between leaves one that is known
	// by one key or by the other.
	if err := s.d.Births.Unlearn(b.Address, ""); err != nil {
		return err
	}
	if err := s.d.Births.Learn(b.Address, b.Keys); err != nil {
		return err
	}
	if _, err := n.Agent.UseHostKeys(ctx); err != nil {
		return err
	}
	own := s.node("")
	g := s.d.gate(b.Host+" shows the keys that were made on it", 0, func(ctx context.Context) error {
		_, err := own.Agent.FenceShow(ctx)
		return never(err)
	})
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	if _, err := own.Agent.SetHostname(ctx, b.Host); err != nil {
		return err
	}
	say("%s has ssh host keys of its own now, and its name", b.Host)
	return nil
}

// meet waits until the machine answers under a key that is known: its own, if a crash came
// after those were used, else the image's.
func (s reach) meet(ctx context.Context, say pipeline.Say) (Node, error) {
	b := s.b()
	names := slices.Clone(b.KnownAs)
	if len(b.Keys) > 0 {
		names = slices.Insert(names, 0, "")
	}
	var met Node
	g := s.d.gate(fmt.Sprintf("%s answers at %s", b.Host, b.Address), 0, func(ctx context.Context) error {
		var errs []error
		for _, name := range names {
			n := s.node(name)
			_, err := n.Agent.FenceShow(ctx)
			if err == nil {
				met = n
				return nil
			}
			errs = append(errs, err)
			if !errors.Is(err, hosts.ErrHostKey) {
				return never(err)
			}
		}
		return pipeline.Never(fmt.Errorf("%s at %s shows none of the host keys that %s had, whose disk image %d is: %w", b.Host, b.Address, b.Of, b.Image, errors.Join(errs...)))
	})
	g.Safe = true
	return met, pipeline.Await(ctx, g, say)
}

// never ends the wait for what does not mend itself.
func never(err error) error {
	if errors.Is(err, hosts.ErrHostKey) || errors.Is(err, hosts.ErrAuth) {
		return pipeline.Never(err)
	}
	return err
}

// sealed asks the new machine whether it is the droplet that was made, and whether it has
// started nothing: an image from before there were seals may have.
func (s reach) sealed(ctx context.Context, n Node) error {
	b := s.b()
	p, err := n.Agent.Permit(ctx, s.d.permitIn(n))
	if err != nil {
		return err
	}
	switch {
	case p.InstanceError != "":
		return fmt.Errorf("%s: %s", b.Host, p.InstanceError)
	case p.Instance.ID != strconv.Itoa(b.Droplet):
		return fmt.Errorf("at %s is machine %s, not the droplet %d that was made: another has that address", b.Address, p.Instance.ID, b.Droplet)
	case !p.Held() && (p.Permit == nil || p.Permit.Instance != p.Instance.ID):
		return fmt.Errorf("image %d was taken before %s was sealed: systemd would start %s on any clone. Take another (--image), of a node that `refit seal` has sealed", b.Image, b.Of, strings.Join(n.Units(), ", "))
	}
	if p.Permit != nil && p.Permit.Instance == p.Instance.ID {
		return nil // admitted before a crash
	}
	out, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: n.Units(), Home: s.d.Layout.Home}, nil)
	if err != nil {
		return err
	}
	for _, u := range out.Units {
		if u.Running() {
			return fmt.Errorf("%s on the new machine runs without a permit: the seal of image %d does not hold", u.Name, b.Image)
		}
	}
	return nil
}

// Undo forgets the machine's address; another may get it.
func (s reach) Undo(context.Context, pipeline.Say) error {
	if s.b().Address == "" || s.b().Old != nil && s.b().Old.Address == s.b().Address {
		return nil
	}
	return s.d.Births.Unlearn(s.b().Address, "")
}
