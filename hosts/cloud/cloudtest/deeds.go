package cloudtest

import (
	"context"
	"time"
)

// Machines is what really happens behind the account's droplets. Each call blocks until
// it is done. A droplet is named by its machine, which is its name, or its name and ID
// where another droplet has that name already. An image is an opaque key.
type Machines interface {
	// Snapshot keeps the droplet's disk as an image and tells its size.
	Snapshot(ctx context.Context, droplet, image string) (bytes int64, err error)
	// Create boots a machine from an image.
	Create(ctx context.Context, m Machine) (Placed, error)
	// Restore puts a disk back and boots.
	Restore(ctx context.Context, droplet, image string) error
	PowerOn(ctx context.Context, droplet string) error
	PowerOff(ctx context.Context, droplet string) error
	// Shutdown asks the system to stop, and fails where it does not.
	Shutdown(ctx context.Context, droplet string) error
	Destroy(ctx context.Context, droplet string) error
	// Forget drops an image, which was deleted.
	Forget(ctx context.Context, image string) error
	// Fence puts on the machine all that the account's firewalls say of it now; with
	// on false, none is put on it. It may come before Create.
	Fence(ctx context.Context, droplet string, rules []Rule, on bool) error
}

// Machine is one that is to be made.
type Machine struct {
	// ID is the droplet's.
	ID int
	// Name is the machine's.
	Name string
	// Image is the key of the image that it boots from.
	Image                  string
	Region, Size, UserData string
	Tags                   []string
}

// Placed is where a machine that was made can be reached, by IPv4; "" where it cannot.
type Placed struct{ Public, Private string }

// Rule lets traffic through. What no rule lets through is dropped.
type Rule struct {
	// In is towards the machine.
	In bool
	// Protocol is "tcp", "udp" or "icmp"; Ports is "22", "8000-9000", "all" or "0" for
	// all, and "" for icmp.
	Protocol, Ports string
	// Addresses are CIDRs, of whoever is at the other end.
	Addresses []string
}

// Balancing is what the real balancer thinks.
type Balancing interface {
	// Healthy tells of each droplet, by its machine's name, whether it gets traffic.
	Healthy(ctx context.Context) (map[string]bool, error)
}

// Databases is what really happens behind the account's database clusters, by name.
type Databases interface {
	// Backups are the times of those that there are.
	Backups(ctx context.Context, name string) ([]time.Time, error)
	// Fork makes a copy, and tells where it is reached.
	Fork(ctx context.Context, from, name string) (addr string, port int, err error)
	Destroy(ctx context.Context, name string) error
}

// Makers are Databases that really make empty clusters too, which take connections without
// TLS. Others have empty clusters by name alone.
type Makers interface {
	// Make makes a cluster whose user "default" has that password, and tells where it is reached.
	Make(ctx context.Context, engine, name, password string) (addr string, port int, err error)
}

// memory does in memory, at the account's pace, what machines do.
type memory struct{ s *Server }

// bytesKept is how large an image is in memory.
const bytesKept = 2_500_000_000

func (m memory) pace(ctx context.Context) error {
	m.s.sleep(ctx, m.s.conf.Pace)
	return ctx.Err()
}

func (m memory) Snapshot(ctx context.Context, _, _ string) (int64, error) {
	return bytesKept, m.pace(ctx)
}

func (m memory) Create(ctx context.Context, c Machine) (Placed, error) {
	low := c.ID%250 + 2
	return Placed{Public: address("203.0.113.", low), Private: address("10.20.0.", low)}, m.pace(ctx)
}

func (m memory) Restore(ctx context.Context, _, _ string) error              { return m.pace(ctx) }
func (m memory) PowerOn(ctx context.Context, _ string) error                 { return m.pace(ctx) }
func (m memory) PowerOff(ctx context.Context, _ string) error                { return m.pace(ctx) }
func (m memory) Shutdown(ctx context.Context, _ string) error                { return m.pace(ctx) }
func (m memory) Destroy(ctx context.Context, _ string) error                 { return m.pace(ctx) }
func (m memory) Forget(ctx context.Context, _ string) error                  { return ctx.Err() }
func (m memory) Fence(ctx context.Context, _ string, _ []Rule, _ bool) error { return ctx.Err() }

// Healthy are all droplets that are on.
func (m memory) Healthy(ctx context.Context) (map[string]bool, error) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	out := map[string]bool{}
	for _, d := range m.s.state.Droplets {
		out[d.Machine] = d.Status == active
	}
	return out, ctx.Err()
}

// copies does the same for databases.
type copies struct{ s *Server }

func (c copies) Backups(ctx context.Context, name string) ([]time.Time, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if d := c.s.state.cluster(name); d != nil {
		return d.Backups, ctx.Err()
	}
	return nil, ctx.Err()
}

func (c copies) Fork(ctx context.Context, _, name string) (string, int, error) {
	return name + ".db.example", 25060, memory(c).pace(ctx)
}

func (c copies) Destroy(ctx context.Context, _ string) error { return memory(c).pace(ctx) }
