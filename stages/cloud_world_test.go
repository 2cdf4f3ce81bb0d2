package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// account is a cloud account in memory. Its actions take time, lock their droplet, and
// store an image under the name that was asked for.
type account struct {
	w        *world
	droplets []cloud.Droplet
	images   []cloud.Image
	actions  []*deed
	next     int

	asked   []string         // every request for a snapshot: "13 refit-lab-u-1-spock"
	removed []int            // images
	powers  []string         // "13 shutdown"
	fails   map[string]error // by method
	lasts   time.Duration    // a snapshot
	appears time.Duration    // its image, after that; negative for never
	loses   bool             // the next answer to a request for a snapshot
	dies    func()           // called when a request was done, before it is answered
	errored map[int]bool     // by droplet: its snapshots end so
	deaf    bool             // systems do not shut down when they are asked

	born    map[int]bool // droplets that were made here
	walls   []cloud.Firewall
	bases   []cloud.Database
	gone    []string // what was destroyed: "droplet 13"
	made    int      // requests for a droplet that were done
	nursery *nursery
}

// deed is an action with what comes of it.
type deed struct {
	cloud.Action
	droplet int
	name    string
	err     bool
	listed  time.Time
}

// inCloud is inWorld with an account that has the fleet's machines.
func inCloud(t *testing.T, test func(*testing.T, *world, *account)) {
	t.Helper()
	inWorld(t, func(t *testing.T, w *world) {
		a := &account{w: w, next: 100, fails: map[string]error{}, lasts: 20 * time.Minute, errored: map[int]bool{}}
		for i, n := range w.d.Fleet {
			a.droplets = append(a.droplets, cloud.Droplet{ID: 11 + i, Name: n.Name, Status: "active", DiskGiB: 25, Private: netip.MustParseAddr(n.Address)})
		}
		w.d.Cloud = &Cloud{
			API: a, Fleet: "lab", Tiers: []string{"web", "sidekiq"},
			Snapshots: Retention{Keep: 2, Age: 14 * 24 * time.Hour}, Golden: Retention{Keep: 2, Age: 60 * 24 * time.Hour},
			Sealed: func(context.Context, Node) error { return nil },
		}
		w.f.Snapshots = []Kept{
			{Tier: "web", Host: "spock", Droplet: a.id("spock"), Release: "v4.5.14", Used: 10 << 30},
			{Tier: "sidekiq", Host: "scotty", Droplet: a.id("scotty"), Release: "v4.5.14", Used: 10 << 30},
		}
		w.f.Golden = []Kept{{Tier: "web", Release: "v4.5.15"}, {Tier: "sidekiq", Release: "v4.5.15"}}
		test(t, w, a)
	})
}

func (a *account) id(host string) int {
	for _, x := range a.droplets {
		if x.Name == host {
			return x.ID
		}
	}
	return 0
}

func (a *account) host(droplet int) string {
	for _, x := range a.droplets {
		if x.ID == droplet {
			return x.Name
		}
	}
	return ""
}

// settle ends what has taken its time.
func (a *account) settle() {
	for _, d := range a.actions {
		if d.Open() && time.Since(d.Started) >= a.lasts {
			d.Completed, d.Status = d.Started.Add(a.lasts), "completed"
			if d.err {
				d.Status = "errored"
			}
			d.listed = d.Completed.Add(a.appears)
		}
		if d.Status == "completed" && d.name != "" && a.appears >= 0 && !time.Now().Before(d.listed) {
			a.images = append(a.images, cloud.Image{ID: d.ID + 1000, Name: d.name, Kind: "snapshot", GiB: 9.5, Created: d.Started})
			d.name = ""
		}
	}
}

func (a *account) open(droplet int) *deed {
	for _, d := range a.actions {
		if d.droplet == droplet && d.Open() {
			return d
		}
	}
	return nil
}

func (a *account) begin(kind string, droplet int, name string) cloud.Action {
	a.next++
	d := &deed{Action: cloud.Action{ID: a.next, Type: kind, Status: "in-progress", Started: time.Now()}, droplet: droplet, name: name, err: a.errored[droplet]}
	a.actions = append(a.actions, d)
	return d.Action
}

