package cloudtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// machines records what is asked of it; one may fail.
type machines struct {
	cloudtest.Machines
	mu    sync.Mutex
	done  []string
	fails string
}

func (m *machines) note(what ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := strings.Join(what, " ")
	m.done = append(m.done, line)
	if m.fails != "" && strings.HasPrefix(line, m.fails) {
		return errors.New("no")
	}
	return nil
}

func (m *machines) Snapshot(_ context.Context, d, i string) (int64, error) {
	return 1_230_000_000, m.note("snapshot", d, i)
}

func (m *machines) Create(_ context.Context, c cloudtest.Machine) (cloudtest.Placed, error) {
	return cloudtest.Placed{Private: "10.20.0.99"}, m.note("create", c.Name, c.Image)
}
func (m *machines) Restore(_ context.Context, d, i string) error { return m.note("restore", d, i) }
func (m *machines) Destroy(_ context.Context, d string) error    { return m.note("destroy", d) }
func (m *machines) Forget(_ context.Context, i string) error     { return m.note("forget", i) }
func (m *machines) Fence(_ context.Context, d string, r []cloudtest.Rule, on bool) error {
	if !on {
		return m.note("open", d)
	}
	var all []string
	for _, rule := range r {
		all = append(all, rule.Ports+" "+strings.Join(rule.Addresses, ","))
	}
	return m.note("fence", d, strings.Join(all, "; "))
}

func TestDeedsReachTheMachines(t *testing.T) {
	m := &machines{}
	conf := furnished()
	conf.Machines = m
	s := cloudtest.New(conf)
	defer s.Close()
	c := inside(t, s)
	c.must(201, "POST", "/v2/droplets/101/actions", shot)
	s.Wait()
	image := id(c.must(200, "GET", "/v2/droplets/101/snapshots", ""), "snapshots", 0, "id")
	c.must(202, "POST", "/v2/firewalls", `{"name":"fence","tags":["web"],"inbound_rules":[{"protocol":"tcp","ports":"22","sources":{"droplet_ids":[103]}}]}`)
	s.Wait()
	made := c.must(202, "POST", "/v2/droplets", `{"name":"web1","size":"s-2vcpu-4gb","image":`+image+`,"tags":["web"]}`)
	s.Wait()
	born := id(made, "droplet", "id")
	c.must(204, "DELETE", "/v2/tags/web/resources", `{"resources":[{"resource_id":"`+born+`","resource_type":"droplet"}]}`)
	s.Wait()
	c.must(204, "DELETE", "/v2/images/"+image, "")
	s.Wait()
	c.must(204, "DELETE", "/v2/droplets/"+born, "")
	s.Wait()
	got := strings.Join(m.done, "\n")
	for _, want := range []string{
		"snapshot web1 " + image, "fence web1 22 10.20.0.13/32",
		"fence web1-" + born + " 22 10.20.0.13/32\ncreate web1-" + born + " " + image, // walled before it boots
		"open web1-" + born, "forget " + image, "destroy web1-" + born,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if len(s.Faults()) > 0 {
		t.Error(s.Faults())
	}
}

func TestAMachineThatFailsEndsItsActionAsErrored(t *testing.T) {
	m := &machines{fails: "snapshot"}
	conf := furnished()
	conf.Machines = m
	s := cloudtest.New(conf)
	defer s.Close()
	c := inside(t, s)
	c.must(201, "POST", "/v2/droplets/101/actions", shot)
	s.Wait()
	out := c.must(200, "GET", "/v2/droplets/101/actions", "")
	if at(out, "actions", 0, "status") != "errored" || at(out, "actions", 0, "completed_at") == nil || len(s.Faults()) != 1 {
		t.Errorf("%v, faults %v", out, s.Faults())
	}
	if out := c.must(200, "GET", "/v2/droplets/101/snapshots", ""); at(out, "meta", "total") != 0.0 {
		t.Error("it left an image")
	}
}

func TestItServesOnASocketAndCutsThere(t *testing.T) {
	s := cloudtest.New(furnished())
	defer s.Close()
	server := serve(t, s)
	c := caller{t, http.DefaultClient, server}
	c.must(200, "GET", "/v2/droplets", "")
	s.Trouble(cloudtest.Trouble{Method: "DELETE", Drop: true, Done: true})
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", server+"/v2/droplets/103", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, err := http.DefaultClient.Do(req); !errors.Is(err, io.EOF) {
		t.Errorf("%v %v", resp, err)
	}
	c.must(404, "GET", "/v2/droplets/103", "")
}
