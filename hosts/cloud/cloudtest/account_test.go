package cloudtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// lived runs a test against an account whose actions take a minute.
func lived(t *testing.T, test func(t *testing.T, s *cloudtest.Server, c caller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		conf := furnished()
		conf.Pace = time.Minute
		s := cloudtest.New(conf)
		defer s.Close()
		test(t, s, inside(t, s))
	})
}

const shot = `{"type":"snapshot","name":"s"}`

func TestAnOpenActionHoldsItsDropletAndNoOther(t *testing.T) {
	lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
		first := c.must(201, "POST", "/v2/droplets/101/actions", shot)
		for _, x := range []struct{ method, path, body string }{
			{"POST", "/v2/droplets/101/actions", shot},
			{"POST", "/v2/droplets/101/actions", `{"type":"power_off"}`},
			{"DELETE", "/v2/droplets/101", ""},
			{"DELETE", "/v2/droplets?tag_name=web", ""},
		} {
			if out := c.must(422, x.method, x.path, x.body); at(out, "message") != "Droplet already has a pending event." || at(out, "id") != "unprocessable_entity" {
				t.Errorf("%s: %v", x.path, out)
			}
		}
		if out := c.must(200, "GET", "/v2/droplets/101", ""); at(out, "droplet", "locked") != true {
			t.Error("it is not locked")
		}
		c.must(201, "POST", "/v2/droplets/102/actions", shot)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		path := "/v2/droplets/101/actions/" + id(first, "action", "id")
		if out := c.must(200, "GET", path, ""); at(out, "action", "status") != "in-progress" || at(out, "action", "completed_at") != nil {
			t.Errorf("after 59 s: %v", out)
		}
		if out := c.must(200, "GET", "/v2/droplets/101/snapshots", ""); at(out, "meta", "total") != 0.0 {
			t.Errorf("the image is there before its action's end: %v", out)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if out := c.must(200, "GET", path, ""); at(out, "action", "status") != "completed" {
			t.Errorf("after 60 s: %v", out)
		}
		out := c.must(200, "GET", "/v2/droplets/101", "")
		if at(out, "droplet", "locked") != false || at(out, "droplet", "snapshot_ids", 0) == nil {
			t.Errorf("%v", at(out, "droplet", "snapshot_ids"))
		}
		c.must(201, "POST", "/v2/droplets/101/actions", shot)
	})
}

func TestPowerGoesOneWayAtATime(t *testing.T) {
	lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
		c.must(422, "POST", "/v2/droplets/101/actions", `{"type":"power_on"}`)
		c.must(201, "POST", "/v2/droplets/101/actions", `{"type":"shutdown"}`)
		s.Wait()
		if out := c.must(200, "GET", "/v2/droplets/101", ""); at(out, "droplet", "status") != "off" {
			t.Errorf("%v", at(out, "droplet", "status"))
		}
		for _, kind := range []string{"shutdown", "power_off", "reboot"} {
			c.must(422, "POST", "/v2/droplets/101/actions", `{"type":"`+kind+`"}`)
		}
	})
}

