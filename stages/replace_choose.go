package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
)

// BirthRequest is what a person asks for.
type BirthRequest struct {
	// Host is whose place is taken; empty to add a node called Name to Tier.
	Host       string
	Tier, Name string
	// Image is what it is made from; 0 for the tier's newest golden image.
	Image int
	// Destroy the old machine at the end.
	Destroy bool
}

// unborn is for how long a new machine may be unfinished before it may be swept.
const unborn = 48 * time.Hour

// Conceive asks the fleet and the account what it takes to make a node from an image, and
// writes it down in facts. Refusals are what stands against it. Nothing is changed.
func (d Deps) Conceive(ctx context.Context, r BirthRequest, say pipeline.Say) (f *Facts, refused []string, err error) {
	if d.Cloud == nil || d.Births == nil {
		return nil, []string{"refit.yml does not say how nodes are made from images: cloud.born.from has to name the addresses from which refit reaches them"}, nil
	}
	c := conceiving{d: d, r: r, f: &Facts{Birth: &Birth{Expires: time.Now().Add(unborn), Destroy: r.Destroy}}}
	if !c.who() {
		return nil, c.refused, nil
	}
	for _, ask := range []func(context.Context, pipeline.Say) error{c.machines, c.image, c.fleet} {
		if err := ask(ctx, say); err != nil {
			return c.f, c.refused, err
		}
	}
	return c.f, c.refused, nil
}

// conceiving is one survey for a birth.
type conceiving struct {
	d       Deps
	r       BirthRequest
	f       *Facts
	refused []string
	all     []cloud.Droplet
}

func (c *conceiving) refuse(format string, args ...any) {
	c.refused = append(c.refused, fmt.Sprintf(format, args...))
}

func (c *conceiving) say(format string, args ...any) {
	c.f.Said = append(c.f.Said, fmt.Sprintf(format, args...))
}

// who is made, and like whom. It tells whether there is anything more to ask.
func (c *conceiving) who() bool {
	b := c.f.Birth
	if c.r.Host != "" {
		b.Kind, b.Host, b.Like = Replacing, c.r.Host, c.r.Host
	} else {
		b.Kind, b.Host, b.Tier = Adding, c.r.Name, c.r.Tier
		if _, there := c.d.Fleet.Named(b.Host); there {
			c.refuse("refit.yml has a host %s already: a new node needs a name of its own", b.Host)
			return false
		}
		// One without the scheduler, which there is one of, and without other roles.
		for _, n := range pick(c.d.tierOf(b.Tier), names(c.d.tierOf(b.Tier))) {
			b.Like = n.Name
			break
		}
	}
	n, ok := c.d.Fleet.Named(b.Like)
	if !ok || !n.Has(hosts.Web) && !n.Has(hosts.Sidekiq) {
		c.refuse("refit.yml has no web or Sidekiq node %s", cmp.Or(b.Like, "of the tier "+b.Tier))
		return false
	}
	if n.Has(hosts.Web) && n.Has(hosts.Sidekiq) {
		c.refuse("%s is of both tiers, and an image holds one", n.Name)
		return false
	}
	b.Tier = string(hosts.Web)
	if n.Has(hosts.Sidekiq) {
		b.Tier = string(hosts.Sidekiq)
	}
	b.Model = Model{Roles: []hosts.Role{hosts.Role(b.Tier)}, Port: n.Port, Streaming: n.Streaming, Workers: n.Workers}
	if b.Kind == Adding {
		b.Model.Workers = slices.DeleteFunc(slices.Clone(n.Workers), func(w Worker) bool { return slices.Contains(w.Queues, mastodon.SchedulerQueue) })
	} else if len(n.Roles) > 1 {
		c.refuse("%s is %v: what it keeps as more than a node is in no image. Give its other roles to another host first", n.Name, n.Roles)
	}
	if b.Tier == string(hosts.Sidekiq) && len(b.Model.Workers) == 0 {
		c.refuse("%s has no worker but the scheduler, of which there is one", b.Like)
	}
	return true
}

