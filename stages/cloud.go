package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// CloudAPI is what stages ask of the account that the machines are in. *cloud.Client is
// one; what its methods promise of lost answers and open actions stands there.
type CloudAPI interface {
	Droplets(ctx context.Context, tag string) ([]cloud.Droplet, error)
	Pending(ctx context.Context, droplet int) (cloud.Action, bool, error)
	Snapshot(ctx context.Context, droplet int, name string) (cloud.Action, error)
	Await(ctx context.Context, droplet, action int, every time.Duration, say func(string, ...any)) error
	SnapshotOf(ctx context.Context, droplet int, name string) (cloud.Image, error)
	Images(ctx context.Context, tag string) ([]cloud.Image, error)
	Image(ctx context.Context, id int) (cloud.Image, error)
	TagImage(ctx context.Context, image int, tags ...string) error
	DeleteImage(ctx context.Context, id int) error
	Power(ctx context.Context, id int, to cloud.Power) error

	Droplet(ctx context.Context, id int) (cloud.Droplet, error)
	Create(ctx context.Context, n cloud.NewDroplet) (cloud.Droplet, error)
	Destroy(ctx context.Context, id int) error
	TagDroplet(ctx context.Context, droplet int, tags ...string) error
	Untag(ctx context.Context, tag string, kind cloud.Kind, id int) error
	Firewalls(ctx context.Context) ([]cloud.Firewall, error)
	CreateFirewall(ctx context.Context, f cloud.Firewall) (cloud.Firewall, error)
	DestroyFirewall(ctx context.Context, id string) error
	Databases(ctx context.Context) ([]cloud.Database, error)
	DestroyDatabase(ctx context.Context, id string) error
}

// Cloud is the account that the fleet's machines are in, and what is kept there.
type Cloud struct {
	API CloudAPI
	// Fleet is the fleet's name in refit.yml: it stands in the name and the tags of every
	// image.
	Fleet string
	// Tiers are those of which one node is kept before an upgrade, PowerOff those of them
	// whose node is switched off for it; "web" and "sidekiq".
	Tiers, PowerOff []string
	// Snapshots and Golden say what stays of either kind.
	Snapshots, Golden Retention
	// Droplets are the IDs that refit.yml gives, by host; others are found by address.
	Droplets map[string]int
	// Sealed tells why a node's image could not be let loose: a machine made from it would
	// start Mastodon by itself. No golden image is made of such a node, nor where nobody
	// can tell (nil).
	Sealed func(ctx context.Context, n Node) error
	// Runs are the runs whose journals there are, this one's too.
	Runs func(ctx context.Context) ([]CloudRun, error)
}

// Retention says how many images of a tier stay whatever their age, and how long the
// others do. At least one stays, whatever it says.
type Retention struct {
	Keep int
	Age  time.Duration
}

// CloudRun is a run as its journal has it.
type CloudRun struct {
	ID string
	// Open: it was left half way, so that what it keeps may be needed yet.
	Open bool
	// Snapshots and Golden are those of its facts.
	Snapshots, Golden []Kept
}

// Kept is a node's disk that is kept as an image in the cloud account, or is to be.
type Kept struct {
	// Tier is "web" or "sidekiq".
	Tier string `json:"tier"`
	// Host and Droplet are of whom; empty while none is chosen.
	Host    string `json:"host,omitempty"`
	Droplet int    `json:"droplet,omitempty"`
	// Release is what the node runs.
	Release string `json:"release"`
	// Used is how many bytes of its disk were in use when it was chosen; 0 for unknown.
	Used int64 `json:"used,omitempty"`
	// Off: the node is switched off for it. Down: it is so now, or was to be.
	Off  bool `json:"off,omitempty"`
	Down bool `json:"down,omitempty"`
	// Name is the image's, by which it is found again. Asked is when the account was last
	// about to be asked for it; zero for never, since it is written down before.
	Name  string    `json:"name,omitempty"`
	Asked time.Time `json:"asked,omitzero"`
	// Action is the deed in the account that makes it; 0 where it is not known.
	Action int `json:"action,omitempty"`
	// Image and GiB are of the image when it is complete and has its tags.
	Image int     `json:"image,omitempty"`
	GiB   float64 `json:"gib,omitempty"`
	// Why tells why there is none.
	Why string `json:"why,omitempty"`
}

// tierOf is a tier's nodes, of "web" or "sidekiq".
func (d Deps) tierOf(tier string) Fleet {
	if tier == string(hosts.Web) {
		return d.webs()
	}
	return d.sidekiqs()
}

// cloudTiers are those of which images are made, in the order in which plans name them.
var cloudTiers = []string{string(hosts.Web), string(hosts.Sidekiq)}

