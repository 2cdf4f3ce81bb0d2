package cloudtest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Server) dropletJSON(d *droplet) object {
	z := sizeJSON(d.Size)
	kept := each(s.state.kept(d.ID), func(i *image) int { return i.ID })
	v4 := []object{}
	for _, n := range []struct{ ip, mask, kind string }{{d.Public, "255.255.240.0", "public"}, {d.Private, "255.255.240.0", "private"}} {
		if n.ip != "" {
			gateway := n.ip[:strings.LastIndex(n.ip, ".")+1] + "1"
			v4 = append(v4, object{"ip_address": n.ip, "netmask": n.mask, "gateway": gateway, "type": n.kind})
		}
	}
	features := []string{"droplet_agent"}
	if d.Private != "" {
		features = append(features, "private_networking")
	}
	if d.Monitoring {
		features = append(features, "monitoring")
	}
	img := object{"id": d.Image, "name": "", "type": "snapshot", "status": "deleted"}
	if i := s.state.image(d.Image); i != nil {
		img = imageJSON(i)
	}
	return object{
		"id": d.ID, "name": d.Name, "memory": z["memory"], "vcpus": z["vcpus"], "disk": z["disk"],
		"locked": s.state.open(d.ID) != nil, "status": d.Status, "kernel": nil, "created_at": date(d.Created),
		"features": features, "backup_ids": []int{}, "next_backup_window": nil, "snapshot_ids": kept, "image": img,
		"volume_ids": []string{}, "size": z, "size_slug": d.Size, "networks": object{"v4": v4, "v6": []object{}},
		"region": regionJSON(d.Region), "tags": list(d.Tags), "vpc_uuid": d.VPC,
	}
}

func (s *Server) listDroplets(x *exchange) {
	tag, name, kind := x.one("tag_name"), x.one("name"), x.one("type")
	if kind != "" && kind != "droplets" && kind != "gpus" {
		x.unfit("type is neither droplets nor gpus")
		return
	}
	all := only(s.state.Droplets, func(d *droplet) bool {
		return kind != "gpus" && (tag == "" || slices.Contains(d.Tags, tag)) && (name == "" || strings.EqualFold(d.Name, name))
	})
	page(x, "droplets", all, s.dropletJSON)
}

// droplet is the one that the path names; nil where the refusal is written.
func (s *Server) droplet(x *exchange) *droplet {
	id, ok := x.number("id")
	if !ok {
		return nil
	}
	d := s.state.droplet(id)
	if d == nil {
		x.notFound()
	}
	return d
}

func (s *Server) getDroplet(x *exchange) {
	if d := s.droplet(x); d != nil {
		x.json(http.StatusOK, object{"droplet": s.dropletJSON(d)})
	}
}

// birth is the body of a request to create a droplet. Several at once (names) are not
// simulated, and refused as an unknown field.
type birth struct {
	Name       string         `json:"name"`
	Region     string         `json:"region"`
	Size       string         `json:"size"`
	Image      textOrNumber   `json:"image"`
	Keys       []textOrNumber `json:"ssh_keys"`
	Backups    bool           `json:"backups"`
	Policy     *struct{}      `json:"backup_policy"`
	IPv6       bool           `json:"ipv6"`
	Monitoring bool           `json:"monitoring"`
	Tags       []string       `json:"tags"`
	UserData   string         `json:"user_data"`
	Private    bool           `json:"private_networking"`
	Volumes    []string       `json:"volumes"`
	VPC        string         `json:"vpc_uuid"`
	Agent      *bool          `json:"with_droplet_agent"`
	Public     *bool          `json:"public_networking"`
}

func (s *Server) createDroplet(x *exchange) {
	var w birth
	if !x.read(&w, "tags") || !x.tags(w.Tags) || (len(w.Tags) > 0 && !x.may("tag:create")) {
		return
	}
	w.Region = word(w.Region, "tor1")
	img := find(s.state.Images, func(i *image) bool {
		return i.ID == w.Image.n || (w.Image.text != "" && (i.Slug == w.Image.text || strconv.Itoa(i.ID) == w.Image.text))
	})
	why := ""
	switch z := sizeOf(w.Size); {
	case w.Name == "" || len(w.Name) > 255 || !hostForm.MatchString(w.Name):
		why = "Name is invalid: only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"
	case !slices.Contains(regionSlugs(), w.Region):
		why = "You specified an invalid region for Droplet creation."
	case z == nil:
		why = "You specified an invalid size for Droplet creation."
	case img == nil:
		why = "You specified an invalid image for Droplet creation."
	case !slices.Contains(img.Regions, w.Region):
		why = "The image you specified is not available in the selected region."
	case img.MinDisk > z.disk:
		why = fmt.Sprintf("The image needs a disk of %d GB, and the size has %d.", img.MinDisk, z.disk)
	case w.VPC != "" && s.state.vpc(w.VPC) == nil:
		why = "The VPC does not exist."
	case len(w.Volumes) > 0:
		why = "The volume does not exist."
	case len(s.state.Droplets) >= s.conf.DropletLimit:
		why = "creating this/these droplet(s) will exceed your droplet limit"
	}
	if why != "" {
		x.unfit(why)
		return
	}
	s.state.know(w.Tags)
	id := s.state.next()
	d := &droplet{
		ID: id, Name: w.Name, Machine: s.state.free(w.Name, id), Region: w.Region, Size: w.Size, Image: img.ID, VPC: w.VPC,
		Status: "new", Tags: w.Tags, UserData: w.UserData, Monitoring: w.Monitoring, Created: s.now(),
	}
	if def := find(s.state.VPCs, func(v *vpc) bool { return v.Default && v.Region == w.Region }); d.VPC == "" && def != nil {
		d.VPC = def.ID
	}
	s.state.Droplets = append(s.state.Droplets, d)
	a := s.bear(x, d, img.Key)
	x.json(http.StatusAccepted, object{"droplet": s.dropletJSON(d), "links": object{"actions": []object{{
		"id": a.ID, "rel": "create", "href": fmt.Sprintf("%s/v2/actions/%d", x.base, a.ID),
	}}}})
}

