package cloud_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

// tamper does something before each request.
type tamper struct {
	next http.RoundTripper
	do   func()
}

func (t tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	t.do()
	return t.next.RoundTrip(r)
}

func TestTheAccountIsRead(t *testing.T) {
	play(t, func(w *world) {
		a, err := w.client().Account(w.Context())
		w.must(err)
		if a != (cloud.Account{Email: "ops@example.org", Status: "active", DropletLimit: 25}) {
			w.Errorf("%+v", a)
		}
	})
}

func TestTagsThatTheAccountLacksAreMadeAndThoseThatAreOnItLeftAlone(t *testing.T) {
	play(t, func(w *world) {
		c := w.client()
		w.images[5] = image(5, 1, name)
		marks := cloud.Marks("trek", cloud.ForUndo, "r1")
		w.must(c.TagImage(w.Context(), 5, marks...))
		sent := w.count("POST")
		w.must(c.TagImage(w.Context(), 5, marks...))
		w.want("POST", sent)
		w.must(c.TagDroplet(w.Context(), 1, marks...))
		list, err := c.Images(w.Context(), cloud.FleetTag("trek"))
		w.must(err)
		if len(list) != 1 || !cloud.Ours(list[0].Tags, "trek", cloud.ForUndo) {
			w.Errorf("%+v", list)
		}
		w.sure = map[string]int{} // a refused tag was put on again
		d, err := c.Droplets(w.Context(), cloud.RunTag("r1"))
		w.must(err)
		if len(d) != 1 {
			w.Errorf("%+v", d)
		}
		for range 2 {
			w.must(c.Untag(w.Context(), "refit", cloud.KindImage, 5))
		}
		w.must(c.Untag(w.Context(), "never-was", cloud.KindImage, 5))
		w.fails(c.TagImage(w.Context(), 404, "refit"), cloud.ErrNotFound)
		im, err := c.Image(w.Context(), 5)
		w.must(err)
		if slices.Contains(im.Tags, "refit") {
			w.Errorf("%+v", im)
		}
		w.sure = map[string]int{}
	})
}

func TestATagThatAnotherMakesMeanwhileIsNoError(t *testing.T) {
	play(t, func(w *world) {
		w.images[5] = image(5, 1, name)
		w.troubles = []*trouble{{at: "POST /v2/tags", skip: 1, status: 422, body: `{"id":"unprocessable_entity","message":"tag exists"}`}}
		c := w.client(func(o *cloud.Options) {
			o.Transport = tamper{w, func() {
				if w.count("POST") == 1 {
					w.tags = []string{"refit"}
				}
			}}
		})
		w.must(c.TagImage(w.Context(), 5, "refit"))
	})
	play(t, func(w *world) {
		w.images[5] = image(5, 1, name)
		w.troubles = []*trouble{{at: "POST /v2/tags ", status: 422}, {at: "POST /v2/tags", skip: 1, status: 422, body: `{"id":"x","message":"too many tags"}`}}
		w.fails(w.client().TagImage(w.Context(), 5, "refit"), nil, "too many tags", "make the tag refit")
	})
}

func TestLostTagsAreLookedFor(t *testing.T) {
	for _, at := range []string{"POST /v2/tags/refit/resources", "DELETE /v2/tags/refit/resources"} {
		for story, bad := range map[string]trouble{"done": {at: at, after: true}, "not done": {at: at, before: true}} {
			t.Run(at+" "+story, func(t *testing.T) {
				play(t, func(w *world) {
					w.tags = []string{"refit"}
					on := strings.HasPrefix(at, "POST")
					if !on {
						w.droplets[1]["tags"] = []string{"refit"}
					}
					w.troubles = []*trouble{&bad}
					var err error
					if on {
						err = w.client().TagDroplet(w.Context(), 1, "refit")
					} else {
						err = w.client().Untag(w.Context(), "refit", cloud.KindDroplet, 1)
					}
					if bad.after {
						w.must(err)
					} else {
						w.fails(err, cloud.ErrLost, "refit", "droplet 1")
					}
					w.want(at, 1)
				})
			})
		}
	}
}

