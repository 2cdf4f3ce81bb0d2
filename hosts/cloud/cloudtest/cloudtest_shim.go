// Package cloudtest holds, until lane sim lands, the shapes that the lab implements.
package cloudtest

import (
	"context"
	"net/http"
	"time"
)

// Machines is what really happens behind the account; calls block until it is done.
type Machines interface {
	Snapshot(ctx context.Context, droplet, image string) (bytes int64, err error)
	Create(ctx context.Context, m Machine) (Placed, error)
	Restore(ctx context.Context, droplet, image string) error
	PowerOn(ctx context.Context, droplet string) error
	PowerOff(ctx context.Context, droplet string) error
	Shutdown(ctx context.Context, droplet string) error
	Destroy(ctx context.Context, droplet string) error
	Forget(ctx context.Context, image string) error
	Fence(ctx context.Context, droplet string, rules []Rule, on bool) error
}

// Machine is one to be created.
type Machine struct {
	ID                                  int
	Name, Image, Region, Size, UserData string
	Tags                                []string
}

// Placed are the addresses of a created machine.
type Placed struct{ Public, Private string }

// Rule lets traffic through.
type Rule struct {
	In              bool
	Protocol, Ports string
	Addresses       []string
}

// Balancing is what the real balancer thinks, by droplet name.
type Balancing interface {
	Healthy(ctx context.Context) (map[string]bool, error)
}

// Databases are the real ones.
type Databases interface {
	Backups(ctx context.Context, name string) ([]time.Time, error)
	Fork(ctx context.Context, from, name string) (addr string, port int, err error)
	Destroy(ctx context.Context, name string) error
}

// Config is what a server serves.
type Config struct {
	Machines     Machines
	Balancing    Balancing
	Databases    Databases
	Token, State string
	Droplets     []Seed
	Balancers    []SeedBalancer
	Clusters     []SeedCluster
	VPCs         []SeedVPC
}

// Seed is a droplet that is there from the start.
type Seed struct {
	ID                                       int
	Name, Region, Size, Public, Private, VPC string
	Tags                                     []string
}

// SeedBalancer is a balancer that is there from the start.
type SeedBalancer struct {
	ID, Name, IP string
	Droplets     []int
	Port         int
	Path         string
}

// SeedCluster is a database that is there from the start.
type SeedCluster struct {
	ID, Name, Engine, Version, Host, VPC string
	Port                                 int
}

// SeedVPC is a private network that is there from the start.
type SeedVPC struct{ ID, Name, Region, Range string }

// Trouble is a rule for what goes wrong.
type Trouble struct {
	Method, Path, Sent string
	Skip, Times        int
	Status             int
	Header             http.Header
	Body               string
	Drop               bool
	Hang               time.Duration
	Done, Errored      bool
	Linger, Late       time.Duration
}

// Calm ends all troubles.
func (*Server) Calm() {}

// Faults are what went wrong where no answer could tell.
func (*Server) Faults() []string { return nil }

// Server is the account.
type Server struct{}

// New gives the account.
func New(Config) *Server { return &Server{} }

// Trouble adds a rule.
func (*Server) Trouble(...Trouble) {}

// ServeHTTP answers.
func (*Server) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "the account is not there yet", http.StatusServiceUnavailable)
}

// Err tells why the account cannot be kept.
func (*Server) Err() error { return nil }
