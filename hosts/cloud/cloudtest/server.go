// Package cloudtest is a simulated DigitalOcean account for tests and the lab: the part
// of its API that refit speaks, with state, with time and with strictness. What its
// actions do stands behind three interfaces (Machines, Balancing, Databases); without
// them it is done in memory, and takes as long as Config.Pace says.
//
// What the official description does not allow is refused: fields that it does not have,
// null where it may not be, a page of no number. Where the description is silent, this is
// what is known of the real one: one action at a time holds a droplet, an image appears
// when its action is completed and the action does not name it, a tag must be there
// before something is tagged with it, and a refusal for want of a scope does not name
// the scope.
//
// Answers are held to the official description by this package's own tests; Hold does the
// same for what other packages' tests exchange with it.
package cloudtest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config of a simulated account.
type Config struct {
	// Machines, Balancing and Databases are what really happens; nil is in memory.
	Machines  Machines
	Balancing Balancing
	Databases Databases
	// Token may do everything, unless Scopes narrows it. It must not be empty.
	Token string
	// Scopes are further tokens, each with the scopes it has, such as "droplet:read".
	Scopes map[string][]string
	// Clock is the account's; nil is time.Now.
	Clock func() time.Time
	// Pace is how long an action lasts in memory, and how long what has no machine
	// behind it takes: a balancer, a database that is no copy.
	Pace time.Duration
	// Hourly and Burst are a token's requests in an hour and in a minute; 0 is 5000
	// and 250 (official description, Rate Limit).
	Hourly, Burst int
	// State is the path of a JSON file that the account is kept in; "" keeps it in
	// memory alone. Where the file is there, what follows here is not looked at.
	State string

	Droplets  []Seed
	Images    []SeedImage
	Balancers []SeedBalancer
	Clusters  []SeedCluster
	VPCs      []SeedVPC
	// DropletLimit is how many droplets the account may have; 0 is 25.
	DropletLimit int
}

// Server is the simulated account, an http.Handler. Its methods may be called while it
// serves. Close ends it.
type Server struct {
	conf   Config
	mux    *http.ServeMux
	fences chan struct{}  // held while a machine's firewalls are set: the last one wins
	deeds  sync.WaitGroup // actions and what else goes on behind answers

	mu       sync.Mutex
	state    account
	uses     map[string][]time.Time // of a token, in the last hour
	troubles []*Trouble
	calm     chan struct{} // closed when hanging and lingering is to end
	closed   bool
	log      []Exchange
	faults   []string
	broken   error // of the state file: nothing is answered any more
}

// maxFaults bounds what is kept for Faults.
const maxFaults = 100

// New makes an account, from Config.State if that is there. A state that cannot be read
// is told by Err, and by every answer.
func New(c Config) *Server {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Hourly == 0 {
		c.Hourly = 5000
	}
	if c.Burst == 0 {
		c.Burst = 250
	}
	if c.DropletLimit == 0 {
		c.DropletLimit = 25
	}
	s := &Server{
		conf: c, mux: http.NewServeMux(), fences: make(chan struct{}, 1),
		uses: map[string][]time.Time{}, calm: make(chan struct{}),
	}
	own := memory{s}
	if c.Machines == nil {
		s.conf.Machines = own
	}
	if c.Balancing == nil {
		s.conf.Balancing = own
	}
	if c.Databases == nil {
		s.conf.Databases = copies{s}
	}
	if c.Token == "" {
		s.broken = fmt.Errorf("cloudtest: Config.Token is empty")
	}
	s.routes()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun()
	return s
}

// Close ends what hangs or lingers and waits for the actions that go on. What is asked
// after it is answered 503.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.calm)
	}
	s.mu.Unlock()
	s.deeds.Wait()
}

// Wait waits until no action goes on any more.
func (s *Server) Wait() { s.deeds.Wait() }

// Err tells why the account cannot be kept in its file, nil if it can.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Faults are the first hundred things that went wrong where no answer could tell: a
// machine that could not be destroyed, a firewall that could not be set.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// fault notes one. The lock is held.
func (s *Server) fault(format string, args ...any) {
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, fmt.Sprintf("simulated account: "+format, args...))
	}
}

// behind runs what goes on after the answer. The lock is held.
func (s *Server) behind(do func(ctx context.Context)) {
	s.deeds.Go(func() { do(context.Background()) })
}

// change runs do with the account locked, and keeps what it did.
func (s *Server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.save()
}

// now is the account's time, in the resolution that the API has.
func (s *Server) now() time.Time { return s.conf.Clock().UTC().Truncate(time.Second) }

// sleep waits, and ends early when the troubles end. A negative time waits for that.
func (s *Server) sleep(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	s.mu.Lock()
	calm := s.calm
	s.mu.Unlock()
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-calm:
	case <-ctx.Done():
	}
}
