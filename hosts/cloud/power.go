package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/godo"
)

// Power switches a droplet on or off, and waits until its status says so too: the action
// can be completed before the machine is (merqlove/do_snapshot#9). One that is so already
// is left alone. A system that does not heed Shutdown is an error after the patience.
func (c *Client) Power(ctx context.Context, id int, to Power) error {
	want := "off"
	send := c.api.DropletActions.PowerOff
	switch to {
	case PowerOn:
		want, send = "active", c.api.DropletActions.PowerOn
	case Shutdown:
		send = c.api.DropletActions.Shutdown
	case PowerOff:
	default:
		return fmt.Errorf("no power of a droplet is called %q", to)
	}
	d := deed{what: fmt.Sprintf("do %s on the droplet %d", to, id), scope: "droplet:update", on: id}
	now, err := c.Droplet(ctx, id)
	if err != nil {
		return err
	}
	if now.Status == want && !now.Locked {
		return nil
	}
	if now.Locked { // what is open may be the same, or its opposite
		if err := c.unlocked(ctx, d); err != nil {
			return err
		}
		if now, err = c.Droplet(ctx, id); err != nil || now.Status == want {
			return err
		}
	}
	a, err := c.act(ctx, d, []string{string(to)}, func(ctx context.Context) (*godo.Action, *godo.Response, error) {
		return send(ctx, id)
	}, func(ctx context.Context, k call) (Action, bool, error) {
		now, err := c.droplet(ctx, k, id)
		return Action{Status: "completed"}, err == nil && now.Status == want, err
	})
	if err != nil {
		return err
	}
	if err := c.Await(ctx, id, a.ID, 5*time.Second, c.say); err != nil {
		return err
	}
	return c.becomes(ctx, d, want)
}

// unlocked waits until no action is open on the droplet.
func (c *Client) unlocked(ctx context.Context, d deed) error {
	open, ok, err := c.Pending(ctx, d.on)
	if err != nil || !ok {
		return err
	}
	line := queue{Client: c, deed: d, began: time.Now()}
	return line.wait(ctx, &fault{
		deed: d, host: c.host, kind: ErrBusy,
		happened: fmt.Sprintf("the droplet has an open action, %s (%d)", open.Type, open.ID),
		advice:   "see the droplet's history in the control panel, and run it again when it has ended",
	})
}

// becomes waits for a droplet's status.
func (c *Client) becomes(ctx context.Context, d deed, want string) error {
	for began := time.Now(); ; {
		now, err := c.Droplet(ctx, d.on)
		switch {
		case err != nil:
			return err
		case now.Status == want:
			return nil
		case time.Since(began) > c.patience:
			return &fault{
				deed: d, host: c.host,
				happened: fmt.Sprintf("the action was completed, and after %s the droplet's status is %s, not %s", c.patience, now.Status, want),
				advice:   "see its console in the control panel; a system that does not heed a shutdown has to be switched off (power_off)",
			}
		}
		if err := rest(ctx, jittered(5*time.Second)); err != nil {
			return errors.Join(fmt.Errorf("it was ended while the droplet %d was to become %s", d.on, want), err)
		}
	}
}