// bear makes a droplet's machine. Firewalls that its tags put it behind hold from its
// first packet on.
func (s *Server) bear(x *exchange, d *droplet, key string) *action {
	m := Machine{ID: d.ID, Name: d.Machine, Image: key, Region: d.Region, Size: d.Size, UserData: d.UserData, Tags: slices.Clone(d.Tags)}
	var placed Placed
	return s.begin(x, d, "create", func(ctx context.Context) (err error) {
		if err = s.fence(ctx, d); err == nil {
			placed, err = s.conf.Machines.Create(ctx, m)
		}
		return err
	}, func() {
		d.Status, d.Public, d.Private = active, placed.Public, placed.Private
		s.refence() // rules of others may name it by its tags
	})
}

func (s *Server) deleteDroplet(x *exchange) {
	d := s.droplet(x)
	switch {
	case d == nil:
	case s.state.open(d.ID) != nil:
		x.pending()
	default:
		s.destroy(d)
		x.done()
	}
}

func (s *Server) deleteDroplets(x *exchange) {
	tag := x.one("tag_name")
	if tag == "" {
		x.unfit("tag_name is missing")
		return
	}
	doomed := only(s.state.Droplets, func(d *droplet) bool { return slices.Contains(d.Tags, tag) })
	if len(doomed) == 0 && !slices.Contains(s.state.Tags, tag) {
		x.notFound()
		return
	}
	if slices.ContainsFunc(doomed, func(d *droplet) bool { return s.state.open(d.ID) != nil }) {
		x.pending()
		return
	}
	for _, d := range doomed {
		s.destroy(d)
	}
	x.done()
}

// destroy takes a droplet out of the account, and its machine away behind that. Its
// snapshots stay.
func (s *Server) destroy(d *droplet) {
	s.state.Droplets = slices.DeleteFunc(s.state.Droplets, func(o *droplet) bool { return o == d })
	for _, b := range s.state.Balancers {
		b.Droplets = slices.DeleteFunc(b.Droplets, func(id int) bool { return id == d.ID })
	}
	fenced := s.walled(d)
	for _, f := range s.state.Firewalls {
		f.Droplets = slices.DeleteFunc(f.Droplets, func(id int) bool { return id == d.ID })
	}
	s.behind(func(ctx context.Context) {
		err := s.conf.Machines.Destroy(ctx, d.Machine)
		s.fences <- struct{}{}
		defer func() { <-s.fences }()
		if err == nil && fenced {
			err = s.conf.Machines.Fence(ctx, d.Machine, nil, false)
		}
		if err != nil {
			s.change(func() { s.fault("the machine of droplet %d (%s) was not destroyed: %v", d.ID, d.Name, err) })
		}
	})
	s.refence() // rules that named it by ID or tag no longer do
}

// begin starts an action on a droplet: deed is done without the lock, and effect with it
// where the deed went well. The lock is held.
func (s *Server) begin(x *exchange, d *droplet, kind string, deed func(context.Context) error, effect func()) *action {
	a := &action{ID: s.state.next(), Droplet: d.ID, Type: kind, Status: inWork, Region: d.Region, Started: s.now()}
	s.state.Actions = append(s.state.Actions, a)
	t := Trouble{}
	if x.met != nil {
		t = *x.met
	}
	s.behind(func(ctx context.Context) { s.perform(ctx, a, t, deed, effect) })
	return a
}

func (s *Server) perform(ctx context.Context, a *action, t Trouble, deed func(context.Context) error, effect func()) {
	var err error
	if t.Errored {
		s.sleep(ctx, s.conf.Pace)
	} else {
		err = deed(ctx)
	}
	s.sleep(ctx, t.Linger)
	well := err == nil && !t.Errored
	s.change(func() {
		a.Status, a.Completed = errored, s.now()
		if well {
			a.Status = completed
		}
		if err != nil {
			s.fault("action %d (%s) of droplet %d: %v", a.ID, a.Type, a.Droplet, err)
		}
		if well && t.Late == 0 {
			effect()
		}
	})
	if well && t.Late > 0 {
		s.sleep(ctx, t.Late)
		s.change(effect)
	}
}

// pending refuses since an action holds the droplet. The wording is the real one's.
func (x *exchange) pending() { x.unfit("Droplet already has a pending event.") }

func actionJSON(a *action) object {
	var ended time.Time
	if a.Status != inWork {
		ended = a.Completed
	}
	return object{
		"id": a.ID, "status": a.Status, "type": a.Type, "started_at": date(a.Started), "completed_at": date(ended),
		"resource_id": a.Droplet, "resource_type": "droplet", "region": regionJSON(a.Region), "region_slug": a.Region,
	}
}