// machines looks at the account's: the old one's, or a peer's where that is gone.
func (c *conceiving) machines(ctx context.Context, say pipeline.Say) error {
	b := c.f.Birth
	var err error
	if c.all, err = c.d.Cloud.API.Droplets(ctx, ""); err != nil {
		return fmt.Errorf("cannot ask the cloud account for its droplets: %w%s", err, cloudRemedy(err))
	}
	n, _ := c.d.Fleet.Named(b.Like)
	like, why := c.d.Cloud.machine(c.all, n)
	if b.Kind == Replacing {
		b.Old = &Old{Address: n.Address, Droplet: like.ID, State: OldUp}
		if _, err := n.Agent.FenceShow(ctx); err != nil {
			if !lost(err) {
				return err // it answers, and refuses: a person decides
			}
			b.Old.State = OldSilent
		}
		if why != "" {
			if b.Old.State == OldUp {
				c.refuse("%s", why)
			}
			if b.Old.State == OldSilent && b.Tier == string(hosts.Sidekiq) && c.d.Cloud.Droplets[b.Host] == 0 {
				c.refuse("%s does not answer, and nobody can tell that its machine is gone: it may work on elsewhere. Write the ID of the droplet that it was to that host in refit.yml (hosts[].droplet)", b.Host)
			}
			b.Old.State, b.Old.Droplet = OldGone, 0
			say("%s: the account has no machine at %s any more", b.Host, n.Address)
		}
	}
	if why != "" {
		// Its size and its tags are a peer's.
		for _, peer := range c.d.tierOf(b.Tier).But(b.Host) {
			if like, why = c.d.Cloud.machine(c.all, peer); why == "" {
				n = peer
				say("%s is made like %s, droplet %d", b.Host, peer.Name, like.ID)
				break
			}
		}
	}
	if why != "" {
		c.refuse("%s, and no peer's droplet is known, so nobody knows how large the new one is to be", why)
		return nil
	}
	b.Region, b.Size, b.VPC = like.Region, like.Size, like.VPC
	b.Tags = slices.DeleteFunc(slices.Clone(like.Tags), func(t string) bool { return t == cloud.MadeTag || strings.HasPrefix(t, cloud.MadeTag+":") })
	b.Private = like.Private.IsValid() && like.Private.String() == n.Address
	if !b.Private && (!like.Public.IsValid() || like.Public.String() != n.Address) {
		c.refuse("%s: its address %s is not one of droplet %d's, so nobody knows by which address a new one is reached", n.Name, n.Address, like.ID)
	}
	return nil
}

// image chooses what it is made from.
func (c *conceiving) image(ctx context.Context, _ pipeline.Say) error {
	b, tag := c.f.Birth, cloud.FleetTag(c.d.Cloud.Fleet)
	all, err := c.d.Cloud.API.Images(ctx, tag)
	if err != nil {
		return fmt.Errorf("cannot ask the cloud account for its images: %w%s", err, cloudRemedy(err))
	}
	var img cloud.Image
	if c.r.Image != 0 {
		if img, err = c.d.Cloud.API.Image(ctx, c.r.Image); errors.Is(err, cloud.ErrNotFound) {
			c.refuse("the account has no image %d", c.r.Image)
			return nil
		} else if err != nil {
			return fmt.Errorf("cannot read image %d: %w%s", c.r.Image, err, cloudRemedy(err))
		}
	} else {
		all = slices.DeleteFunc(all, func(i cloud.Image) bool {
			return !cloud.Ours(i.Tags, c.d.Cloud.Fleet, cloud.ForBirth) || !slices.Contains(i.Tags, cloud.TierTag(b.Tier))
		})
		if len(all) == 0 {
			c.refuse("there is no golden image of the tier %s: an upgrade makes one at its end. A snapshot of a sealed node of the tier can be given with --image", b.Tier)
			return nil
		}
		img = slices.MaxFunc(all, func(a, z cloud.Image) int { return a.Created.Compare(z.Created) })
	}
	b.Image = img.ID
	if len(img.Regions) > 0 && !slices.Contains(img.Regions, b.Region) {
		c.refuse("image %d is in %v, not in %s: transfer it there in the control panel", img.ID, img.Regions, b.Region)
	}
	c.whose(img)
	return nil
}

// whose disk an image is: the first connection is checked against that host's key.
func (c *conceiving) whose(img cloud.Image) {
	b := c.f.Birth
	for _, n := range c.d.Fleet.Apps() {
		if slices.Contains(img.Tags, cloud.HostTag(n.Name)) {
			b.Of = n.Name
			b.KnownAs = []string{n.Address, ImageKey(n.Name)}
		}
	}
	of, _ := c.d.Fleet.Named(b.Of)
	lacks := slices.DeleteFunc(unitsOf(b.Model.Workers), func(u string) bool { return slices.Contains(unitsOf(of.Workers), u) })
	if b.Of != "" && len(lacks) > 0 {
		c.say("image %d is of %s, which has no %s by refit.yml: unless the unit's file is on that image, disabled, this is taken back when the new node should start. An image of %s itself can be given with --image: a snapshot of it with the tag %s",
			img.ID, b.Of, strings.Join(lacks, ", "), b.Like, cloud.HostTag(b.Like))
	}
	switch {
	case b.Of != "" && !c.d.tierOf(b.Tier).has(b.Of):
		c.refuse("image %d is of %s, which is not of the tier %s", img.ID, b.Of, b.Tier)
	case b.Of == "":
		c.refuse("image %d (%s) does not say of which node of refit.yml it is, so its host key is not known: it needs the tag %s", img.ID, img.Name, cloud.HostTag("NAME"))
	}
}

