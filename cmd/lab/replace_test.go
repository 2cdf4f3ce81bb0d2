package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// account asks the lab's cloud account, as a person with curl does.
func (f *fleet) account(t *testing.T, method, path string, into any) {
	t.Helper()
	token, err := os.ReadFile(f.CloudToken())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.CloudAPI()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client, err := f.HTTPClient()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
}

// droplet is a machine as the account shows it.
type droplet struct {
	ID     int
	Name   string
	Status string
	Tags   []string
}

// named are the account's droplets of a name.
func (f *fleet) named(t *testing.T, name string) []droplet {
	t.Helper()
	var out struct{ Droplets []droplet }
	f.account(t, http.MethodGet, "v2/droplets?per_page=200", &out)
	return slices.DeleteFunc(out.Droplets, func(d droplet) bool { return d.Name != name })
}

// schedulers looks, until the returned function is called, how many processes serve the
// scheduler's queue at once.
func (f *fleet) schedulers(t *testing.T) (most func() int) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	highest := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if all, err := f.workers(ctx); err == nil {
				n := 0
				for _, w := range all {
					if slices.Contains(w.Queues, "scheduler") && w.why == "" {
						n++
					}
				}
				highest = max(highest, n)
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	return func() int { end(); wg.Wait(); return highest }
}

// TestLabALostNodeAndTheSchedulersAreReplaced destroys a web node through the account while
// users are at work and lets a new machine take its place; then the scheduler's node should
// get one from an image that lacks its unit. The lab's fleet is another afterwards, so that no other test
// can use it: it runs alone, where it is asked for.
func TestLabALostNodeAndTheSchedulersAreReplaced(t *testing.T) {
	if os.Getenv("REFIT_LAB_SPOIL") == "" {
		t.Skip("it leaves a lab that no other test can use: REFIT_LAB=1 REFIT_LAB_SPOIL=1 go test ./cmd/lab -run " + t.Name())
	}
	f := on(t, "v4.5.2")
	config := f.config(t, "\ndatabase:\n", fmt.Sprintf("\ncloud:\n  token: {file: %s}\n  api: %s\n  balancer: pike\n  database: majel\n  born: {from: [%s/32]}\ndatabase:\n", f.CloudToken(), f.CloudAPI(), lab.Gateway))
	f.must(t, 0, config, []string{"upgrade", "--to", "v4.6.0", "--yes"}, "golden: done", "DONE")

	lost := f.named(t, "spock")
	if len(lost) != 1 {
		t.Fatalf("%+v", lost)
	}
	var destroyed time.Time
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	destroyed = time.Now()
	f.account(t, http.MethodDelete, fmt.Sprintf("v2/droplets/%d", lost[0].ID), nil)
	f.must(t, 0, config, []string{"replace", "--host", "spock", "--yes"}, "create spock: done", "join spock: done", "write spock: done", "DONE")
	met := load.Stop()
	t.Logf("users: %d requests, %d failed:%s", met.Requests.Sent, met.Requests.Failed, failures(met))
	for _, fail := range met.Failures {
		// What was in flight there, and what the proxies tried until they knew.
		if after := fail.At.Sub(destroyed); after > 15*time.Second {
			t.Errorf("a request failed %s after the node was destroyed: %+v", after.Round(time.Second), fail)
		}
	}
	if met.Requests.Failed > len(met.Failures) {
		t.Errorf("%d requests failed, more than can be looked at", met.Requests.Failed)
	}
	f.serves(t, config, "spock", "v4.6.0")

	// The tier's golden image is scotty's, without the scheduler's unit: that is said, and
	// the old machine has its place again.
	most := f.schedulers(t)
	f.must(t, 6, config, []string{"replace", "--host", "decker", "--yes"}, "has no mastodon-sidekiq-scheduler.service by refit.yml", "FAILED AND TAKEN BACK")
	if n := most(); n != 1 {
		t.Errorf("%d schedulers at once", n)
	}
	f.serves(t, config, "decker", "v4.6.0")
	old := f.named(t, "spock")
	for _, d := range f.named(t, "decker") {
		if made := slices.Contains(d.Tags, "refit"); made != (d.Status == "off") {
			t.Errorf("droplet %d is %s", d.ID, d.Status)
		}
	}
	if len(old) != 1 {
		t.Errorf("%+v", old)
	}
	f.must(t, 0, config, []string{"sweep"}, "nothing in the account is expired")
	if faults, err := f.CloudFaults(t.Context()); err != nil || strings.TrimSpace(faults) != "" {
		t.Errorf("the account says: %s, %v", faults, err)
	}
}

// serves asks status whether a node runs a release, and the configuration whether it can
// still be read with all its hosts.
func (f *fleet) serves(t *testing.T, config, host, release string) {
	t.Helper()
	a := f.run(t, config, "status", "--json")
	var st struct {
		Hosts []struct{ Name, Release, State string }
	}
	if err := json.Unmarshal([]byte(a.out), &st); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	for _, h := range st.Hosts {
		if h.Name == host && (h.Release != release || h.State != "running") {
			t.Errorf("%s runs %s (%s), not %s", h.Name, h.Release, h.State, release)
		}
	}
}
