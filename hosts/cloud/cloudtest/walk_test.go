package cloudtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

const (
	token   = "dop_v1_all"
	reader  = "dop_v1_reads"
	lb      = "9b2f1111-0000-4000-8000-000000000001"
	db      = "9b2f2222-0000-4000-8000-000000000001"
	network = "9b2f3333-0000-4000-8000-000000000001"
)

// furnished is the configuration of an account with some of everything.
func furnished() cloudtest.Config {
	return cloudtest.Config{
		Token:  token,
		Scopes: map[string][]string{reader: {"droplet:read", "account:read"}},
		VPCs:   []cloudtest.SeedVPC{{ID: network, Name: "fleet", Region: "tor1", Range: "10.20.0.0/20"}},
		Droplets: []cloudtest.Seed{
			{ID: 101, Name: "web1", Public: "203.0.113.11", Private: "10.20.0.11", VPC: network, Tags: []string{"web"}},
			{ID: 102, Name: "web2", Public: "203.0.113.12", Private: "10.20.0.12", VPC: network, Tags: []string{"web"}},
			{ID: 103, Name: "sidekiq1", Private: "10.20.0.13", VPC: network},
		},
		Balancers: []cloudtest.SeedBalancer{
			{ID: lb, Name: "front", Droplets: []int{101, 102}, Path: "/health", Port: 80},
			{ID: "9b2f1111-0000-4000-8000-000000000002", Name: "by-tag", Tag: "web"},
		},
		Clusters: []cloudtest.SeedCluster{{ID: db, Name: "fleet-pg", VPC: network, Backups: []time.Time{time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)}}},
	}
}

// caller speaks to an account.
type caller struct {
	testing.TB
	client *http.Client
	base   string
}

// inside is a caller without a socket.
func inside(t testing.TB, s *cloudtest.Server) caller {
	return caller{t, &http.Client{Transport: s.Transport()}, "https://api.example"}
}

// ask sends one request and is its status and answer.
func (c caller) ask(method, path, as, body string) (int, map[string]any, http.Header) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	if as != "" {
		req.Header.Set("Authorization", "Bearer "+as)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	out := map[string]any{}
	if len(bytes.TrimSpace(b)) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			c.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}
	return resp.StatusCode, out, resp.Header
}

// must asks and insists on a status.
func (c caller) must(status int, method, path, body string) map[string]any {
	c.Helper()
	got, out, _ := c.ask(method, path, token, body)
	if got != status {
		c.Errorf("%s %s %s: %d, not %d: %v", method, path, body, got, status, out)
	}
	return out
}

