package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"
)

// Account tells whose token it is. It needs the scope account:read.
func (c *Client) Account(ctx context.Context) (Account, error) {
	a, err := fetch(ctx, c.begin(), deed{what: "read the account", scope: "account:read"}, c.api.Account.Get)
	return Account{Email: a.Email, Status: a.Status, DropletLimit: a.DropletLimit}, err
}

// Droplets lists those with a tag, all of the account with "".
func (c *Client) Droplets(ctx context.Context, tag string) ([]Droplet, error) {
	return c.droplets(ctx, c.begin(), tag)
}

func (c *Client) droplets(ctx context.Context, k call, tag string) ([]Droplet, error) {
	d := deed{what: "list the droplets", scope: "droplet:read"}
	list := c.api.Droplets.List
	if tag != "" {
		d.what += " tagged " + tag
		list = func(ctx context.Context, o *godo.ListOptions) ([]godo.Droplet, *godo.Response, error) {
			return c.api.Droplets.ListByTag(ctx, url.QueryEscape(tag), o) // godo does not escape it
		}
	}
	got, err := all(ctx, k, d, list)
	if err != nil {
		return nil, err
	}
	out, err := each(got, toDroplet)
	return out, c.strange(d, err)
}

// strange is the error of an answer that cannot be understood.
func (c *Client) strange(d deed, err error) error {
	if err == nil {
		return nil
	}
	return c.judge(d, context.Background(), err)
}

// Droplet is one by its ID; ErrNotFound where the account has none.
func (c *Client) Droplet(ctx context.Context, id int) (Droplet, error) {
	return c.droplet(ctx, c.begin(), id)
}

func (c *Client) droplet(ctx context.Context, k call, id int) (Droplet, error) {
	d := deed{what: fmt.Sprintf("read the droplet %d", id), scope: "droplet:read"}
	got, err := fetch(ctx, k, d, func(ctx context.Context) (*godo.Droplet, *godo.Response, error) {
		return c.api.Droplets.Get(ctx, id)
	})
	if err != nil {
		return Droplet{}, err
	}
	out, err := toDroplet(got)
	return out, c.strange(d, err)
}

// dropletLike is the one of that exact name and with all of those tags, if there is one: a
// node that takes another's place has the other's name too, and only its run's tag tells
// the two apart.
func (c *Client) dropletLike(ctx context.Context, k call, n NewDroplet) (Droplet, bool, error) {
	list, err := c.droplets(ctx, k, "")
	if err != nil {
		return Droplet{}, false, err
	}
	list = slices.DeleteFunc(list, func(d Droplet) bool {
		return slices.ContainsFunc(n.Tags, func(t string) bool { return !slices.Contains(d.Tags, t) })
	})
	return named(list, "droplet", n.Name, func(d Droplet) (string, string) { return strconv.Itoa(d.ID), d.Name })
}

// named is the only one of that exact name. More than one is an error, since to take either
// could be to take another's.
func named[T any](list []T, kind, name string, of func(T) (id, name string)) (T, bool, error) {
	var out T
	var ids []string
	for _, t := range list {
		if id, n := of(t); n == name {
			out = t
			ids = append(ids, id)
		}
	}
	if len(ids) > 1 {
		var none T
		return none, false, fmt.Errorf("the account has %d of the name %s (%s: %s): remove or rename all but one in the control panel", len(ids), name, kind, strings.Join(ids, ", "))
	}
	return out, len(ids) == 1, nil
}

// Create makes a droplet and waits until it runs and has an address. One of that name
// that is there already with all of its tags is taken for it: one of them must name the run. Where the error is not about the request itself, the
// droplet comes with it, if it is known, for it is there and costs money.
func (c *Client) Create(ctx context.Context, n NewDroplet) (Droplet, error) {
	if n.Name == "" {
		return Droplet{}, errors.New("a droplet needs a name: by it, it is found again")
	}
	got, ok, err := c.dropletLike(ctx, c.begin(), n)
	if err != nil {
		return Droplet{}, err
	}
	if !ok {
		if got, err = c.create(ctx, n); err != nil {
			return Droplet{}, err
		}
	}
	return c.born(ctx, got)
}

