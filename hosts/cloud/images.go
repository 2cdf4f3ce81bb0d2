package cloud

import (
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

// SnapshotOf is the image of that name that was taken of the droplet. Since an image may
// show some time after its action is completed, it is waited for, for the patience, before
// it is ErrNotFound.
func (c *Client) SnapshotOf(ctx context.Context, droplet int, name string) (Image, error) {
	k := c.begin()
	for {
		im, err := c.snapshotOf(ctx, k, droplet, name)
		if !errors.Is(err, ErrNotFound) || errors.Is(err, errNoDroplet) {
			return im, err
		}
		next := jittered(5 * time.Second)
		if time.Now().Add(next).After(k.ends) {
			return Image{}, fmt.Errorf("the droplet %d has no snapshot %s after %s of waiting: %w; see its images in the control panel, and run it again", droplet, name, c.patience, ErrNotFound)
		}
		if err := rest(ctx, next); err != nil {
			return Image{}, fmt.Errorf("it was ended while the image %s of the droplet %d was awaited: %w", name, droplet, err)
		}
	}
}

// errNoDroplet: there is nothing to wait for.
var errNoDroplet = errors.New("the droplet is not there")

// snapshotOf looks once.
func (c *Client) snapshotOf(ctx context.Context, k call, droplet int, name string) (Image, error) {
	d := deed{what: fmt.Sprintf("list the snapshots of the droplet %d", droplet), scope: "droplet:read"}
	got, err := all(ctx, k, d, func(ctx context.Context, o *godo.ListOptions) ([]godo.Image, *godo.Response, error) {
		return c.api.Droplets.Snapshots(ctx, droplet, o)
	})
	if errors.Is(err, ErrNotFound) {
		return Image{}, fmt.Errorf("%w: %w", errNoDroplet, err)
	}
	if err != nil {
		return Image{}, err
	}
	best := godo.Image{}
	for _, g := range got {
		if g.Name == name && usable(g) && g.ID > best.ID {
			best = g
		}
	}
	if best.ID == 0 {
		return Image{}, fmt.Errorf("the droplet %d has no snapshot %s: %w", droplet, name, ErrNotFound)
	}
	out, err := toImage(best)
	return out, c.strange(d, err)
}

// usable tells whether an image can be used already, and still. Those that are listed for
// a droplet may come without a status.
func usable(g godo.Image) bool {
	return g.Status == "" || strings.EqualFold(g.Status, "available")
}

// Images are the account's own images and snapshots that have a tag, all of them with "".
func (c *Client) Images(ctx context.Context, tag string) ([]Image, error) {
	d := deed{what: "list the images", scope: "image:read"}
	list := c.api.Images.ListUser
	if tag != "" {
		d.what += " tagged " + tag
		list = func(ctx context.Context, o *godo.ListOptions) ([]godo.Image, *godo.Response, error) {
			return c.api.Images.ListByTag(ctx, tag, o)
		}
	}
	got, err := all(ctx, c.begin(), d, list)
	if err != nil {
		return nil, err
	}
	got = slices.DeleteFunc(got, func(g godo.Image) bool { return g.Public })
	out, err := each(got, toImage)
	return out, c.strange(d, err)
}

// Image is one by its ID; ErrNotFound where the account has none.
func (c *Client) Image(ctx context.Context, id int) (Image, error) {
	return c.image(ctx, c.begin(), id)
}

func (c *Client) image(ctx context.Context, k call, id int) (Image, error) {
	d := deed{what: fmt.Sprintf("read the image %d", id), scope: "image:read"}
	got, err := fetch(ctx, k, d, func(ctx context.Context) (*godo.Image, *godo.Response, error) {
		return c.api.Images.GetByID(ctx, id)
	})
	if err != nil {
		return Image{}, err
	}
	out, err := toImage(got)
	return out, c.strange(d, err)
}

// DeleteImage deletes an image; one that is gone already is no error.
func (c *Client) DeleteImage(ctx context.Context, id int) error {
	return c.remove(ctx, removal{
		deed: deed{what: fmt.Sprintf("delete the image %d", id), scope: "image:delete"},
		send: func(ctx context.Context) (*godo.Response, error) { return c.api.Images.Delete(ctx, id) },
		look: func(ctx context.Context, k call) error { _, err := c.image(ctx, k, id); return err },
	})
}

// TagImage puts tags on an image, and makes those that the account lacks. Tags that are on
// it already are left alone.
func (c *Client) TagImage(ctx context.Context, image int, tags ...string) error {
	return c.tag(ctx, KindImage, image, tags)
}

// TagDroplet puts tags on a droplet, and makes those that the account lacks. A droplet's
// tags decide over balancers and firewalls too.
func (c *Client) TagDroplet(ctx context.Context, droplet int, tags ...string) error {
	return c.tag(ctx, KindDroplet, droplet, tags)
}

// tagsOf are the tags that something has now.
func (c *Client) tagsOf(ctx context.Context, k call, kind Kind, id int) ([]string, error) {
	if kind == KindDroplet {
		d, err := c.droplet(ctx, k, id)
		return d.Tags, err
	}
	im, err := c.image(ctx, k, id)
	return im.Tags, err
}

func (c *Client) tag(ctx context.Context, kind Kind, id int, tags []string) error {
	has, err := c.tagsOf(ctx, c.begin(), kind, id)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if slices.Contains(has, t) {
			continue
		}
		err := c.putTag(ctx, kind, id, t)
		if errors.Is(err, ErrNotFound) { // the tag, for the other was there a moment ago
			made := c.makeTag(ctx, t)
			if err = c.putTag(ctx, kind, id, t); err != nil && made != nil {
				err = made // where another made it meanwhile, only the second attempt counts
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func resource(kind Kind, id int) []godo.Resource {
	return []godo.Resource{{ID: strconv.Itoa(id), Type: godo.ResourceType(kind)}}
}

func (c *Client) putTag(ctx context.Context, kind Kind, id int, tag string) error {
	type nothing struct{}
	_, err := write[nothing]{
		deed: deed{what: fmt.Sprintf("tag the %s %d with %s", kind, id, tag), scope: fmt.Sprintf("tag:create and %s:update", kind)},
		send: func(ctx context.Context) (nothing, *godo.Response, error) {
			resp, err := c.api.Tags.TagResources(ctx, url.PathEscape(tag), &godo.TagResourcesRequest{Resources: resource(kind, id)})
			return nothing{}, resp, err
		},
		found: func(ctx context.Context, k call) (nothing, bool, error) {
			has, err := c.tagsOf(ctx, k, kind, id)
			return nothing{}, slices.Contains(has, tag), err
		},
	}.do(ctx, c)
	return err
}

func (c *Client) makeTag(ctx context.Context, tag string) error {
	d := deed{what: "make the tag " + tag, scope: "tag:create"}
	_, err := write[*godo.Tag]{
		deed: d,
		send: func(ctx context.Context) (*godo.Tag, *godo.Response, error) {
			return whole(func(ctx context.Context) (*godo.Tag, *godo.Response, error) {
				return c.api.Tags.Create(ctx, &godo.TagCreateRequest{Name: tag})
			})(ctx)
		},
		found: func(ctx context.Context, k call) (*godo.Tag, bool, error) {
			got, err := all(ctx, k, deed{what: "list the tags", scope: "tag:read"}, c.api.Tags.List)
			return nil, slices.ContainsFunc(got, func(g godo.Tag) bool { return g.Name == tag }), err
		},
	}.do(ctx, c)
	return err
}

// Untag takes a tag off a droplet or an image; one that is not on it is no error. The tag
// itself stays.
func (c *Client) Untag(ctx context.Context, tag string, kind Kind, id int) error {
	return c.remove(ctx, removal{
		deed: deed{what: fmt.Sprintf("take the tag %s off the %s %d", tag, kind, id), scope: "tag:delete"},
		send: func(ctx context.Context) (*godo.Response, error) {
			return c.api.Tags.UntagResources(ctx, url.PathEscape(tag), &godo.UntagResourcesRequest{Resources: resource(kind, id)})
		},
		look: func(ctx context.Context, k call) error {
			has, err := c.tagsOf(ctx, k, kind, id)
			if err == nil && !slices.Contains(has, tag) {
				err = ErrNotFound
			}
			return err
		},
	})
}
