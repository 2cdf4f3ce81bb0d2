package cloud

import (
	"context"

	"github.com/digitalocean/godo"
)

// Balancers are all load balancers of the account.
func (c *Client) Balancers(ctx context.Context) ([]Balancer, error) {
	d := deed{what: "list the balancers", scope: "load_balancer:read"}
	list, err := all(ctx, c.begin(), d, c.api.LoadBalancers.List)
	if err != nil {
		return nil, err
	}
	out := make([]Balancer, len(list))
	for i, b := range list {
		out[i] = toBalancer(b)
	}
	return out, nil
}

// Databases are all managed database clusters of the account. The list has no pages
// (official description).
func (c *Client) Databases(ctx context.Context) ([]Database, error) {
	d := deed{what: "list the databases", scope: "database:read"}
	list, _, err := get(ctx, c.begin(), d, func(ctx context.Context) ([]godo.Database, *godo.Response, error) {
		list, resp, err := c.api.Databases.List(ctx, nil)
		if err == nil && list == nil {
			err = errHollow
		}
		return list, resp, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]Database, len(list))
	for i, g := range list {
		out[i] = toDatabase(g)
	}
	return out, nil
}