func (c *Client) create(ctx context.Context, n NewDroplet) (Droplet, error) {
	d := deed{what: fmt.Sprintf("make the droplet %s from the image %d", n.Name, n.Image), scope: "droplet:create"}
	return write[Droplet]{
		deed: d,
		send: func(ctx context.Context) (Droplet, *godo.Response, error) {
			g, resp, err := whole(func(ctx context.Context) (*godo.Droplet, *godo.Response, error) {
				return c.api.Droplets.Create(ctx, &godo.DropletCreateRequest{
					Name: n.Name, Region: n.Region, Size: n.Size, Image: godo.DropletCreateImage{ID: n.Image},
					SSHKeys: keys(n.SSHKeys), Tags: sent(n.Tags), VPCUUID: n.VPC, UserData: n.UserData, Monitoring: true,
				})
			})(ctx)
			if err != nil {
				return Droplet{}, resp, err
			}
			out, err := toDroplet(*g)
			return out, resp, err
		},
		found: func(ctx context.Context, k call) (Droplet, bool, error) { return c.dropletLike(ctx, k, n) },
	}.do(ctx, c)
}

// keys are IDs where they are numbers, else fingerprints.
func keys(list []string) []godo.DropletCreateSSHKey {
	out := []godo.DropletCreateSSHKey{}
	for _, k := range list {
		if id, err := strconv.Atoi(k); err == nil {
			out = append(out, godo.DropletCreateSSHKey{ID: id})
		} else {
			out = append(out, godo.DropletCreateSSHKey{Fingerprint: k})
		}
	}
	return out
}

// born waits until a droplet runs and has an address.
func (c *Client) born(ctx context.Context, d Droplet) (Droplet, error) {
	q := deed{what: fmt.Sprintf("make the droplet %s (%d) run", d.Name, d.ID)}
	stuck := func(kind error, happened string) error {
		return &fault{
			deed: q, host: c.host, kind: kind, happened: happened,
			advice: "it is there and costs money: see it in the control panel, destroy it, and run it again",
		}
	}
	for began := time.Now(); ; {
		now, err := c.Droplet(ctx, d.ID)
		switch {
		case errors.Is(err, ErrNotFound) && time.Since(began) < c.patience: // it may take a while to be listed
		case err != nil:
			return d, err
		default:
			d = now
		}
		if d.Status == "active" && (d.Public.IsValid() || d.Private.IsValid()) {
			return d, nil
		}
		if d.Status == "new" {
			if a, ok, err := c.last(ctx, c.begin(), d.ID, "create"); err == nil && ok && a.Status == "errored" {
				return d, stuck(ErrErrored, "its creation ended as errored, and the API gives no reason")
			} else if err != nil && !errors.Is(err, ErrNotFound) {
				return d, err
			}
		}
		if time.Since(began) > c.birth {
			return d, stuck(nil, fmt.Sprintf("after %s its status is %s and its address %s", c.birth, cmp.Or(d.Status, "unknown"), address(d)))
		}
		if err := rest(ctx, jittered(8*time.Second)); err != nil {
			return d, fmt.Errorf("it was ended while the droplet %s (%d) was awaited: %w", d.Name, d.ID, err)
		}
	}
}

func address(d Droplet) string {
	switch {
	case d.Public.IsValid():
		return d.Public.String()
	case d.Private.IsValid():
		return d.Private.String()
	}
	return "none"
}

// Destroy deletes a droplet; one that is gone already is no error.
func (c *Client) Destroy(ctx context.Context, id int) error {
	return c.remove(ctx, removal{
		deed: deed{what: fmt.Sprintf("destroy the droplet %d", id), scope: "droplet:delete", on: id},
		send: func(ctx context.Context) (*godo.Response, error) { return c.api.Droplets.Delete(ctx, id) },
		look: func(ctx context.Context, k call) error { _, err := c.droplet(ctx, k, id); return err },
	})
}

// removal takes something away.
type removal struct {
	deed
	send func(context.Context) (*godo.Response, error)
	look func(context.Context, call) error // ErrNotFound once it is gone
}

// remove sends a removal; what is gone already is no error.
func (c *Client) remove(ctx context.Context, r removal) error {
	type nothing struct{}
	_, err := write[nothing]{
		deed: r.deed,
		send: func(ctx context.Context) (nothing, *godo.Response, error) {
			resp, err := r.send(ctx)
			return nothing{}, resp, err
		},
		found: func(ctx context.Context, k call) (nothing, bool, error) {
			err := r.look(ctx, k)
			if errors.Is(err, ErrNotFound) {
				return nothing{}, true, nil
			}
			return nothing{}, false, err
		},
	}.do(ctx, c)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
