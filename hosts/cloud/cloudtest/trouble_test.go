package cloudtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func serve(t *testing.T, s *cloudtest.Server) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// raw sends one snapshot's request and is what the caller gets.
func raw(ctx context.Context, t *testing.T, s *cloudtest.Server) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", "https://api.example/v2/droplets/101/actions", strings.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: s.Transport()}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b), nil
}

func begun(c caller) int {
	c.Helper()
	n, _ := at(c.must(200, "GET", "/v2/droplets/101/actions", ""), "meta", "total").(float64)
	return int(n)
}

func TestAnAnswerIsLostBeforeOrAfterTheDeed(t *testing.T) {
	for name, x := range map[string]struct {
		trouble cloudtest.Trouble
		begun   int
	}{
		"dropped before":    {cloudtest.Trouble{Drop: true}, 0},
		"dropped after":     {cloudtest.Trouble{Drop: true, Done: true}, 1},
		"a page before":     {cloudtest.Outage(503, 1), 0},
		"an error after":    {cloudtest.Trouble{Status: 500, Done: true}, 1},
		"a wait, and after": {cloudtest.Trouble{Hang: time.Hour}, 1},
	} {
		lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
			x.trouble.Sent = "snapshot"
			s.Trouble(x.trouble)
			resp, body, err := raw(t.Context(), t, s)
			switch {
			case x.trouble.Drop && !errors.Is(err, io.ErrUnexpectedEOF):
				t.Errorf("%s: %v", name, err)
			case x.trouble.Status != 0 && (err != nil || resp.StatusCode != x.trouble.Status || body != x.trouble.Body):
				t.Errorf("%s: %v %q %v", name, resp, body, err)
			}
			if n := begun(c); n != x.begun {
				t.Errorf("%s: %d actions were begun", name, n)
			}
			s.Wait()
			if resp, _, err := raw(t.Context(), t, s); err != nil || resp.StatusCode != 201 {
				t.Errorf("%s: it lasts: %v %v", name, resp, err)
			}
		})
	}
}

func TestAnAnswerThatHangsEndsWithItsCaller(t *testing.T) {
	for _, done := range []bool{false, true} {
		lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
			s.Trouble(cloudtest.Trouble{Method: "POST", Hang: -1, Done: done})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, _, err := raw(ctx, t, s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if n := begun(c); (n == 1) != done {
				t.Errorf("done is %v, and %d actions were begun", done, n)
			}
		})
	}
}

func TestTroublesStrikeWhatTheyNameAsOftenAsTheySay(t *testing.T) {
	s := cloudtest.New(furnished())
	defer s.Close()
	c := inside(t, s)
	s.Trouble(cloudtest.Trouble{Method: "GET", Path: "tag_name=web", Skip: 1, Times: 2, Status: 502, Body: "{}"})
	var got []int
	for range 4 {
		status, _, _ := c.ask("GET", "/v2/droplets?tag_name=web", token, "")
		got = append(got, status)
	}
	if got[0] != 200 || got[1] != 502 || got[2] != 502 || got[3] != 200 {
		t.Error(got)
	}
	s.Trouble(cloudtest.Trouble{Path: "/v2/account", Times: -1, Status: 502, Body: "{}"})
	for range 3 {
		if status, _, _ := c.ask("GET", "/v2/account", token, ""); status != 502 {
			t.Error(status)
		}
	}
	c.must(200, "GET", "/v2/droplets", "")
	s.Calm()
	c.must(200, "GET", "/v2/account", "")
}

