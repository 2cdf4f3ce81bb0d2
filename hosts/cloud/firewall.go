package cloud

import (
	"context"
	"errors"

	"github.com/digitalocean/godo"
)

// Firewalls are the account's cloud firewalls.
func (c *Client) Firewalls(ctx context.Context) ([]Firewall, error) {
	return c.firewalls(ctx, c.begin())
}

func (c *Client) firewalls(ctx context.Context, k call) ([]Firewall, error) {
	got, err := all(ctx, k, deed{what: "list the firewalls", scope: "firewall:read"}, c.api.Firewalls.List)
	out := make([]Firewall, len(got))
	for i, g := range got {
		out[i] = toFirewall(g)
	}
	return out, err
}

func (c *Client) firewallNamed(ctx context.Context, k call, name string) (Firewall, bool, error) {
	list, err := c.firewalls(ctx, k)
	if err != nil {
		return Firewall{}, false, err
	}
	return named(list, "firewall", name, func(f Firewall) (string, string) { return f.ID, f.Name })
}

// CreateFirewall makes a firewall. One of that name that is there already is taken for it,
// with the rules that it has.
func (c *Client) CreateFirewall(ctx context.Context, f Firewall) (Firewall, error) {
	if f.Name == "" {
		return Firewall{}, errors.New("a firewall needs a name: by it, it is found again")
	}
	got, ok, err := c.firewallNamed(ctx, c.begin(), f.Name)
	if ok || err != nil {
		return got, err
	}
	for _, t := range f.Tags { // it can be put on by tags that there are, and no others
		if err := c.makeTag(ctx, t); err != nil {
			return Firewall{}, err
		}
	}
	req := &godo.FirewallRequest{
		Name: f.Name, DropletIDs: sent(f.Droplets), Tags: sent(f.Tags),
		InboundRules: []godo.InboundRule{}, OutboundRules: []godo.OutboundRule{},
	}
	for _, r := range f.In {
		req.InboundRules = append(req.InboundRules, godo.InboundRule{
			Protocol: r.Protocol, PortRange: zeroPorts(r), Sources: &godo.Sources{Addresses: r.Addresses},
		})
	}
	for _, r := range f.Out {
		req.OutboundRules = append(req.OutboundRules, godo.OutboundRule{
			Protocol: r.Protocol, PortRange: zeroPorts(r), Destinations: &godo.Destinations{Addresses: r.Addresses},
		})
	}
	return write[Firewall]{
		deed: deed{what: "make the firewall " + f.Name, scope: "firewall:create"},
		send: func(ctx context.Context) (Firewall, *godo.Response, error) {
			g, resp, err := whole(func(ctx context.Context) (*godo.Firewall, *godo.Response, error) {
				return c.api.Firewalls.Create(ctx, req)
			})(ctx)
			if err != nil {
				return Firewall{}, resp, err
			}
			return toFirewall(*g), resp, nil
		},
		found: func(ctx context.Context, k call) (Firewall, bool, error) { return c.firewallNamed(ctx, k, f.Name) },
	}.do(ctx, c)
}

// DestroyFirewall deletes a firewall; one that is gone already is no error.
func (c *Client) DestroyFirewall(ctx context.Context, id string) error {
	if err := checked(id); err != nil {
		return err
	}
	return c.remove(ctx, removal{
		deed: deed{what: "delete the firewall " + id, scope: "firewall:delete"},
		send: func(ctx context.Context) (*godo.Response, error) { return c.api.Firewalls.Delete(ctx, id) },
		look: func(ctx context.Context, k call) error {
			_, err := fetch(ctx, k, deed{what: "read the firewall " + id, scope: "firewall:read"}, func(ctx context.Context) (*godo.Firewall, *godo.Response, error) {
				return c.api.Firewalls.Get(ctx, id)
			})
			return err
		},
	})
}
