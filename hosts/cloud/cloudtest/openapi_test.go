package cloudtest_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

func TestEveryAnswerIsAsTheProviderDescribesIt(t *testing.T) {
	var log []cloudtest.Exchange
	synctest.Test(t, func(t *testing.T) {
		conf := furnished()
		conf.Pace = time.Minute
		conf.Clusters[0].Backups = []time.Time{time.Now().Add(-time.Hour)}
		s := cloudtest.New(conf)
		defer s.Close()
		c := inside(t, s)
		walk(c, s.Wait)
		refusals(c)
		log = s.Log()
		for _, fault := range s.Faults() {
			t.Error(fault)
		}
	})
	cloudtest.Hold(t, os.Getenv(cloudtest.Description), log)
}

// refusals asks for what is refused, in each way.
func refusals(c caller) {
	for _, x := range []struct {
		status       int
		method, path string
		as, body     string
	}{
		{401, "GET", "/v2/droplets", "wrong", ""},
		{403, "GET", "/v2/images", reader, ""},
		{404, "GET", "/v2/nothing", token, ""},
		{404, "GET", "/v2/droplets/999", token, ""},
		{404, "POST", "/v2/tags/none/resources", token, `{"resources":[{"resource_id":"103","resource_type":"droplet"}]}`},
		{422, "POST", "/v2/droplets/103/actions", token, `{"type":"snapshot","nmae":"x"}`},
		{422, "POST", "/v2/droplets", token, `{"name":"a","size":"s-1vcpu-1gb","image":"none"}`},
		{422, "GET", "/v2/droplets?page=none", token, ""},
	} {
		if got, out, _ := c.ask(x.method, x.path, x.as, x.body); got != x.status {
			c.Errorf("%s %s: %d, not %d: %v", x.method, x.path, got, x.status, out)
		}
	}
}

// spy is a test that only counts what fails.
type spy struct {
	testing.TB
	failed int
}

func (s *spy) Errorf(string, ...any) { s.failed++ }
func (s *spy) Helper()               {}
func (s *spy) Logf(string, ...any)   {}

func TestTheDescriptionIsHeldTo(t *testing.T) {
	dir := os.Getenv(cloudtest.Description)
	s := cloudtest.New(furnished())
	defer s.Close()
	c := inside(t, s)
	c.must(200, "GET", "/v2/droplets/101", "")
	c.must(201, "POST", "/v2/droplets/101/actions", `{"type":"snapshot","name":"a"}`)
	s.Wait()
	c.must(200, "GET", "/v2/snapshots", "")
	c.must(204, "POST", "/v2/tags/web/resources", `{"resources":[{"resource_id":"103","resource_type":"droplet"}]}`)
	log := s.Log()
	cloudtest.Hold(t, dir, log)
	replace := func(old, with string) func(*cloudtest.Exchange) {
		return func(e *cloudtest.Exchange) {
			before := string(e.Response)
			after := strings.Replace(before, old, with, 1)
			if before == after {
				t.Errorf("%s has no %s", before, old)
			}
			e.Response = []byte(after)
		}
	}
	for name, x := range map[string]struct {
		at    int
		spoil func(*cloudtest.Exchange)
	}{
		"a property left out":           {0, replace(`"locked":false,`, "")},
		"one that is not there":         {0, replace(`"locked":false`, `"locked":false,"is_locked":false`)},
		"a text for a number":           {0, replace(`"id":101`, `"id":"101"`)},
		"a status that is none":         {0, replace(`"status":"active"`, `"status":"done"`)},
		"a time that is none":           {0, replace(`"created_at":"`, `"created_at":"soon `)},
		"one too many in a list's item": {2, replace(`"resource_type":"droplet"`, `"resource_type":"droplet","type":"snapshot"`)},
		"a list without its meta":       {2, replace(`"meta":`, `"met":`)},
		"another success":               {1, func(e *cloudtest.Exchange) { e.Status = 200 }},
		"a body where none belongs":     {3, func(e *cloudtest.Exchange) { e.Response = []byte("{}") }},
		"no limits in the headers":      {0, func(e *cloudtest.Exchange) { e.Header = http.Header{"Content-Type": {"application/json"}} }},
		"an error of another form":      {0, func(e *cloudtest.Exchange) { e.Status, e.Response = 500, []byte(`{"error":"x"}`) }},
		"a request with a typing error": {1, func(e *cloudtest.Exchange) { e.Request = []byte(`{"type":"snapshot","nmae":"a"}`) }},
		"a request of another type": {3, func(e *cloudtest.Exchange) {
			e.Request = []byte(`{"resources":[{"resource_id":103,"resource_type":"droplet"}]}`)
		}},
		"a page that is no number": {2, func(e *cloudtest.Exchange) { e.URL += "?page=one" }},
	} {
		e := log[x.at]
		x.spoil(&e)
		watch := &spy{TB: t}
		if cloudtest.Hold(watch, dir, []cloudtest.Exchange{e}); watch.failed != 1 {
			t.Errorf("%s is not noticed", name)
		}
	}
	e := log[0]
	e.Status, e.Spoiled = 503, true
	cloudtest.Hold(t, dir, []cloudtest.Exchange{e}) // what a trouble did is not held
}
