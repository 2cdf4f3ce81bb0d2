package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// managed are the hosts that stand in the place of a provider's services: its customer
// does not see them as droplets.
var managed = []string{front, managedDatabase, "redis", "paris"}

// Where the fleet is, as its owner sees it.
const (
	region = "tor1"
	vpc    = "6b1f0e4c-0a77-4d00-9a10-077000000000"
)

// accountFile remembers the account over restarts of its server.
func (l *Lab) accountFile() string { return l.path("cloud.json") }

// CloudToken is the file that holds the account's token.
func (l *Lab) CloudToken() string { return l.path("cloud-token") }

// CloudAPI is where the account is served, in the lab's network.
func (l *Lab) CloudAPI() string { return fmt.Sprintf("http://%s:%d/", Gateway, PortCloud) }

// openAccount makes a new account for a new fleet: what an earlier one held is gone, as
// are the root images that its images belong to.
func (l *Lab) openAccount() error {
	err := errors.Join(os.RemoveAll(l.path("images")), os.RemoveAll(l.accountFile()), os.RemoveAll(l.CloudToken()))
	if err == nil {
		err = errors.Join(os.WriteFile(l.CloudToken(), []byte(l.Secrets.Cloud+"\n"), 0o600), l.SetBackupAge(2*time.Hour))
	}
	if err != nil {
		return fmt.Errorf("cannot open the cloud account: %w", err)
	}
	return nil
}

// accountServer is the server of the account.
func (l *Lab) accountServer() *cloudtest.Server {
	return cloudtest.New(cloudtest.Config{
		Machines: l.Droplets(), Balancing: l.Front(), Databases: l.Managed(),
		Token: l.Secrets.Cloud, State: l.accountFile(),
		VPCs:      []cloudtest.SeedVPC{{ID: vpc, Name: "lab", Region: region, Range: Network}},
		Droplets:  dropletSeeds(),
		Balancers: []cloudtest.SeedBalancer{balancerSeed()},
		Clusters:  []cloudtest.SeedCluster{{Name: managedDatabase, Engine: "pg", Version: "17", Host: DatabaseAddress, Port: PortDatabase, VPC: vpc}},
	})
}

// dropletSeeds are the hosts of the fleet that its owner sees as droplets.
func dropletSeeds() []cloudtest.Seed {
	var out []cloudtest.Seed
	for i, m := range Machines() {
		if slices.Contains(managed, m.Name) {
			continue
		}
		out = append(out, cloudtest.Seed{
			ID: firstInstance + i, Name: m.Name, Region: region, Size: "s-2vcpu-4gb", Private: m.Address, VPC: vpc, Tags: []string{"lab", tierOf(m)},
		})
	}
	return out
}

// balancerSeed is the balancer with the check that haproxy.cfg has.
func balancerSeed() cloudtest.SeedBalancer {
	s := cloudtest.SeedBalancer{Name: front, Port: 443, Path: "/health"}
	for i, m := range Machines() {
		if m.Name == front {
			s.IP = m.Address
		}
		if tierOf(m) == "proxy" {
			s.Droplets = append(s.Droplets, firstInstance+i)
		}
	}
	return s
}

// tierOf is the tag that the fleet's owner gives a host for what it does.
func tierOf(m Machine) string {
	for _, tree := range []string{"proxy", "web", "builder", "search"} {
		if slices.Contains(m.Trees, tree) {
			return tree
		}
	}
	return "sidekiq"
}

// serveAccount serves the account until the context ends, and beside it what troubles it.
func (l *Lab) serveAccount(ctx context.Context) error {
	if err := l.recoverDroplets(ctx); err != nil {
		return err
	}
	server := l.accountServer()
	if err := server.Err(); err != nil {
		return fmt.Errorf("cannot serve the cloud account: %w", err)
	}
	failed := make(chan error, 2)
	for address, h := range map[string]http.Handler{
		fmt.Sprintf("%s:%d", Gateway, PortCloud): server,
		fmt.Sprintf("127.0.0.1:%d", PortAccount): troubled(server),
	} {
		ln, err := listen(address)
		if err != nil {
			return err
		}
		go func() { failed <- Serve(ctx, ln, h) }()
	}
	return <-failed
}

// recoverDroplets clears what a server that was killed has left half done: hosts that a
// snapshot holds, hosts that were not created yet, parts of images.
func (l *Lab) recoverDroplets(ctx context.Context) error {
	if err := letGo(ctx); err != nil {
		return err
	}
	r, err := readRoster(rosterFile)
	if err != nil {
		return err
	}
	for _, c := range r.Clones {
		if c.Made {
			continue
		}
		if err := l.Droplets().Destroy(ctx, c.Machine.Name); err != nil {
			return err
		}
	}
	parts, err := filepath.Glob(l.path("images", partPrefix+"*"))
	if err != nil {
		return fmt.Errorf("cannot look for parts of images: %w", err)
	}
	for _, p := range parts {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("cannot drop a part of an image: %w", err)
		}
	}
	return nil
}

// account is what can be done to the account from behind.
type account interface {
	Trouble(...cloudtest.Trouble)
	Calm()
	Faults() []string
}

// troubled takes rules of trouble by POST /trouble, ends them by DELETE /trouble, and
// tells by GET /faults what went wrong behind answers.
func troubled(a account) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /trouble", func(w http.ResponseWriter, r *http.Request) {
		var t cloudtest.Trouble
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
		d.DisallowUnknownFields()
		if err := d.Decode(&t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.Trouble(t)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /trouble", func(w http.ResponseWriter, _ *http.Request) {
		a.Calm()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range a.Faults() {
			if _, err := fmt.Fprintln(w, f); err != nil {
				return // whoever asked has gone
			}
		}
	})
	return mux
}

// CloudTrouble gives the account a rule of trouble, as JSON of cloudtest.Trouble (times in
// nanoseconds).
func (l *Lab) CloudTrouble(ctx context.Context, rule string) error {
	_, err := l.askAccount(ctx, http.MethodPost, "/trouble", rule)
	return err
}

// CloudCalm ends all troubles of the account.
func (l *Lab) CloudCalm(ctx context.Context) error {
	_, err := l.askAccount(ctx, http.MethodDelete, "/trouble", "")
	return err
}

// CloudFaults are what went wrong behind the account where no answer could tell, one a
// line.
func (l *Lab) CloudFaults(ctx context.Context) (string, error) {
	return l.askAccount(ctx, http.MethodGet, "/faults", "")
}

// askAccount asks the account's other side, which no host reaches.
func (l *Lab) askAccount(ctx context.Context, method, path, body string) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("cannot ask the cloud account: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", PortAccount, path), strings.NewReader(body))
	if err != nil {
		return fail(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: l.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	a, err := client.Do(r)
	if err != nil {
		return fail(err)
	}
	defer a.Body.Close()
	said, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return fail(err)
	}
	if a.StatusCode/100 != 2 {
		return fail(fmt.Errorf("%s: %s", a.Status, strings.TrimSpace(string(said))))
	}
	return string(said), nil
}

// RestartCloud kills the mirrors and the account's server with them, whatever it is at,
// and starts them again. What the account knows and its images stay.
func (l *Lab) RestartCloud(ctx context.Context) error {
	if err := killGroup(ctx, "mirrors"); err != nil {
		return err
	}
	lock, err := takeLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return l.startMirrors(ctx, lock)
}