// machines finds the droplet of each node: by the ID that refit.yml gives, else the one
// whose address is the host's. What is not found, or found twice, is refused.
func (c *Cloud) machines(ctx context.Context, fleet Fleet) (found map[string]cloud.Droplet, refused []string, err error) {
	all, err := c.API.Droplets(ctx, "")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask the cloud account for its droplets: %w%s", err, cloudRemedy(err))
	}
	found = map[string]cloud.Droplet{}
	of := map[int]string{}
	for _, n := range fleet {
		x, why := c.machine(all, n)
		if why == "" && of[x.ID] != "" {
			why = fmt.Sprintf("%s and %s are the same droplet, %d: give each its own in refit.yml (hosts[].droplet)", of[x.ID], n.Name, x.ID)
		}
		if why != "" {
			refused = append(refused, why)
			continue
		}
		found[n.Name], of[x.ID] = x, n.Name
	}
	return found, refused, nil
}

// machine is the droplet of one node, or why there is none.
func (c *Cloud) machine(all []cloud.Droplet, n Node) (cloud.Droplet, string) {
	var none cloud.Droplet
	if id := c.Droplets[n.Name]; id != 0 {
		for _, x := range all {
			if x.ID == id {
				return x, ""
			}
		}
		return none, fmt.Sprintf("%s: the cloud account has no droplet %d, which refit.yml gives (hosts[].droplet): correct it there, or the token is another account's", n.Name, id)
	}
	var at, named []string
	var one cloud.Droplet
	for _, x := range all {
		if isAt(x, n) {
			at, one = append(at, fmt.Sprint(x.ID)), x
		}
		if x.Name == n.Name {
			named = append(named, fmt.Sprint(x.ID))
		}
	}
	switch len(at) {
	case 1:
		return one, ""
	case 0:
		hint := ""
		if len(named) > 0 {
			hint = fmt.Sprintf(" (%s has its name)", strings.Join(named, ", "))
		}
		return none, fmt.Sprintf("%s: no droplet of the cloud account has its address %s: write `droplet: ID` to that host in refit.yml%s", n.Name, n.Address, hint)
	}
	return none, fmt.Sprintf("%s: the droplets %s have its address %s: write `droplet: ID` of the right one to that host in refit.yml", n.Name, strings.Join(at, ", "), n.Address)
}

// isAt tells whether a droplet has the host's address, public or private.
func isAt(x cloud.Droplet, n Node) bool {
	a, err := netip.ParseAddr(n.Address)
	return err == nil && (x.Public == a.Unmap() || x.Private == a.Unmap())
}

// cloudRemedy is what to do about an error of the account's, as the end of a sentence.
func cloudRemedy(err error) string {
	var scope *cloud.ScopeError
	switch {
	case errors.Is(err, cloud.ErrDenied):
		return ": make a new token in the account's control panel and put it where cloud.token of refit.yml says"
	case errors.As(err, &scope):
		return ": give it to the token in the account's control panel (API, Tokens)"
	case errors.Is(err, cloud.ErrLimit):
		return ": wait until others have asked less; the limit is of the account's token"
	}
	return ""
}

// hopeless tells that asking again does not mend an error of the account's.
func hopeless(err error) bool {
	var scope *cloud.ScopeError
	return errors.Is(err, cloud.ErrDenied) || errors.As(err, &scope)
}

// pick is the node of a tier that is kept, of those in the order of their rolls. Best is
// one without the scheduler, since a machine made from that would run a second one; then
// one with no other role, whose disk is the tier's alone; then the one rolled last: a node
// that is ill is rolled first, and an ill node's disk is no help.
func pick(tier Fleet, order []string) Fleet {
	var out Fleet
	for _, name := range slices.Backward(order) {
		if n, ok := tier.Named(name); ok {
			out = append(out, n)
		}
	}
	rank := func(n Node) int {
		r := 0
		if n.Schedules() {
			r += 2
		}
		if len(n.Roles) > 1 {
			r++
		}
		return r
	}
	slices.SortStableFunc(out, func(a, b Node) int { return rank(a) - rank(b) })
	return out
}

func (f *Facts) rolled(tier string) []string {
	if tier == string(hosts.Web) {
		return f.Web
	}
	return f.Sidekiq
}

// Images says where each image of the run is, and why there is none.
func (f *Facts) Images() []string {
	var out []string
	for _, kind := range []struct {
		words string
		all   []Kept
	}{{"snapshot", f.Snapshots}, {"golden image", f.Golden}} {
		for _, k := range kind.all {
			of := fmt.Sprintf("%s of the %s node %s with %s", kind.words, k.Tier, k.Host, k.Release)
			switch {
			case k.Image != 0:
				out = append(out, fmt.Sprintf("%s: image %d, %s, %.1f GiB", of, k.Image, k.Name, k.GiB))
			case !k.Asked.IsZero() && k.Why == "":
				out = append(out, fmt.Sprintf("%s: asked for as %s, and not known to be complete", of, k.Name))
			case k.Host != "" && k.Why != "":
				out = append(out, fmt.Sprintf("no %s: %s", of, k.Why))
			case k.Why != "":
				out = append(out, fmt.Sprintf("no %s of the tier %s: %s", kind.words, k.Tier, k.Why))
			}
		}
	}
	return append(out, f.Retired...)
}
