package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/digitalocean/godo"
)

// usual is between two polls of an action where the caller names nothing: six droplets
// make 30 requests a minute, of the 250 that a token may make.
const usual = 12 * time.Second

// Pending is the open action of a droplet, if there is one.
func (c *Client) Pending(ctx context.Context, droplet int) (Action, bool, error) {
	return c.pending(ctx, c.begin(), droplet)
}

func (c *Client) pending(ctx context.Context, k call, droplet int) (Action, bool, error) {
	list, err := c.actions(ctx, k, droplet)
	if err != nil {
		return Action{}, false, err
	}
	i := slices.IndexFunc(list, Action.Open)
	if i < 0 {
		return Action{}, false, nil
	}
	return list[i], true, nil
}

// actions are those of a droplet, the newest first.
func (c *Client) actions(ctx context.Context, k call, droplet int) ([]Action, error) {
	d := deed{what: fmt.Sprintf("list the actions of the droplet %d", droplet), scope: "droplet:read"}
	got, err := all(ctx, k, d, func(ctx context.Context, o *godo.ListOptions) ([]godo.Action, *godo.Response, error) {
		return c.api.Droplets.Actions(ctx, droplet, o)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Action, len(got))
	for i, a := range got {
		out[i] = toAction(a)
	}
	slices.SortStableFunc(out, func(a, b Action) int { return b.ID - a.ID })
	return out, nil
}

// last is the newest action of a type.
func (c *Client) last(ctx context.Context, k call, droplet int, kinds ...string) (Action, bool, error) {
	list, err := c.actions(ctx, k, droplet)
	if err != nil {
		return Action{}, false, err
	}
	i := slices.IndexFunc(list, func(a Action) bool { return slices.Contains(kinds, a.Type) })
	if i < 0 {
		return Action{}, false, nil
	}
	return list[i], true, nil
}

// Await polls an action until it is completed; ErrErrored when it ends otherwise. It asks
// about as often as every says (12 s with 0), and tells say about once a minute that it
// goes on. The action 0, which Snapshot gives for an image that is there already, is over.
// Only ctx bounds it: a snapshot may take hours.
func (c *Client) Await(ctx context.Context, droplet, action int, every time.Duration, say func(string, ...any)) error {
	if action == 0 {
		return nil
	}
	if say == nil {
		say = func(string, ...any) {}
	}
	if every <= 0 {
		every = usual
	}
	d := deed{what: fmt.Sprintf("follow the action %d of the droplet %d", action, droplet), scope: "droplet:read"}
	began := time.Now()
	for told := began; ; {
		got, err := fetch(ctx, c.begin(), d, func(ctx context.Context) (*godo.Action, *godo.Response, error) {
			return c.api.DropletActions.Get(ctx, droplet, action)
		})
		if err != nil {
			return err
		}
		switch got.Status {
		case "completed":
			return nil
		case "errored": // godo has no name for it
			return &fault{
				deed: deed{what: fmt.Sprintf("do %s on the droplet %d", got.Type, droplet)}, host: c.host, kind: ErrErrored,
				happened: fmt.Sprintf("the action %d ended as errored, and the API gives no reason", action),
				advice:   "see the droplet's history in the control panel, and run it again",
			}
		case "in-progress":
		default:
			return &fault{
				deed: d, host: c.host, happened: fmt.Sprintf("its status is %q, which the API's description does not have", c.quote(got.Status)),
				advice: "see the droplet's history in the control panel",
			}
		}
		if now := time.Now(); now.Sub(told) >= time.Minute {
			told = now
			say("%s of the droplet %d goes on (action %d, %s by now)", got.Type, droplet, action, now.Sub(began).Round(time.Second))
		}
		if err := rest(ctx, jittered(every)); err != nil {
			return fmt.Errorf("it was ended while %s of the droplet %d (action %d) was awaited, which goes on: %w", got.Type, droplet, action, err)
		}
	}
}

// act starts an action on a droplet. When the answer is lost, a newer action of one of the
// kinds than was there before is taken for it, or what instead finds.
func (c *Client) act(ctx context.Context, d deed, kinds []string,
	send func(context.Context) (*godo.Action, *godo.Response, error),
	instead func(context.Context, call) (Action, bool, error),
) (Action, error) {
	newest := 0
	return write[Action]{
		deed: d,
		before: func(ctx context.Context, k call) error {
			list, err := c.actions(ctx, k, d.on)
			if err == nil && len(list) > 0 {
				newest = list[0].ID
			}
			return err
		},
		send: func(ctx context.Context) (Action, *godo.Response, error) {
			got, resp, err := whole(send)(ctx)
			if err == nil && got.ID == 0 {
				err = errHollow
			}
			if err != nil {
				return Action{}, resp, err
			}
			return toAction(*got), resp, nil
		},
		found: func(ctx context.Context, k call) (Action, bool, error) {
			a, ok, err := c.last(ctx, k, d.on, kinds...)
			ok = ok && a.ID > newest
			if err != nil || ok || instead == nil {
				return a, ok, err
			}
			return instead(ctx, k)
		},
	}.do(ctx, c)
}

// Snapshot starts a snapshot of a droplet, or finds it: an image of that name on the
// droplet gives an action that is completed, with the ID 0 for Await. An open snapshot is
// waited for first, since actions carry no names and it may be the one.
func (c *Client) Snapshot(ctx context.Context, droplet int, name string) (Action, error) {
	if name == "" {
		return Action{}, errors.New("a snapshot needs a name: by it, it is found again")
	}
	there := func(ctx context.Context, k call) (Action, bool, error) {
		im, err := c.snapshotOf(ctx, k, droplet, name)
		if errors.Is(err, ErrNotFound) {
			return Action{}, false, nil
		}
		return Action{Type: "snapshot", Status: "completed", Started: im.Created, Completed: im.Created}, err == nil, err
	}
	if a, ok, err := there(ctx, c.begin()); ok || err != nil {
		return a, err
	}
	open, ok, err := c.Pending(ctx, droplet)
	if err != nil {
		return Action{}, err
	}
	if ok && open.Type == "snapshot" {
		c.say("a snapshot of the droplet %d is open (action %d, since %s): it is waited for, since it may be %s", droplet, open.ID, clock(open.Started), name)
		err := c.Await(ctx, droplet, open.ID, 0, c.say)
		if err != nil && !errors.Is(err, ErrErrored) {
			return Action{}, err
		}
		if err == nil { // its image may take a while
			_, err = c.SnapshotOf(ctx, droplet, name)
			if err == nil {
				open.Status = "completed"
				return open, nil
			}
			if !errors.Is(err, ErrNotFound) {
				return Action{}, err
			}
		}
	}
	d := deed{what: fmt.Sprintf("take the snapshot %s of the droplet %d", name, droplet), scope: "droplet:update and image:create", on: droplet}
	return c.act(ctx, d, []string{"snapshot"}, func(ctx context.Context) (*godo.Action, *godo.Response, error) {
		return c.api.DropletActions.Snapshot(ctx, droplet, name)
	}, there)
}

// Restore puts a droplet's disk back to an image of its own, in place: ID and addresses
// stay. The description has "restore" for backups of the droplet alone; where the API
// refuses it, "rebuild" is sent, which takes every image, so only for one that the droplet
// lists among its snapshots.
func (c *Client) Restore(ctx context.Context, droplet, image int) (Action, error) {
	d := deed{what: fmt.Sprintf("put the droplet %d back to the image %d", droplet, image), scope: "droplet:update and droplet:admin", on: droplet}
	a, err := c.act(ctx, d, []string{"restore"}, func(ctx context.Context) (*godo.Action, *godo.Response, error) {
		return c.api.DropletActions.Restore(ctx, droplet, image)
	}, nil)
	if f, ok := err.(*fault); !ok || f.code != http.StatusUnprocessableEntity || f.kind != nil { //nolint:errorlint // act wraps no refusal
		return a, err
	}
	now, look := c.Droplet(ctx, droplet)
	if look != nil {
		return a, fmt.Errorf("%w; whether the image is the droplet's own cannot be read: %w", err, look)
	}
	if !slices.Contains(now.Snapshots, image) {
		return a, err
	}
	c.say("the droplet %d cannot be restored from the image %d (%v): it is rebuilt from it", droplet, image, err)
	a, again := c.act(ctx, d, []string{"rebuild"}, func(ctx context.Context) (*godo.Action, *godo.Response, error) {
		return c.api.DropletActions.RebuildByImageID(ctx, droplet, image)
	}, nil)
	if again != nil {
		return a, fmt.Errorf("%w; restoring it was refused before: %w", again, err)
	}
	return a, nil
}
