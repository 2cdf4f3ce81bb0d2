package cloud

import (
	"net/netip"
	"time"
)

// Droplet is a virtual machine.
type Droplet struct {
	ID   int
	Name string
	// Status is "new", "active", "off" or "archive".
	Status string
	// Locked: an action is open on it, and another is refused.
	Locked bool
	// Region and Size are slugs, "tor1" and "s-2vcpu-4gb".
	Region, Size string
	// DiskGiB is the size of its disk.
	DiskGiB int
	// Image is what it was made from.
	Image int
	// Public and Private are its IPv4 addresses; not valid where it has none.
	Public, Private netip.Addr
	// VPC is the ID of its private network.
	VPC  string
	Tags []string
	// Snapshots are the IDs of those made of it.
	Snapshots []int
	Created   time.Time
	// Monthly is its price in US dollars.
	Monthly float64
}

// Action is a deed on a droplet that takes time.
type Action struct {
	ID int
	// Type is the API's word, "snapshot", "power_off".
	Type string
	// Status is "in-progress", "completed" or "errored"; the API gives no reason for
	// the last.
	Status string
	// Completed is zero while it goes on.
	Started, Completed time.Time
}

// Open tells whether the action goes on.
func (a Action) Open() bool { return a.Status == "in-progress" }

// Image is a disk that droplets can be made from.
type Image struct {
	ID   int
	Name string
	// Kind is "snapshot", "backup", "custom" or "base".
	Kind    string
	Regions []string
	// GiB is what is charged for, MinDiskGiB the least disk of a droplet made from it.
	GiB        float64
	MinDiskGiB int
	Tags       []string
	Created    time.Time
}

// Balancer is a managed load balancer.
type Balancer struct {
	ID, Name string
	// Status is "new", "active" or "errored".
	Status string
	IP     string
	// Tag names its droplets by their tag; with "" they are Droplets.
	Tag      string
	Droplets []int
	// Check is how it asks whether a droplet is healthy.
	Check HealthCheck
}

// HealthCheck is how a balancer asks its droplets for their health.
type HealthCheck struct {
	Protocol string
	Port     int
	Path     string
	// Every is between two questions, Wait for an answer.
	Every, Wait time.Duration
	// Down and Up are after how many answers a droplet goes out and comes back.
	Down, Up int
}

// Database is a managed database cluster.
type Database struct {
	ID, Name string
	// Engine is "pg" or "valkey", as the API has it.
	Engine, Version string
	// Status is "creating", "online", "resizing", "migrating" or "forking".
	Status string
	// Host and Port lead to it in the private network; its password is never kept.
	Host         string
	Port         int
	Region, Size string
	Nodes        int
	Tags         []string
	Created      time.Time
}

// Backup is one of a database's backups, made by the provider.
type Backup struct {
	At  time.Time
	GiB float64
}

// Account is whose token it is.
type Account struct {
	Email, Status string
	// DropletLimit is how many droplets the account may have.
	DropletLimit int
}

// NewDroplet is a droplet to be made.
type NewDroplet struct {
	// Name carries the run that makes it: by the name it is found again.
	Name         string
	Region, Size string
	Image        int
	VPC          string
	// SSHKeys are the IDs or fingerprints of the account's keys.
	SSHKeys []string
	Tags    []string
	// UserData is what cloud-init is given; it must hold no secret, since the
	// machine's own programs can read it.
	UserData string
}

// NewDatabase is a database to be made: a copy of From where that is not empty.
type NewDatabase struct {
	Name                          string
	From                          string
	Engine, Version, Region, Size string
	Nodes                         int
	VPC                           string
	Tags                          []string
	// At is the instant whose state the copy has; zero for the newest.
	At time.Time
}

// Firewall is a cloud firewall: what it does not name is refused.
type Firewall struct {
	ID, Name string
	// Droplets are those that it is put on by ID, Tags those by tag.
	Droplets []int
	Tags     []string
	In, Out  []Rule
}

// Rule lets traffic through.
type Rule struct {
	// Protocol is "tcp", "udp" or "icmp", Ports "22", "8000-9000" or "all".
	Protocol, Ports string
	// Addresses are in CIDR form.
	Addresses []string
}

// Power is what a droplet's power is to become.
type Power string

// The powers.
const (
	PowerOn Power = "power_on"
	// PowerOff pulls the plug.
	PowerOff Power = "power_off"
	// Shutdown asks the system, which may not answer.
	Shutdown Power = "shutdown"
)

// Kind is what a tag is put on.
type Kind string

// The kinds.
const (
	KindDroplet Kind = "droplet"
	KindImage   Kind = "image"
)