// enter is what every call begins with.
func (a *account) enter(method string) func() {
	a.w.mu.Lock()
	a.settle()
	return a.w.mu.Unlock
}

func (a *account) Droplets(context.Context, string) ([]cloud.Droplet, error) {
	defer a.enter("Droplets")()
	return slices.Clone(a.droplets), a.fails["Droplets"]
}

func (a *account) Pending(_ context.Context, droplet int) (cloud.Action, bool, error) {
	defer a.enter("Pending")()
	if err := a.fails["Pending"]; err != nil {
		return cloud.Action{}, false, err
	}
	if d := a.open(droplet); d != nil {
		return d.Action, true, nil
	}
	return cloud.Action{}, false, nil
}

func (a *account) Snapshot(ctx context.Context, droplet int, name string) (cloud.Action, error) {
	defer a.enter("Snapshot")()
	if err := cmpErr(ctx.Err(), a.fails["Snapshot"]); err != nil {
		return cloud.Action{}, err
	}
	if a.open(droplet) != nil {
		return cloud.Action{}, cloud.ErrBusy
	}
	a.asked = append(a.asked, fmt.Sprintf("%d %s", droplet, name))
	done := a.begin("snapshot", droplet, name)
	if a.dies != nil {
		a.dies()
		return cloud.Action{}, context.Canceled
	}
	if a.loses {
		a.loses = false
		return cloud.Action{}, cloud.ErrLost
	}
	return done, nil
}