func TestBodiesThatAreNotAsDescribedAreRefused(t *testing.T) {
	conf := furnished()
	conf.Images = []cloudtest.SeedImage{{Name: "12 x64", Slug: "debian-12-x64"}, {ID: 202, Name: "of-web2", Origin: 102}}
	conf.Images = append(conf.Images, cloudtest.SeedImage{ID: 201, Name: "large", MinDisk: 80})
	s := cloudtest.New(conf)
	defer s.Close()
	c := inside(t, s)
	const born = `"name":"n","region":"tor1","size":"s-2vcpu-4gb","image":"debian-12-x64"`
	for name, x := range map[string]struct{ method, path, body string }{
		"a field that is none":           {"POST", "/v2/droplets", `{` + born + `,"nmae":"x"}`},
		"null for keys":                  {"POST", "/v2/droplets", `{` + born + `,"ssh_keys":null}`},
		"a text for a flag":              {"POST", "/v2/droplets", `{` + born + `,"monitoring":"true"}`},
		"a size that is none":            {"POST", "/v2/droplets", `{"name":"n","size":"huge","image":"debian-12-x64"}`},
		"a disk that is too small":       {"POST", "/v2/droplets", `{"name":"n","size":"s-1vcpu-1gb","image":201}`},
		"a name that is none":            {"POST", "/v2/droplets", `{"name":"a_b","size":"s-2vcpu-4gb","image":"debian-12-x64"}`},
		"a tag with a dot":               {"POST", "/v2/droplets", `{` + born + `,"tags":["v4.6.5"]}`},
		"a network that is none":         {"POST", "/v2/droplets", `{` + born + `,"vpc_uuid":"x"}`},
		"two values":                     {"POST", "/v2/droplets", `{` + born + `} {}`},
		"no JSON":                        {"POST", "/v2/droplets/101/actions", `type=snapshot`},
		"an action that is none":         {"POST", "/v2/droplets/101/actions", `{"type":"resize","size":"s-2vcpu-4gb"}`},
		"another droplet's image":        {"POST", "/v2/droplets/101/actions", `{"type":"restore","image":202}`},
		"a number for a resource's ID":   {"POST", "/v2/tags/web/resources", `{"resources":[{"resource_id":103,"resource_type":"droplet"}]}`},
		"a tag's name with a dot":        {"POST", "/v2/tags", `{"name":"a.b"}`},
		"a project that is no UUID":      {"POST", "/v2/databases", `{"name":"copy","engine":"pg","num_nodes":1,"size":"x","region":"tor1","project_id":""}`},
		"rules that are null":            {"POST", "/v2/databases", `{"name":"copy","engine":"pg","num_nodes":1,"size":"x","region":"tor1","rules":null}`},
		"a cluster's name that is taken": {"POST", "/v2/databases", `{"name":"fleet-pg","engine":"pg","num_nodes":1,"size":"x","region":"tor1"}`},
		"a copy of nothing":              {"POST", "/v2/databases", `{"name":"copy","engine":"pg","num_nodes":1,"size":"x","region":"tor1","backup_restore":{"database_name":"none"}}`},
		"a copy with another engine":     {"POST", "/v2/databases", `{"name":"copy","engine":"valkey","num_nodes":1,"size":"x","region":"tor1","backup_restore":{"database_name":"fleet-pg"}}`},
		"a copy of the future":           {"POST", "/v2/databases", `{"name":"copy","engine":"pg","num_nodes":1,"size":"x","region":"tor1","backup_restore":{"database_name":"fleet-pg","backup_created_at":"2999-01-01T00:00:00Z"}}`},
		"a firewall without rules":       {"POST", "/v2/firewalls", `{"name":"fence","droplet_ids":[101]}`},
		"a rule for nobody":              {"POST", "/v2/firewalls", `{"name":"fence","inbound_rules":[{"protocol":"tcp","ports":"22","sources":{}}]}`},
		"ports that are none":            {"POST", "/v2/firewalls", `{"name":"fence","inbound_rules":[{"protocol":"tcp","ports":"99-22","sources":{"addresses":["10.0.0.0/8"]}}]}`},
		"a firewall's tag that is none":  {"POST", "/v2/firewalls", `{"name":"fence","tags":["none"],"inbound_rules":[{"protocol":"tcp","ports":"22","sources":{"addresses":["10.0.0.0/8"]}}]}`},
		"a balancer's droplets by tag":   {"POST", "/v2/load_balancers/9b2f1111-0000-4000-8000-000000000002/droplets", `{"droplet_ids":[103]}`},
		"a network within another":       {"POST", "/v2/vpcs", `{"name":"x","region":"tor1","ip_range":"10.20.1.0/24"}`},
		"a body where nobody reads one":  {"DELETE", "/v2/droplets/103", `{}`},
		"a parameter that is none":       {"GET", "/v2/databases?page=1", ""},
		"more than 200 on a page":        {"GET", "/v2/droplets?per_page=201", ""},
		"a metric without its time":      {"GET", "/v2/monitoring/metrics/load_balancer/droplets_downtime?lb_id=" + lb, ""},
		"all droplets of no tag":         {"DELETE", "/v2/droplets", ""},
	} {
		if got, out, _ := c.ask(x.method, x.path, token, x.body); got != 422 || at(out, "message") == "" {
			t.Errorf("%s: %d %v", name, got, out)
		}
	}
	if out := c.must(200, "GET", "/v2/droplets", ""); at(out, "meta", "total") != 3.0 {
		t.Errorf("a refused request did something: %v", at(out, "meta"))
	}
}