func TestABalancerIsFoundByItsIDAndByItsName(t *testing.T) {
	play(t, func(w *world) {
		w.lbs = []obj{
			{"id": uuid(1), "name": "www", "status": "active", "ip": "192.0.2.9", "droplet_ids": []int{1, 2}, "health_check": obj{
				"protocol": "https", "port": 443, "path": "/health", "check_interval_seconds": 10, "response_timeout_seconds": 5, "healthy_threshold": 3, "unhealthy_threshold": 5,
			}},
			{"id": uuid(2), "name": "twice"},
			{"id": uuid(3), "name": "twice"},
		}
		c := w.client()
		for _, key := range []string{uuid(1), "www"} {
			b, err := c.Balancer(w.Context(), key)
			w.must(err)
			want := cloud.HealthCheck{Protocol: "https", Port: 443, Path: "/health", Every: 10 * time.Second, Wait: 5 * time.Second, Down: 5, Up: 3}
			if b.ID != uuid(1) || b.IP != "192.0.2.9" || b.Check != want || len(b.Droplets) != 2 {
				w.Errorf("%+v", b)
			}
		}
		for _, key := range []string{uuid(8), "none", "../droplets"} {
			_, err := c.Balancer(w.Context(), key)
			w.fails(err, cloud.ErrNotFound)
		}
		_, err := c.Balancer(w.Context(), "twice")
		w.fails(err, nil, uuid(2), uuid(3))
	})
}

func database() obj {
	return obj{
		"id": uuid(3), "name": "mastodon-db", "engine": "pg", "version": "16", "status": "online", "region": "tor1", "size": "db-s-2vcpu-4gb",
		"num_nodes": 2, "private_network_uuid": uuid(9), "created_at": "1999-01-01T00:00:00Z",
		"private_connection": obj{"host": "private-db.example", "port": 25060, "password": "hunter2hunter2"},
	}
}

func TestADatabaseIsReadWithoutItsPassword(t *testing.T) {
	play(t, func(w *world) {
		w.dbs[uuid(3)] = database()
		c := w.client()
		for _, key := range []string{uuid(3), "mastodon-db"} {
			d, err := c.Database(w.Context(), key)
			w.must(err)
			if d.Host != "private-db.example" || d.Port != 25060 || d.Engine != "pg" || d.Nodes != 2 || d.Created.IsZero() {
				w.Errorf("%+v", d)
			}
			b, err := c.Backups(w.Context(), key)
			w.must(err)
			if len(b) != 2 || !b[0].At.After(b[1].At) || b[0].GiB != 1.6 {
				w.Errorf("%+v", b)
			}
		}
		_, err := c.Database(w.Context(), "other")
		w.fails(err, cloud.ErrNotFound, "cloud.database")
		_, err = c.Backups(w.Context(), "other")
		w.fails(err, cloud.ErrNotFound)
	})
}

func TestADatabaseIsForkedOnce(t *testing.T) {
	at := time.Date(1999, 12, 31, 12, 0, 0, 0, time.FixedZone("", 3600))
	for story, bad := range map[string]trouble{"all well": {at: "none"}, "lost": {at: "POST", after: true}} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				w.dbs[uuid(3)] = database()
				w.troubles = []*trouble{&bad}
				c := w.client()
				n := cloud.NewDatabase{Name: "refit-trek-r1", From: uuid(3), Nodes: 1, At: at}
				d, err := c.Fork(w.Context(), n)
				w.must(err)
				again, err := c.Fork(w.Context(), n)
				w.must(err)
				if d.ID == "" || d.ID != again.ID || d.Size != "db-s-2vcpu-4gb" || d.Version != "16" || d.Nodes != 1 || d.Status != "creating" {
					w.Errorf("%+v, %+v", d, again)
				}
				made := w.dbs[d.ID]
				if from := made["backup_restore"].(obj); from["database_name"] != "mastodon-db" || from["backup_created_at"] != "1999-12-31T11:00:00Z" || made["private_network_uuid"] != uuid(9) {
					w.Errorf("%+v", made)
				}
				w.want("POST", 1)
			})
		})
	}
	play(t, func(w *world) {
		w.dbs[uuid(3)] = database()
		w.troubles = []*trouble{{at: "POST", status: 503, body: "<html>"}}
		_, err := w.client().Fork(w.Context(), cloud.NewDatabase{Name: "copy", From: "mastodon-db"})
		w.fails(err, cloud.ErrLost, "a copy of mastodon-db", "503")
		w.want("POST", 1)
	})
}