func (a *account) Await(ctx context.Context, _, action int, every time.Duration, _ func(string, ...any)) error {
	for {
		status := func() string {
			defer a.enter("Await")()
			for _, d := range a.actions {
				if d.ID == action {
					return d.Status
				}
			}
			return ""
		}()
		switch status {
		case "completed":
			return nil
		case "errored":
			return cloud.ErrErrored
		case "":
			return cloud.ErrNotFound
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// SnapshotOf waits for an image that is not listed, as the client does.
func (a *account) SnapshotOf(ctx context.Context, _ int, name string) (cloud.Image, error) {
	for began := time.Now(); ; {
		img, err := func() (cloud.Image, error) {
			defer a.enter("SnapshotOf")()
			for _, img := range a.images {
				if img.Name == name {
					return img, a.fails["SnapshotOf"]
				}
			}
			return cloud.Image{}, cmpErr(a.fails["SnapshotOf"], cloud.ErrNotFound)
		}()
		if !errors.Is(err, cloud.ErrNotFound) || time.Since(began) > 5*time.Minute {
			return img, err
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return img, err
		}
	}
}

func (a *account) Images(_ context.Context, tag string) ([]cloud.Image, error) {
	defer a.enter("Images")()
	var out []cloud.Image
	for _, img := range a.images {
		if slices.Contains(img.Tags, tag) {
			img.Tags = slices.Clone(img.Tags)
			out = append(out, img)
		}
	}
	return out, a.fails["Images"]
}

func (a *account) Image(_ context.Context, id int) (cloud.Image, error) {
	defer a.enter("Image")()
	for _, img := range a.images {
		if img.ID == id {
			return img, a.fails["Image"]
		}
	}
	return cloud.Image{}, cloud.ErrNotFound
}

func (a *account) TagImage(_ context.Context, image int, tags ...string) error {
	defer a.enter("TagImage")()
	if err := a.fails["TagImage"]; err != nil {
		return err
	}
	for i := range a.images {
		if a.images[i].ID == image {
			a.images[i].Tags = slices.Compact(slices.Sorted(slices.Values(append(a.images[i].Tags, tags...))))
		}
	}
	return nil
}

func (a *account) DeleteImage(_ context.Context, id int) error {
	defer a.enter("DeleteImage")()
	if err := a.fails["DeleteImage"]; err != nil {
		return err
	}
	a.removed = append(a.removed, id)
	a.images = slices.DeleteFunc(a.images, func(img cloud.Image) bool { return img.ID == id })
	return nil
}

// key is the world's name of a machine: one that was made has its own beside the one whose
// name it has.
func (a *account) key(droplet int) string {
	if a.born[droplet] {
		return a.host(droplet) + "'"
	}
	return a.host(droplet)
}

// Power cuts the host's link, or gives it back with what systemd starts at boot.
func (a *account) Power(ctx context.Context, id int, to cloud.Power) error {
	for { // an action that is open is waited for
		wait := func() bool { defer a.enter("Power")(); return a.open(id) != nil }()
		if !wait {
			break
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	defer a.enter("Power")()
	if err := a.fails["Power "+string(to)]; err != nil {
		return err
	}
	host := a.key(id)
	a.powers = append(a.powers, host+" "+string(to))
	a.w.deeds = append(a.w.deeds, host+": "+string(to))
	if to == cloud.Shutdown && a.deaf {
		return errors.New("it did not shut down")
	}
	off := to != cloud.PowerOn
	for i := range a.droplets {
		if a.droplets[i].ID == id {
			a.droplets[i].Status = map[bool]string{true: "off", false: "active"}[off]
		}
	}
	if off {
		a.w.runs[host] = ""
	} else if a.w.cut[host] && a.w.permits[host].Refused == "" {
		a.w.runs[host], a.w.quiet[host] = a.w.live[host], false // units are enabled
	}
	a.w.cut[host] = off
	return nil
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *account) image(name string) (cloud.Image, bool) {
	for _, img := range a.images {
		if img.Name == name {
			return img, true
		}
	}
	return cloud.Image{}, false
}

// changed stands for the first step that changes what serves.
type changed struct {
	w    *world
	fail error
}

func (changed) Name() string                              { return "change" }
func (changed) Check(context.Context, pipeline.Say) error { return nil }
func (c changed) Run(context.Context, pipeline.Say) error {
	c.w.deeds = append(c.w.deeds, "change")
	if c.fail == nil {
		c.w.onNew()
	}
	return c.fail
}
func (changed) Undo(context.Context, pipeline.Say) error { return nil }

// buildFor stands for the build.
type buildFor struct {
	lasts time.Duration
	fail  error
}

func (buildFor) Name() string                              { return "build" }
func (buildFor) Check(context.Context, pipeline.Say) error { return nil }
func (b buildFor) Run(ctx context.Context, _ pipeline.Say) error {
	return cmpErr(pause(ctx, b.lasts), b.fail)
}
func (buildFor) Undo(context.Context, pipeline.Say) error { return nil }

// keeps is a plan with the steps that keep images, and stand-ins for the others.
func (w *world) keeps(build buildFor, change changed) pipeline.Plan {
	p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: w.f}
	full := Upgrade("u-1", w.d, w.f)
	for _, s := range full.Steps {
		switch s.Stage.(type) {
		case snapshot, snapshotsDone, snapshotOff, golden, retireImages:
			p.Steps = append(p.Steps, s)
		case preMigrate:
			p.Steps = append(p.Steps, pipeline.Step{Stage: change, Switches: true})
		}
		if _, ok := s.Stage.(snapshot); ok {
			p.Steps = append(p.Steps, pipeline.Step{Stage: build})
		}
	}
	return p
}

// run runs the plan, or goes on with the one that the shelf holds.
func (w *world) run(t *testing.T, ctx context.Context, shelf pipeline.Shelf, p pipeline.Plan) pipeline.Result {
	t.Helper()
	watch := pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) { w.say("%s %s %s %s", e.Kind, e.Step, e.Text, e.Err) }))
	o := pipeline.Options{Ground: w.d.Ground(), Patience: time.Minute, Watch: watch}
	j, err := pipeline.LoadJournal(context.WithoutCancel(ctx), shelf, "u-1")
	if err != nil {
		return pipeline.Execute(ctx, p, pipeline.NewJournal(p, shelf, 1, time.Now()), o)
	}
	if err := j.Adopt(shelf, 2); err != nil {
		t.Fatal(err)
	}
	if err := j.LoadFacts(w.f); err != nil {
		t.Fatal(err)
	}
	return pipeline.Execute(ctx, p, j, o)
}

// sealedBut seals all but some.
func sealedBut(names ...string) func(context.Context, Node) error {
	return func(_ context.Context, n Node) error {
		if slices.Contains(names, n.Name) {
			return errors.New("its units start without a permit")
		}
		return nil
	}
}