func TestAtMostSoManyDropletsAreMade(t *testing.T) {
	conf := furnished()
	conf.DropletLimit = 3
	s := cloudtest.New(conf)
	defer s.Close()
	out := inside(t, s).must(422, "POST", "/v2/droplets", `{"name":"n","size":"s-2vcpu-4gb","image":"debian-12-x64"}`)
	if !strings.Contains(id(out, "message"), "exceed your droplet limit") {
		t.Error(out)
	}
}

func TestATokenDoesWhatItsScopesSayAndNoMore(t *testing.T) {
	conf := furnished()
	conf.Scopes = map[string][]string{
		"reads": {"droplet:read"}, "updates": {"droplet:read", "droplet:update"}, "nothing": {}, "snaps": {"droplet:update", "image:create"},
	}
	s := cloudtest.New(conf)
	defer s.Close()
	c := inside(t, s)
	for _, x := range []struct {
		as, method, path, body string
		status                 int
	}{
		{"", "GET", "/v2/droplets", "", 401},
		{"other", "GET", "/v2/droplets", "", 401},
		{"nothing", "GET", "/v2/droplets", "", 403},
		{"reads", "GET", "/v2/droplets", "", 200},
		{"reads", "POST", "/v2/droplets/101/actions", shot, 403},
		{"updates", "POST", "/v2/droplets/101/actions", shot, 403},
		{"updates", "POST", "/v2/droplets/101/actions", `{"type":"restore","image":1}`, 403},
		{"snaps", "POST", "/v2/droplets/101/actions", shot, 201},
		{"reads", "GET", "/v2/actions/1", "", 403},
	} {
		got, out, _ := c.ask(x.method, x.path, x.as, x.body)
		if got != x.status || (got == 403 && at(out, "message") != "You are not authorized to perform this operation") {
			t.Errorf("%s %s as %q: %d %v", x.method, x.path, x.as, got, out)
		}
	}
}

func TestRequestsAreLimitedByMinuteAndByHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := furnished()
		conf.Hourly, conf.Burst = 12, 5
		s := cloudtest.New(conf)
		defer s.Close()
		c := inside(t, s)
		begun := time.Now()
		for range 5 {
			c.must(200, "GET", "/v2/account", "")
		}
		time.Sleep(20 * time.Second)
		got, out, h := c.ask("GET", "/v2/account", token, "")
		if got != 429 || h.Get("Retry-After") != "40" || h.Get("Ratelimit-Remaining") != "0" || at(out, "id") != "too_many_requests" {
			t.Errorf("the sixth of a minute: %d %v %v", got, h, out)
		}
		time.Sleep(40 * time.Second)
		_, _, h = c.ask("GET", "/v2/account", token, "")
		if h.Get("Ratelimit-Remaining") != "6" || h.Get("Ratelimit-Reset") != unix(begun.Add(time.Hour)) {
			t.Errorf("a minute later: %v", h)
		}
		for range 6 {
			time.Sleep(time.Minute)
			c.must(200, "GET", "/v2/account", "")
		}
		time.Sleep(time.Minute)
		if got, _, h := c.ask("GET", "/v2/account", token, ""); got != 429 || h.Get("Retry-After") != "" {
			t.Errorf("the thirteenth of an hour: %d %v", got, h)
		}
		if got, _, _ := c.ask("GET", "/v2/account", reader, ""); got != 200 {
			t.Errorf("another token: %d", got)
		}
		time.Sleep(time.Until(begun.Add(time.Hour)))
		c.must(200, "GET", "/v2/account", "")
	})
}

func TestListsAreCutIntoPagesThatNameEachOther(t *testing.T) {
	s := cloudtest.New(furnished())
	defer s.Close()
	c := inside(t, s)
	first := c.must(200, "GET", "/v2/droplets?per_page=2", "")
	next := id(first, "links", "pages", "next")
	if at(first, "links", "pages", "prev") != nil || next != c.base+"/v2/droplets?page=2&per_page=2" {
		t.Fatalf("%v", at(first, "links"))
	}
	second := c.must(200, "GET", strings.TrimPrefix(next, c.base), "")
	if at(second, "droplets", 0, "id") != 103.0 || at(second, "droplets", 1) != nil || at(second, "links", "pages", "next") != nil || at(second, "meta", "total") != 3.0 {
		t.Errorf("%v", second)
	}
	if out := c.must(200, "GET", "/v2/droplets?page=9", ""); at(out, "droplets", 0) != nil {
		t.Error("a page behind the last has something")
	}
}