func TestActionsEndBadlyOrLateOrWithoutTheirEffect(t *testing.T) {
	state := func(c caller) (status string, images int) {
		c.Helper()
		n, _ := at(c.must(200, "GET", "/v2/droplets/101/snapshots", ""), "meta", "total").(float64)
		return id(c.must(200, "GET", "/v2/droplets/101/actions", ""), "actions", 0, "status"), int(n)
	}
	for name, x := range map[string]struct {
		trouble    cloudtest.Trouble
		after      time.Duration
		status     string
		images     int
		lateStatus string
		lateImages int
	}{
		"errored":        {cloudtest.Trouble{Errored: true}, 61 * time.Second, "errored", 0, "errored", 0},
		"long":           {cloudtest.Trouble{Linger: time.Hour}, time.Hour, "in-progress", 0, "completed", 1},
		"late":           {cloudtest.Trouble{Late: time.Hour}, time.Hour, "completed", 0, "completed", 1},
		"never":          {cloudtest.Trouble{Late: -1}, time.Hour, "completed", 0, "completed", 0},
		"without an end": {cloudtest.Trouble{Linger: -1}, 24 * time.Hour, "in-progress", 0, "in-progress", 0},
	} {
		lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
			x.trouble.Sent = "snapshot"
			s.Trouble(x.trouble)
			c.must(201, "POST", "/v2/droplets/101/actions", shot)
			time.Sleep(x.after)
			if status, images := state(c); status != x.status || images != x.images {
				t.Errorf("%s: %s, %d images", name, status, images)
			}
			time.Sleep(2 * time.Minute)
			if status, images := state(c); status != x.lateStatus || images != x.lateImages {
				t.Errorf("%s, later: %s, %d images", name, status, images)
			}
			s.Calm()
		})
	}
}

func TestADropletsStateMayComeAfterItsAction(t *testing.T) {
	lived(t, func(t *testing.T, s *cloudtest.Server, c caller) {
		s.Trouble(cloudtest.Trouble{Sent: "power_off", Late: time.Minute})
		c.must(201, "POST", "/v2/droplets/101/actions", `{"type":"power_off"}`)
		time.Sleep(90 * time.Second)
		action := c.must(200, "GET", "/v2/droplets/101/actions", "")
		if out := c.must(200, "GET", "/v2/droplets/101", ""); at(out, "droplet", "status") != "active" || at(action, "actions", 0, "status") != "completed" {
			t.Errorf("%v, %v", at(out, "droplet", "status"), action)
		}
		s.Wait()
		if out := c.must(200, "GET", "/v2/droplets/101", ""); at(out, "droplet", "status") != "off" {
			t.Errorf("%v", at(out, "droplet", "status"))
		}
	})
}

// fronts is what a real balancer thinks.
type fronts map[string]bool

func (f fronts) Healthy(context.Context) (map[string]bool, error) {
	if f == nil {
		return nil, errors.New("no answer")
	}
	return f, nil
}

func TestTheBalancersHealthIsAskedOfTheRealOne(t *testing.T) {
	conf := furnished()
	conf.Balancing = fronts{"web1": true}
	s := cloudtest.New(conf)
	defer s.Close()
	const path = "/v2/monitoring/metrics/load_balancer/droplets_health_checks?start=1&end=2&lb_id=" + lb
	out := inside(t, s).must(200, "GET", path, "")
	for i, want := range []string{"101 1", "102 0"} {
		r := at(out, "data", "result", i)
		if got := id(r, "metric", "host_id") + " " + id(r, "values", 0, 1); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	conf.Balancing = fronts(nil)
	mute := cloudtest.New(conf)
	defer mute.Close()
	inside(t, mute).must(500, "GET", path, "")
}

// bases is a database that cannot be copied.
type bases struct{}

func (bases) Backups(context.Context, string) ([]time.Time, error) { return nil, errors.New("no") }
func (bases) Destroy(context.Context, string) error                { return nil }
func (bases) Fork(context.Context, string, string) (string, int, error) {
	return "", 0, errors.New("no room")
}

func TestACopyThatFailsNeverComesOnline(t *testing.T) {
	conf := furnished()
	conf.Databases = bases{}
	s := cloudtest.New(conf)
	defer s.Close()
	c := inside(t, s)
	c.must(500, "GET", "/v2/databases/"+db+"/backups", "")
	made := c.must(201, "POST", "/v2/databases", `{"name":"refit-copy","engine":"pg","num_nodes":1,"size":"db-s-1vcpu-2gb","region":"tor1","backup_restore":{"database_name":"fleet-pg"}}`)
	s.Wait()
	out := c.must(200, "GET", "/v2/databases/"+id(made, "database", "id"), "")
	if at(out, "database", "status") != "forking" || len(s.Faults()) != 1 {
		t.Errorf("%v, %v", at(out, "database", "status"), s.Faults())
	}
}