// at digs a value out of an answer.
func at(v any, keys ...any) any {
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[k]
		case int:
			l, ok := v.([]any)
			if !ok || k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// id is a number out of an answer, as a path has it.
func id(v any, keys ...any) string { return fmt.Sprint(at(v, keys...)) }

// walk asks everything that the account knows, with good requests alone; wait is called
// where something must be done first.
func walk(c caller, wait func()) {
	c.Helper()
	c.must(200, "GET", "/v2/account", "")
	c.must(200, "GET", "/v2/regions", "")
	c.must(200, "GET", "/v2/sizes?per_page=2&page=2", "")
	made := c.must(202, "POST", "/v2/droplets", `{"name":"web3","region":"tor1","size":"s-2vcpu-4gb","image":"debian-12-x64","ssh_keys":[],"tags":["refit","refit:run:r1"],"user_data":"#cloud-config\n","vpc_uuid":"`+network+`"}`)
	third := id(made, "droplet", "id")
	wait()
	c.must(200, "GET", "/v2/actions/"+id(made, "links", "actions", 0, "id"), "")
	c.must(200, "GET", "/v2/droplets", "")
	c.must(200, "GET", "/v2/droplets?tag_name=web&per_page=1&page=2", "")
	c.must(200, "GET", "/v2/droplets?name=web1", "")
	c.must(200, "GET", "/v2/droplets/"+third, "")
	image := walkActions(c, wait)
	walkImages(c, image)
	walkBalancers(c, wait)
	walkClusters(c, wait)
	walkWalls(c, third, wait)
	c.must(204, "DELETE", "/v2/droplets/"+third, "")
	c.must(204, "DELETE", "/v2/droplets?tag_name=web", "")
	c.must(404, "GET", "/v2/droplets/"+third, "")
	c.must(204, "DELETE", "/v2/tags/web", "")
	wait()
}

func walkActions(c caller, wait func()) (image string) {
	c.Helper()
	act := func(body string) string {
		c.Helper()
		out := c.must(201, "POST", "/v2/droplets/101/actions", body)
		c.must(200, "GET", "/v2/droplets/101/actions/"+id(out, "action", "id"), "")
		wait()
		done := c.must(200, "GET", "/v2/droplets/101/actions/"+id(out, "action", "id"), "")
		if at(done, "action", "status") != "completed" {
			c.Errorf("%s ended as %v", body, at(done, "action"))
		}
		return id(out, "action", "id")
	}
	act(`{"type":"snapshot","name":"refit-lab-r1-web1"}`)
	kept := c.must(200, "GET", "/v2/droplets/101/snapshots", "")
	image = id(kept, "snapshots", 0, "id")
	for _, kind := range []string{"shutdown", "power_on", "power_off", "power_on", "reboot", "power_cycle"} {
		act(`{"type":"` + kind + `"}`)
	}
	act(`{"type":"restore","image":` + image + `}`)
	act(`{"type":"rebuild","image":` + image + `}`)
	act(`{"type":"rebuild","image":"debian-12-x64"}`)
	c.must(200, "GET", "/v2/droplets/101/actions?per_page=3", "")
	c.must(404, "GET", "/v2/droplets/102/actions/1", "")
	return image
}

func walkImages(c caller, image string) {
	c.Helper()
	c.must(201, "POST", "/v2/tags", `{"name":"refit"}`)
	c.must(201, "POST", "/v2/tags", `{"name":"refit:fleet:lab"}`)
	c.must(204, "POST", "/v2/tags/refit/resources", `{"resources":[{"resource_id":"`+image+`","resource_type":"image"},{"resource_id":"101","resource_type":"droplet"}]}`)
	c.must(200, "GET", "/v2/tags", "")
	c.must(200, "GET", "/v2/tags/refit", "")
	c.must(404, "GET", "/v2/tags/none", "")
	c.must(200, "GET", "/v2/images", "")
	c.must(200, "GET", "/v2/images?private=true&tag_name=refit", "")
	c.must(200, "GET", "/v2/images?type=distribution", "")
	c.must(200, "GET", "/v2/images/"+image, "")
	c.must(200, "GET", "/v2/images/debian-12-x64", "")
	c.must(200, "PUT", "/v2/images/"+image, `{"name":"renamed","description":"kept"}`)
	c.must(200, "GET", "/v2/snapshots?resource_type=droplet", "")
	c.must(200, "GET", "/v2/snapshots/"+image, "")
	c.must(204, "DELETE", "/v2/tags/refit/resources", `{"resources":[{"resource_id":"`+image+`","resource_type":"image"}]}`)
	c.must(204, "DELETE", "/v2/snapshots/"+image, "")
	c.must(404, "GET", "/v2/images/"+image, "")
	c.must(404, "DELETE", "/v2/images/"+image, "")
}

func walkBalancers(c caller, wait func()) {
	c.Helper()
	const rules = `"forwarding_rules":[{"entry_protocol":"https","entry_port":443,"target_protocol":"https","target_port":443,"tls_passthrough":true}]`
	c.must(200, "GET", "/v2/load_balancers", "")
	c.must(200, "GET", "/v2/load_balancers/"+lb, "")
	c.must(404, "GET", "/v2/load_balancers/9b2f9999-0000-4000-8000-000000000001", "")
	made := c.must(202, "POST", "/v2/load_balancers", `{"name":"second","region":"tor1","droplet_ids":[101],`+rules+`,"health_check":{"protocol":"http","port":80,"path":"/health"}}`)
	own := "/v2/load_balancers/" + id(made, "load_balancer", "id")
	wait()
	c.must(200, "PUT", own, `{"name":"second","region":"tor1","tag":"web","vpc_uuid":"`+network+`",`+rules+`}`)
	c.must(204, "POST", "/v2/load_balancers/"+lb+"/droplets", `{"droplet_ids":[103]}`)
	c.must(204, "DELETE", "/v2/load_balancers/"+lb+"/droplets", `{"droplet_ids":[103]}`)
	c.must(422, "POST", own+"/droplets", `{"droplet_ids":[103]}`)
	for _, m := range []string{"droplets_health_checks", "droplets_downtime", "frontend_http_responses"} {
		c.must(200, "GET", "/v2/monitoring/metrics/load_balancer/"+m+"?lb_id="+lb+"&start=1600000000&end=1900000000", "")
	}
	c.must(204, "DELETE", own, "")
}

func walkClusters(c caller, wait func()) {
	c.Helper()
	c.must(200, "GET", "/v2/databases", "")
	c.must(200, "GET", "/v2/databases/"+db, "")
	c.must(200, "GET", "/v2/databases/"+db+"/backups", "")
	made := c.must(201, "POST", "/v2/databases", `{"name":"refit-copy","engine":"pg","version":"16","num_nodes":1,"size":"db-s-1vcpu-2gb","region":"tor1","private_network_uuid":"`+network+`","tags":["refit"],"backup_restore":{"database_name":"fleet-pg"}}`)
	own := "/v2/databases/" + id(made, "database", "id")
	wait()
	if got := c.must(200, "GET", own, ""); at(got, "database", "status") != "online" {
		c.Errorf("the copy is %v", at(got, "database", "status"))
	}
	c.must(200, "GET", "/v2/databases?tag_name=refit", "")
	c.must(201, "POST", own+"/pools", `{"name":"p","mode":"transaction","size":10,"db":"defaultdb","user":"doadmin"}`)
	c.must(200, "GET", own+"/pools", "")
	c.must(204, "PUT", own+"/pools/p", `{"mode":"session","size":5,"db":"defaultdb"}`)
	c.must(200, "GET", own+"/pools/p", "")
	c.must(204, "DELETE", own+"/pools/p", "")
	c.must(204, "DELETE", own, "")
	c.must(404, "GET", own, "")
	wait()
}

func walkWalls(c caller, droplet string, wait func()) {
	c.Helper()
	const rules = `"inbound_rules":[{"protocol":"tcp","ports":"22","sources":{"addresses":["10.20.0.0/20"],"tags":["web"]}}],"outbound_rules":[{"protocol":"udp","ports":"all","destinations":{"addresses":["0.0.0.0/0","::/0"]}}]`
	made := c.must(202, "POST", "/v2/firewalls", `{"name":"refit-fence","droplet_ids":[`+droplet+`],"tags":null,`+rules+`}`)
	own := "/v2/firewalls/" + id(made, "firewall", "id")
	wait()
	c.must(200, "GET", "/v2/firewalls", "")
	c.must(200, "GET", own, "")
	c.must(200, "GET", "/v2/droplets/"+droplet+"/firewalls", "")
	c.must(200, "PUT", own, `{"name":"refit-fence","droplet_ids":[`+droplet+`],`+rules+`}`)
	c.must(204, "POST", own+"/droplets", `{"droplet_ids":[101]}`)
	c.must(204, "DELETE", own+"/droplets", `{"droplet_ids":[101]}`)
	c.must(204, "POST", own+"/tags", `{"tags":["web"]}`)
	c.must(204, "DELETE", own+"/tags", `{"tags":["web"]}`)
	c.must(204, "DELETE", own, "")
	c.must(200, "GET", "/v2/vpcs", "")
	net := c.must(201, "POST", "/v2/vpcs", `{"name":"apart","region":"tor1","ip_range":"10.30.0.0/24"}`)
	c.must(200, "GET", "/v2/vpcs/"+id(net, "vpc", "id"), "")
	c.must(204, "DELETE", "/v2/vpcs/"+id(net, "vpc", "id"), "")
	wait()
}