// fleet is what the other nodes run, which the new one will too.
func (c *conceiving) fleet(ctx context.Context, say pipeline.Say) error {
	b, d := c.f.Birth, c.d
	if b.Old != nil && b.Old.State != OldUp {
		d.Fleet = d.Fleet.But(b.Host)
	}
	if left := d.Fleet.But(b.Host); len(left.With(hosts.Sidekiq)) == 0 || len(left.With(hosts.Web)) == 0 {
		c.refuse("%s is the only node of its tier: there is no peer to carry on, and to say what the fleet runs. Bring it back by hand, or add a node to its tier first", b.Host)
		return nil
	}
	v := d.Look(ctx, nil, say)
	if len(v.Unreachable) > 0 {
		return errors.Join(slices.Collect(maps.Values(v.Unreachable))...)
	}
	name, refusal := runs(d, v)
	if refusal != "" {
		c.refuse("%s", refusal)
		return nil
	}
	version, err := builds.ParseVersion(name)
	if err != nil {
		c.refuse("the fleet's live link names %q, which is no release", name)
		return nil
	}
	c.f.To.Version, c.f.To.Tag.Name = version, version.String()
	c.f.Web, c.f.Sidekiq = names(d.webs().But(b.Host)), names(d.sidekiqs().But(b.Host))
	c.f.Baseline = baseline(v)
	record, err := d.Recorded(ctx)
	if err != nil {
		return err
	}
	if record.Release == name && len(d.Fleet.With(hosts.Builder)) == 1 {
		c.f.Digest = record.of(b.Like)
	}
	if !d.Seal {
		c.refuse("nodes are not sealed")
	}
	c.peers(v)
	if b.Old != nil && b.Tier == string(hosts.Sidekiq) {
		c.say("%s is quieted and switched off before the new one starts: workers are known by the host's name%s", b.Host,
			orWhy(slices.ContainsFunc(b.Model.Workers, func(w Worker) bool { return slices.Contains(w.Queues, mastodon.SchedulerQueue) }), ", and there is one scheduler, which stands still for these minutes", ""))
	}
	c.say("the new droplet is of size %s in %s, is made from image %d of %s, and gets the tags %v when it goes into service", b.Size, b.Region, b.Image, b.Of, b.Tags)
	return nil
}

// peers: the others must carry on while the old one is out.
func (c *conceiving) peers(v *View) {
	b := c.f.Birth
	for _, n := range c.d.webs().But(b.Host) {
		if err := v.Web[n.Name]; err != nil && b.Old != nil && b.web() && b.Old.State == OldUp {
			c.refuse("%s does not serve well (%v): nothing is taken out beside it", n.Name, err)
		}
	}
	for _, p := range c.d.proxies() {
		if err := v.ProxyErr[p.Name]; err != nil {
			c.refuse("%s: %v", p.Name, err)
		}
	}
	if v.DatabaseErr != nil {
		c.refuse("the database: %v", v.DatabaseErr)
	}
	if v.SidekiqErr != nil {
		c.refuse("Sidekiq's state: %v", v.SidekiqErr)
	}
}

// has tells whether a node of that name is among them.
func (f Fleet) has(name string) bool {
	_, ok := f.Named(name)
	return ok
}

// FitsBirth tells why a run that makes a node cannot be gone on with in a fleet; empty if
// it can. Its host may stand in refit.yml at either address.
func (f *Facts) FitsBirth(fleet Fleet) string {
	b := f.Birth
	var missing, added []string
	for _, n := range fleet.Apps().But(b.Host) {
		if !slices.Contains(f.Web, n.Name) && !slices.Contains(f.Sidekiq, n.Name) {
			added = append(added, n.Name)
		}
	}
	for _, name := range slices.Concat(f.Web, f.Sidekiq) {
		if !fleet.has(name) {
			missing = append(missing, name)
		}
	}
	n, there := fleet.Named(b.Host)
	switch {
	case len(missing)+len(added) > 0:
		return fmt.Sprintf("it was planned for other hosts than refit.yml names now: missing are %v, new are %v", missing, added)
	case there && n.Address != b.Address && (b.Old == nil || n.Address != b.Old.Address):
		return fmt.Sprintf("refit.yml has %s at %s, which is neither its old nor its new address", b.Host, n.Address)
	case !there && b.Old != nil:
		return fmt.Sprintf("refit.yml has no %s any more", b.Host)
	}
	return ""
}

// unitsOf are the names of workers' units.
func unitsOf(all []Worker) []string {
	var out []string
	for _, w := range all {
		out = append(out, w.Unit)
	}
	return out
}