func TestAFirewallIsMadeOnceWithWhatTheAPIAccepts(t *testing.T) {
	rules := []cloud.Rule{{Protocol: "tcp", Ports: "22", Addresses: []string{"10.0.0.0/8"}}, {Protocol: "udp", Ports: "all", Addresses: []string{"10.0.0.0/8"}}}
	for story, bad := range map[string]trouble{"all well": {at: "none"}, "lost": {at: "POST", after: true}} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				w.troubles = []*trouble{&bad}
				c := w.client()
				f, err := c.CreateFirewall(w.Context(), cloud.Firewall{Name: "refit-fence", Droplets: []int{1}, In: rules})
				w.must(err)
				_, err = c.CreateFirewall(w.Context(), cloud.Firewall{Name: "refit-fence", Droplets: []int{1}, In: rules})
				w.must(err)
				if len(f.In) != 2 || f.In[0].Ports != "22" || f.In[1].Ports != "all" || f.In[1].Addresses[0] != "10.0.0.0/8" || len(f.Out) != 0 || f.Droplets[0] != 1 {
					w.Errorf("%+v", f)
				}
				if sent := w.walls[f.ID]["inbound_rules"].([]any)[1].(obj); sent["ports"] != "0" {
					w.Errorf("sent %v", sent)
				}
				all, err := c.Firewalls(w.Context())
				w.must(err)
				if len(all) != 1 {
					w.Errorf("%+v", all)
				}
				w.want("POST", 1)
			})
		})
	}
}

func TestABalancersTrafficIsAddedUpFromItsRates(t *testing.T) {
	play(t, func(w *world) {
		const values = `"values":[[946684800,"10"],[946684860,"20"],[946684920,"NaN"],[946684980,"30"]]`
		w.metrics["frontend_http_requests_per_second"] = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"lb_id":"` + uuid(1) + `"},` + values + `}]}}`
		w.metrics["frontend_http_responses"] = `{"status":"success","data":{"resultType":"matrix","result":[
			{"metric":{"lb_id":"500","code":"2xx"},"values":[[946684800,"9"],[946684860,"9"]]},
			{"metric":{"lb_id":"500","code":"5xx"},"values":[[946684800,"1"],[946684860,"0.5"]]},
			{"metric":{"lb_id":"500","code":"504"},"values":[[946684800,"0.1"],[946684860,"0"]]}]}}`
		c := w.client()
		from := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		got, err := c.BalancerTraffic(w.Context(), uuid(1), from, from.Add(4*time.Minute))
		w.must(err)
		if got.Requests != 3600 || got.Errors != 96 || got.Samples != 4 || !got.Newest.Equal(from.Add(3*time.Minute)) {
			w.Errorf("%+v", got)
		}
		if !strings.HasSuffix(w.asked[0], "?end=946685040&lb_id="+uuid(1)+"&start=946684800") {
			w.Errorf("asked %q", w.asked)
		}
		_, err = c.BalancerTraffic(w.Context(), uuid(1), from, from)
		w.fails(err, nil)
		_, err = c.BalancerTraffic(w.Context(), "none", from, from.Add(time.Hour))
		w.fails(err, nil)
		w.metrics["frontend_http_responses"] = `{"status":"error","data":{"resultType":"matrix","result":[]}}`
		_, err = c.BalancerTraffic(w.Context(), uuid(1), from, from.Add(time.Hour))
		w.fails(err, nil, "answers of the balancer")
	})
}
