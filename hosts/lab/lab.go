// Package lab raises a small fleet of real Debian hosts on one Linux machine, for
// tests and trials: systemd as PID 1 under systemd-nspawn, real sshd, real
// services, own addresses in a network namespace without an uplink, and faults
// that can be called by name. It is no part of what refit runs; only cmd/lab and
// tests import it.
//
// Where things are:
//
//   - /run/refit-lab holds what the running lab is made of: mounts, process IDs,
//     consoles. There is one lab per machine, so these paths are fixed, and Down
//     clears them even if the lab's own directory is gone.
//   - The lab's directory (".lab") holds what belongs to its user: keys, the
//     known_hosts file, refit.yml, the state file, snapshots.
//   - The cache directory holds what costs minutes to make: the root image, the
//     gem registry, npm packages, the stand-in's repository. Down keeps it.
//
// All processes of the lab stand in the cgroup "refit-lab" of every hierarchy and
// all namespaces begin with "refit-lab": that is how Down finds them after a crash.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Fixed names of the running lab.
const (
	runDir    = "/run/refit-lab"
	lockFile  = "/run/refit-lab.lock"
	netns     = "refit-lab"
	bridge    = "lab0"
	nsPrefix  = "refit-lab-"
	cgroup    = "refit-lab"
	stateFile = "lab.json"
)

// ErrNotUp tells that no lab runs where one was asked for.
var ErrNotUp = errors.New("no lab is up here; start one with: lab up")

// Say takes one line of progress.
type Say func(format string, args ...any)

// Options tell Up what to raise.
type Options struct {
	// Dir is the lab's directory; empty for ".lab" in the working directory.
	Dir string
	// Cache keeps images and registries between labs; empty for DefaultCache().
	Cache string
	// Files is the folder of host files, the repository's testdata/lab.
	Files string
	// App is a git repository of Mastodon's shape that the fleet is raised around;
	// empty for the stand-in that Prepare makes.
	App string
	// Release is the tag whose unit files (dist/) are put on the nodes; empty for
	// hosts without units of the application.
	Release string
	// Prepare makes the repository of the application once the gem registry exists, with
	// the Ruby pinned that can be compiled here, and gives its path; nil if App names one
	// or none is wanted.
	Prepare func(ctx context.Context, ruby, gems string) (string, error)
	// Beat is how many seconds lie between two signs of life of a Sidekiq process; 0
	// for Sidekiq's own ten. Each roll waits for up to one beat.
	Beat int
	// More names Debian packages that the hosts have beyond every lab's; nil for none.
	More []string
	// Gems names the gems that the registry must hold, with all they need; nil
	// leaves the registry empty unless GemRegistry names one.
	Gems []string
	// GemRegistry is a ready static registry to serve instead of a made one.
	GemRegistry string
	// NpmOverlay is a folder of NAME-VERSION.tgz files answered before the
	// registry; empty for none.
	NpmOverlay string
	// Git is a folder of bare repositories that the git mirror serves for reading,
	// "mastodon/webpush" as http://10.77.0.1:8083/git/mastodon/webpush; empty for
	// "git" in the cache.
	Git string
	// Seed is a Ruby file that the first release's "rails runner" runs once its own
	// seeds are in, for an application that does not make the lab's tokens by itself;
	// empty for none.
	Seed string
	// Cloud: refit.yml names the cloud account whose droplets the hosts are. It is served
	// in either case.
	Cloud bool
	// Self is the lab's own program, run for the mirrors and put on the hosts that
	// need it; empty for the running program.
	Self string
	// Say takes progress; nil drops it.
	Say Say
}

// State is what a lab's directory remembers of it.
type State struct {
	// Schema numbers the file's form.
	Schema string `json:"schema"`
	// Dir, Cache and Files are absolute paths.
	Dir   string `json:"dir"`
	Cache string `json:"cache"`
	Files string `json:"files"`
	// Image is the root image that the hosts run from.
	Image string `json:"image"`
	// Workshop is the one that the builder runs from.
	Workshop string `json:"workshop"`
	// App is the bare repository of the application, empty for none.
	App     string    `json:"app,omitempty"`
	Release string    `json:"release,omitempty"`
	Beat    int       `json:"beat,omitempty"`
	More    []string  `json:"more,omitempty"`
	Self    string    `json:"self"`
	Since   time.Time `json:"since"`
	// Gems, NpmOverlay and Git are the folders that the mirrors serve, NpmFrom the
	// registry behind the npm mirror.
	Gems       string `json:"gems,omitempty"`
	NpmOverlay string `json:"npm_overlay,omitempty"`
	NpmFrom    string `json:"npm_from,omitempty"`
	Git        string `json:"git"`
	Seed       string `json:"seed,omitempty"`
	// Cloud: refit.yml names the cloud account.
	Cloud   bool    `json:"cloud,omitempty"`
	Secrets Secrets `json:"secrets"`
	// Ruby is the version whose source the mirrors serve; RubyBuild is the commit of
	// the ruby-build that defines it, Tools the folder of both.
	Ruby      string `json:"ruby"`
	RubyBuild string `json:"ruby_build"`
	Tools     string `json:"tools"`
	// Redis and Database are the addresses that these names have now.
	Redis    string `json:"redis"`
	Database string `json:"database"`
	// Primary is the host that the database address stands on.
	Primary string `json:"primary"`
}

// Secrets are the lab's made-up credentials, new in each lab.
type Secrets struct {
	Database    string `json:"database"`
	Replication string `json:"replication"`
	KeyBase     string `json:"key_base"`
	OTP         string `json:"otp"`
	// Probe is the access token of the account that refit's gates use, Load of the
	// one that the load posts as, Admin of the administrator.
	Probe string `json:"probe"`
	Load  string `json:"load"`
	Admin string `json:"admin"`
	// Redis is its password. Vapid, Storage and Mail are those of services that the
	// lab does not have; they stand in .env.production as a real fleet's do.
	Redis   string `json:"redis"`
	Vapid   string `json:"vapid"`
	Storage string `json:"storage"`
	Mail    string `json:"mail"`
	// Cloud is the token of the cloud account.
	Cloud string `json:"cloud"`
}

// Lab is a fleet that is up.
type Lab struct {
	State
	say Say
}

// Open attaches to the lab that runs in dir (empty for ".lab").
func Open(dir string) (*Lab, error) {
	dir, err := labDir(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotUp
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's state: %w", err)
	}
	l := &Lab{say: func(string, ...any) {}}
	if err := json.Unmarshal(b, &l.State); err != nil {
		return nil, fmt.Errorf("cannot read the lab's state %s: %w", filepath.Join(dir, stateFile), err)
	}
	if _, err := os.Stat(filepath.Join(runDir, "base", "etc")); err != nil {
		return nil, ErrNotUp
	}
	return l, nil
}

// OnSay sets where the lab's progress goes.
func (l *Lab) OnSay(s Say) { l.say = s }

// DefaultCache is where images are kept: $XDG_CACHE_HOME/refit-lab, or
// /var/cache/refit-lab.
func DefaultCache() string {
	if d := os.Getenv("XDG_CACHE_HOME"); d != "" {
		return filepath.Join(d, "refit-lab")
	}
	return "/var/cache/refit-lab"
}

func labDir(dir string) (string, error) {
	if dir == "" {
		dir = ".lab"
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cannot make %s absolute: %w", dir, err)
	}
	return abs, nil
}

// save writes the state file whole.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.State, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	path := filepath.Join(l.Dir, stateFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot write the lab's state: %w", err)
	}
	return nil
}