func TestTagsAreThereBeforeTheyArePutOnSomething(t *testing.T) {
	s := cloudtest.New(furnished())
	defer s.Close()
	c := inside(t, s)
	const on = `{"resources":[{"resource_id":"103","resource_type":"droplet"}]}`
	c.must(404, "POST", "/v2/tags/refit:kind:snapshot/resources", on)
	c.must(201, "POST", "/v2/tags", `{"name":"refit:kind:snapshot"}`)
	c.must(201, "POST", "/v2/tags", `{"name":"refit:kind:snapshot"}`) // again is no error
	c.must(404, "POST", "/v2/tags/refit:kind:snapshot/resources", `{"resources":[{"resource_id":"103","resource_type":"droplet"},{"resource_id":"9","resource_type":"image"}]}`)
	if out := c.must(200, "GET", "/v2/droplets?tag_name=refit:kind:snapshot", ""); at(out, "meta", "total") != 0.0 {
		t.Error("a refused request tagged half of it")
	}
	c.must(204, "POST", "/v2/tags/refit:kind:snapshot/resources", on)
	if out := c.must(200, "GET", "/v2/droplets?tag_name=refit:kind:snapshot", ""); at(out, "droplets", 0, "id") != 103.0 {
		t.Error(out)
	}
	c.must(204, "DELETE", "/v2/tags/refit:kind:snapshot", "")
	if out := c.must(200, "GET", "/v2/droplets/103", ""); at(out, "droplet", "tags", 0) != nil {
		t.Error("the tag is gone and its droplet has it")
	}
}

func TestTheStateOutlivesTheServer(t *testing.T) {
	conf := furnished()
	conf.State = filepath.Join(t.TempDir(), "account.json")
	s := cloudtest.New(conf)
	c := inside(t, s)
	c.must(201, "POST", "/v2/droplets/101/actions", shot)
	s.Close()
	if got, _, _ := c.ask("GET", "/v2/droplets", token, ""); got != 503 {
		t.Errorf("a closed account answered %d", got)
	}
	kept, err := os.ReadFile(conf.State)
	if err != nil {
		t.Fatal(err)
	}
	conf.Droplets = nil // the file wins
	again := cloudtest.New(conf)
	defer again.Close()
	c = inside(t, again)
	image := at(c.must(200, "GET", "/v2/droplets/101/snapshots", ""), "snapshots", 0, "id")
	next := c.must(201, "POST", "/v2/droplets/101/actions", shot)
	if image == nil || at(next, "action", "id").(float64) <= image.(float64) {
		t.Errorf("the image is %v, the next action %v", image, at(next, "action", "id"))
	}
	// One that died in the middle of an action.
	died := strings.Replace(string(kept), `"Status": "completed"`, `"Status": "in-progress"`, 1)
	if died == string(kept) {
		t.Fatal("the state has no completed action")
	}
	conf.State = filepath.Join(t.TempDir(), "died.json")
	if err := os.WriteFile(conf.State, []byte(died), 0o600); err != nil {
		t.Fatal(err)
	}
	third := cloudtest.New(conf)
	defer third.Close()
	out := inside(t, third).must(200, "GET", "/v2/droplets/101/actions", "")
	if at(out, "actions", 0, "status") != "errored" {
		t.Error(out)
	}
}

func TestAStateThatCannotBeReadOrKeptIsToldByEveryAnswer(t *testing.T) {
	conf := furnished()
	conf.State = filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(conf.State, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := cloudtest.New(conf)
	defer s.Close()
	inside(t, s).must(500, "GET", "/v2/droplets", "")
	if s.Err() == nil {
		t.Error("no error")
	}
	conf.State = filepath.Join(t.TempDir(), "no", "folder.json")
	lost := cloudtest.New(conf)
	defer lost.Close()
	inside(t, lost).must(500, "GET", "/v2/droplets", "")
}

func TestTheLogHasNoToken(t *testing.T) {
	s := cloudtest.New(furnished())
	defer s.Close()
	inside(t, s).must(200, "GET", "/v2/droplets", "")
	log := s.Log()
	if len(log) != 1 || log[0].RequestHeader.Get("Authorization") != "" || log[0].Status != 200 {
		t.Errorf("%+v", log)
	}
}
