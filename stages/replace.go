package stages

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Replacing and Adding are the kinds of plans that make a node from an image.
const (
	Replacing = "replace"
	Adding    = "add"
)

// Birth is a node that is made from an image, in another's place or beside its tier. It
// stands in the facts of its run; each field names the stage that writes it.
type Birth struct {
	// Kind is Replacing or Adding, Host the node's name, Tier "web" or "sidekiq" (survey).
	Kind string `json:"kind"`
	Host string `json:"host"`
	Tier string `json:"tier"`
	// Like is the node of the fleet that it is like: itself, where it takes a place (survey).
	Like  string `json:"like"`
	Model Model  `json:"model"`
	// Image is what it is made from, Of the host whose disk that is. KnownAs are the names
	// under which known_hosts may have the key that it shows at first (survey).
	Image   int      `json:"image"`
	Of      string   `json:"of"`
	KnownAs []string `json:"known_as"`
	// Region, Size and VPC are as the model's; Tags are the team's own, which it gets when
	// it goes into service; Private tells by which address hosts are reached (survey).
	Region  string   `json:"region"`
	Size    string   `json:"size"`
	VPC     string   `json:"vpc,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	Private bool     `json:"private"`
	// Old is whose place it takes; nil for nobody's (survey).
	Old *Old `json:"old,omitempty"`
	// Expires is when `refit sweep` may take the machine away, should the run never end (survey).
	Expires time.Time `json:"expires"`
	// Destroy: the old droplet is destroyed at the end, not kept for a while (survey).
	Destroy bool `json:"destroy,omitempty"`
	// Firewall refuses all but the way to sshd until the node goes into service. Droplet is
	// the machine, Address where it is reached (create).
	Firewall string `json:"firewall,omitempty"`
	Droplet  int    `json:"droplet,omitempty"`
	Address  string `json:"address,omitempty"`
	// Keys are its own ssh host keys, written down before they are used (reach).
	Keys []string `json:"keys,omitempty"`
	// Written tells that refit.yml has the node, Change what a person has to write there
	// where that did not go (write).
	Written bool   `json:"written,omitempty"`
	Change  string `json:"change,omitempty"`
}

// Model is what a node is for.
type Model struct {
	Roles     []hosts.Role `json:"roles"`
	Port      int          `json:"port,omitempty"`
	Streaming []int        `json:"streaming,omitempty"`
	Workers   []Worker     `json:"workers,omitempty"`
}

// The states of a machine whose place is taken.
const (
	// OldUp: it answers.
	OldUp = "up"
	// OldSilent: the account has it, and it does not answer.
	OldSilent = "silent"
	// OldGone: the account has none.
	OldGone = "gone"
)

// Old is the machine whose place is taken.
type Old struct {
	// Droplet is its ID; 0 where the account has it no more.
	Droplet int    `json:"droplet,omitempty"`
	Address string `json:"address"`
	State   string `json:"state"`
}

// Births is what it takes to make nodes from images. Its functions know refit.yml,
// known_hosts and the way to hosts.
type Births struct {
	// From are the addresses, in CIDR form, from which refit reaches a machine before it is
	// in service. SSHKeys are the account's keys that are put on it, if any.
	From, SSHKeys []string
	// Reach makes a node at an address. Its host key is looked for under knownAs, where that
	// is not empty.
	Reach func(host, address, knownAs string, m Model) Node
	// Learn writes a host's keys down for its address. Unlearn takes an address out of
	// known_hosts; with as not empty its keys stay under that name.
	Learn   func(address string, keys []string) error
	Unlearn func(address, as string) error
	// Relearn gives an address the keys back that are under that name.
	Relearn func(address, as string) error
	// Write puts the node into refit.yml, or the old one back. Where the file cannot be
	// changed as it should, it stays as it is and the change to be made is returned.
	Write func(b Birth, back bool) (change string, err error)
}

// ImageKey is the name under which known_hosts keeps the keys that a host had before its
// place was taken: machines made from its older images show them.
func ImageKey(host string) string { return host + ".image.refit" }

// birth is what all stages of such a plan have.
type birth struct {
	d  Deps
	f  *Facts
	id string
}

func (s birth) b() *Birth { return s.f.Birth }

// node is the new machine.
func (s birth) node(knownAs string) Node {
	b := s.b()
	return s.d.Births.Reach(b.Host, b.Address, knownAs, b.Model)
}

// here is the new machine, with keys of its own, and the fleet as it is with it.
func (s birth) here(ctx context.Context) (Node, Deps, error) {
	n, d := s.node(""), s.d
	d.Fleet = append(s.d.Fleet.But(s.b().Host), n)
	return n, d, s.fence(ctx, n)
}

// fence shuts out whoever held the lease before: an image has its own host's fence.
func (s birth) fence(ctx context.Context, n Node) error {
	if n.Agent.Epoch == nil || n.Agent.Epoch() == 0 {
		return nil
	}
	_, err := n.Agent.FenceRaise(ctx, node.RaiseIn{Epoch: n.Agent.Epoch(), Holder: "refit" + FenceRun + s.id, Kill: true})
	return err
}

// old is the machine whose place is taken.
func (s birth) old() Node {
	b := s.b()
	if n, ok := s.d.Fleet.Named(b.Host); ok && n.Address == b.Old.Address {
		return n
	}
	return s.d.Births.Reach(b.Host, b.Old.Address, "", b.Model)
}

// withOld is the fleet as it is with the old machine.
func (s birth) withOld() Deps {
	d := s.d
	d.Fleet = append(s.d.Fleet.But(s.b().Host), s.old())
	return d
}

// alone tells that the old machine must be off before the new one may start: workers are
// known in Redis by the host's name, and there is one scheduler; and of a machine that does
// not answer nobody knows what it does.
func (b *Birth) alone() bool {
	return b.Old != nil && b.Old.Droplet != 0 && (b.Old.State == OldSilent || b.Tier == string(hosts.Sidekiq))
}

// web tells whether proxies send it requests.
func (b *Birth) web() bool { return b.Tier == string(hosts.Web) }

// at is the address at which a droplet is reached, as its like is.
func (b *Birth) at(x cloud.Droplet) netip.Addr {
	if b.Private {
		return x.Private
	}
	return x.Public
}

// spare is for how long an old machine stays, switched off.
const spare = 7 * 24 * time.Hour

// Replace is the table of `refit replace` and `refit add`: a node that is made from an
// image goes into service, and the one whose place it takes out of it.
func Replace(id string, d Deps, f *Facts) pipeline.Plan {
	b := f.Birth
	p := pipeline.Plan{ID: id, Kind: b.Kind, To: f.To.Version.String(), Facts: f}
	s := birth{d, f, id}
	add := func(stage pipeline.Stage, why string, more ...func(*pipeline.Step)) {
		step := pipeline.Step{Stage: stage, Why: why, Host: b.Host}
		for _, m := range more {
			m(&step)
		}
		p.Steps = append(p.Steps, step)
	}
	switches := func(step *pipeline.Step) { step.Switches = true }

	if b.web() && b.Old != nil && b.Old.State == OldGone {
		// First of all, since every proxy still tries it.
		add(parting{s}, "take the lost machine's address out of rotation", switches)
	}
	// Sealed, and behind a firewall that lets nothing but refit in and nothing out.
	add(create{s}, fmt.Sprintf("make a droplet from image %d, behind a firewall that lets nothing out", b.Image))
	add(reach{s}, "meet it by its image's host key, and give it a key and a name of its own")
	add(align{s}, "bring it to "+p.To+", every file proved")
	if b.alone() {
		// Before anything of Mastodon's may start on the new one.
		add(parting{s}, orWhy(b.Old.State == OldUp, "quiet, stop and switch off the old machine: what it does may be done once only", "switch the old machine off, which does not answer: nobody knows what it does"), switches)
	}
	add(admit{s}, "its tags, its permit, no firewall of its birth; boot it once, then start its units", switches)
	if b.web() {
		add(join{s}, "gate, then send it requests, one proxy after the other, and watch", switches, func(step *pipeline.Step) { step.Expect = d.Holds.Web })
	} else {
		add(work{s}, "gate: its workers prove in Redis that they work", func(step *pipeline.Step) { step.Expect = d.Holds.Sidekiq })
	}
	if b.Old != nil {
		add(retire{s}, orWhy(b.Old.State == OldGone, "take the old machine's address out of the proxies", "take the old machine out, switch it off and keep it for "+days(spare)), switches)
	}
	add(write{s}, "write it into refit.yml, and its keys' names into known_hosts")
	if b.Destroy && b.Old != nil && b.Old.Droplet != 0 {
		add(destroy{s}, "destroy the old machine: THE POINT OF NO RETURN", func(step *pipeline.Step) { step.OneWay = true })
	}
	return p
}
