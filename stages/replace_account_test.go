package stages

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
)

// The rest of the account.

func (a *account) Droplet(_ context.Context, id int) (cloud.Droplet, error) {
	defer a.enter("Droplet")()
	for _, x := range a.droplets {
		if x.ID == id {
			x.Tags = slices.Clone(x.Tags)
			return x, a.fails["Droplet"]
		}
	}
	return cloud.Droplet{}, cmpErr(a.fails["Droplet"], cloud.ErrNotFound)
}

// Create makes a machine from an image: with the image's release and host key, sealed.
func (a *account) Create(ctx context.Context, in cloud.NewDroplet) (cloud.Droplet, error) {
	defer a.enter("Create")()
	if err := cmpErr(ctx.Err(), a.fails["Create"]); err != nil {
		return cloud.Droplet{}, err
	}
	for _, x := range a.droplets {
		if x.Name == in.Name && !slices.ContainsFunc(in.Tags, func(t string) bool { return !slices.Contains(x.Tags, t) }) {
			return x, nil
		}
	}
	a.made++
	a.next++
	x := cloud.Droplet{
		ID: a.next, Name: in.Name, Status: "active", Region: in.Region, Size: in.Size, Image: in.Image, VPC: in.VPC, Tags: slices.Clone(in.Tags),
		Private: netip.AddrFrom4([4]byte{10, 77, 0, byte(a.next)}), Created: time.Now(),
	}
	if !slices.ContainsFunc(a.walls, func(w cloud.Firewall) bool {
		return len(w.Out) == 0 && len(w.Tags) == 1 && slices.Contains(in.Tags, w.Tags[0])
	}) {
		a.w.t.Errorf("droplet %d is born without a firewall", x.ID)
	}
	a.droplets = append(a.droplets, x)
	a.born[x.ID] = true
	key := a.key(x.ID)
	a.w.live[key], a.w.placed[key] = "v4.5.15", []string{"v4.5.15"}
	a.w.permits[key] = node.PermitOut{Instance: node.Instance{ID: strconv.Itoa(x.ID)}, Refused: "sealed", Permit: &node.Permit{Instance: "13"}}
	a.nursery.shows[key] = "key of " + map[int]string{900: "kirk", 901: "scotty"}[in.Image]
	return x, a.nursery.deed("Create")
}

func (a *account) Destroy(_ context.Context, id int) error {
	defer a.enter("Destroy")()
	if err := a.fails["Destroy"]; err != nil {
		return err
	}
	a.gone = append(a.gone, fmt.Sprintf("droplet %d", id))
	a.droplets = slices.DeleteFunc(a.droplets, func(x cloud.Droplet) bool { return x.ID == id })
	return nil
}

func (a *account) TagDroplet(_ context.Context, id int, tags ...string) error {
	defer a.enter("TagDroplet")()
	for i := range a.droplets {
		if a.droplets[i].ID == id {
			a.droplets[i].Tags = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.droplets[i].Tags, tags))))
			return a.fails["TagDroplet"]
		}
	}
	return cloud.ErrNotFound
}

func (a *account) Untag(_ context.Context, tag string, _ cloud.Kind, id int) error {
	defer a.enter("Untag")()
	for i := range a.droplets {
		if a.droplets[i].ID == id {
			a.droplets[i].Tags = slices.DeleteFunc(slices.Clone(a.droplets[i].Tags), func(t string) bool { return t == tag })
		}
	}
	return a.fails["Untag"]
}

func (a *account) Firewalls(context.Context) ([]cloud.Firewall, error) {
	defer a.enter("Firewalls")()
	return slices.Clone(a.walls), a.fails["Firewalls"]
}

func (a *account) CreateFirewall(_ context.Context, f cloud.Firewall) (cloud.Firewall, error) {
	defer a.enter("CreateFirewall")()
	for _, w := range a.walls {
		if w.Name == f.Name {
			return w, nil
		}
	}
	a.next++
	f.ID = fmt.Sprintf("wall-%d", a.next)
	a.walls = append(a.walls, f)
	return f, nil
}

func (a *account) DestroyFirewall(_ context.Context, id string) error {
	defer a.enter("DestroyFirewall")()
	a.gone = append(a.gone, "firewall "+id)
	a.walls = slices.DeleteFunc(a.walls, func(w cloud.Firewall) bool { return w.ID == id })
	return nil
}

func (a *account) Databases(context.Context) ([]cloud.Database, error) {
	defer a.enter("Databases")()
	return slices.Clone(a.bases), a.fails["Databases"]
}

func (a *account) DestroyDatabase(_ context.Context, id string) error {
	defer a.enter("DestroyDatabase")()
	a.gone = append(a.gone, "database "+id)
	a.bases = slices.DeleteFunc(a.bases, func(b cloud.Database) bool { return b.ID == id })
	return nil
}
