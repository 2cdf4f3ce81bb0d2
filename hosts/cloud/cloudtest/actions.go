package cloudtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// of are a droplet's actions, the newest first, as the API lists them.
func (a *account) of(droplet int) []*action {
	out := only(a.Actions, func(x *action) bool { return x.Droplet == droplet })
	slices.Reverse(out)
	return out
}

func (s *Server) listActions(x *exchange) {
	if d := s.droplet(x); d != nil {
		page(x, "actions", s.state.of(d.ID), actionJSON)
	}
}

func (s *Server) getAction(x *exchange) {
	d := s.droplet(x)
	if d == nil {
		return
	}
	if id, ok := x.number("action"); ok {
		x.oneAction(find(s.state.Actions, func(a *action) bool { return a.ID == id && a.Droplet == d.ID }))
	}
}

// getAnyAction is of an action also where its droplet is gone.
func (s *Server) getAnyAction(x *exchange) {
	if id, ok := x.number("id"); ok {
		x.oneAction(find(s.state.Actions, func(a *action) bool { return a.ID == id }))
	}
}

func (x *exchange) oneAction(a *action) {
	if a == nil {
		x.notFound()
		return
	}
	x.json(http.StatusOK, object{"action": actionJSON(a)})
}

// scopesOf are those that an action needs beyond droplet:update (official description,
// Initiate a Droplet Action).
var scopesOf = map[string][]string{
	"snapshot": {"image:create"}, "restore": {"droplet:admin"}, "rebuild": {"droplet:admin"},
}

// act begins an action. Those of the description that are not simulated are refused.
func (s *Server) act(x *exchange) {
	d := s.droplet(x)
	if d == nil {
		return
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(x.sent, &kind); err != nil {
		x.unfit("the body is no JSON with a type: " + err.Error())
		return
	}
	if !x.may(scopesOf[kind.Type]...) {
		return
	}
	var a *action
	switch kind.Type {
	case "snapshot":
		a = s.snapshot(x, d)
	case "restore", "rebuild":
		a = s.restore(x, d, kind.Type)
	case "power_on", "power_off", "shutdown", "reboot", "power_cycle":
		a = s.power(x, d, kind.Type)
	default:
		x.unfit(fmt.Sprintf("%q is no action that is simulated", kind.Type))
	}
	if a != nil {
		x.json(http.StatusCreated, object{"action": actionJSON(a)})
	}
}

// held refuses while an action holds the droplet.
func (s *Server) held(x *exchange, d *droplet) bool {
	if s.state.open(d.ID) != nil {
		x.pending()
		return true
	}
	return false
}

func (s *Server) snapshot(x *exchange, d *droplet) *action {
	var w struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	if !x.read(&w) || s.held(x, d) {
		return nil
	}
	id := s.state.next()
	i := &image{
		ID: id, Key: strconv.Itoa(id), Name: word(w.Name, d.Name+"-"+strconv.FormatInt(s.now().Unix(), 10)), Kind: "snapshot",
		Origin: d.ID, Distribution: "Debian", Regions: []string{d.Region},
	}
	if disk, ok := sizeJSON(d.Size)["disk"].(int); ok {
		i.MinDisk = disk
	}
	machine := d.Machine
	return s.begin(x, d, "snapshot", func(ctx context.Context) (err error) {
		i.Bytes, err = s.conf.Machines.Snapshot(ctx, machine, i.Key)
		return err
	}, func() {
		i.Created = s.now()
		s.state.Images = append(s.state.Images, i)
	})
}

// restore puts an image back in place. The description lets "restore" take only images
// of the same droplet, "rebuild" any.
func (s *Server) restore(x *exchange, d *droplet, kind string) *action {
	var w struct {
		Type  string       `json:"type"`
		Image textOrNumber `json:"image"`
	}
	if !x.read(&w) || s.held(x, d) {
		return nil
	}
	i := s.state.image(w.Image.n)
	if kind == "rebuild" && w.Image.text != "" {
		i = find(s.state.Images, func(i *image) bool { return i.Slug == w.Image.text })
	}
	disk, _ := sizeJSON(d.Size)["disk"].(int)
	switch {
	case kind == "restore" && w.Image.text != "":
		x.unfit("image is no number")
	case i == nil:
		x.unfit("The image does not exist.")
	case kind == "restore" && i.Origin != d.ID:
		x.unfit("The image is not one of this Droplet.")
	case !slices.Contains(i.Regions, d.Region) || i.MinDisk > disk:
		x.unfit("The image does not fit this Droplet.")
	default:
		machine, key := d.Machine, i.Key
		return s.begin(x, d, kind, func(ctx context.Context) error {
			return s.conf.Machines.Restore(ctx, machine, key)
		}, func() { d.Status, d.Image = active, i.ID })
	}
	return nil
}

func (s *Server) power(x *exchange, d *droplet, kind string) *action {
	var w struct {
		Type string `json:"type"`
	}
	if !x.read(&w) || s.held(x, d) {
		return nil
	}
	on := d.Status == active
	m, machine := s.conf.Machines, d.Machine
	then := func(first, second func(context.Context, string) error, state string) *action {
		return s.begin(x, d, kind, func(ctx context.Context) error {
			err := first(ctx, machine)
			if err == nil && second != nil {
				err = second(ctx, machine)
			}
			return err
		}, func() { d.Status = state })
	}
	switch {
	case kind == "power_on" && on:
		x.unfit("Droplet is already powered on.")
	case kind != "power_on" && !on:
		x.unfit("Droplet is already powered off.")
	case kind == "power_on":
		return then(m.PowerOn, nil, active)
	case kind == "power_off":
		return then(m.PowerOff, nil, "off")
	case kind == "shutdown":
		return then(m.Shutdown, nil, "off")
	case kind == "reboot":
		return then(m.Shutdown, m.PowerOn, active)
	default:
		return then(m.PowerOff, m.PowerOn, active)
	}
	return nil
}
