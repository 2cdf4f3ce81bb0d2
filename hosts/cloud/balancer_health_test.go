package cloud_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

const anID = "4de7ac8b-495b-4884-9a69-1050c6793cd6"

// answering is a client of an account that answers one path.
func answering(t *testing.T, path string, status int, body string, seen func(*http.Request)) *cloud.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path || r.Method != "GET" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		if seen != nil {
			seen(r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	c, err := cloud.New(cloud.Options{Token: "secret", API: s.URL, Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheBalancersChecksAreReadFromItsMetrics(t *testing.T) {
	series := func(labels, values string) string {
		return fmt.Sprintf(`{"metric":{"lb_id":%q,%s},"values":[%s]}`, anID, labels, values)
	}
	for name, test := range map[string]struct {
		series []string
		want   map[int]bool
	}{
		"both":                       {[]string{series(`"droplet_id":"11"`, `[100,"1"]`), series(`"droplet_id":"12"`, `[100,"0"]`)}, map[int]bool{11: true, 12: false}},
		"the last of them counts":    {[]string{series(`"x":"11"`, `[100,"1"],[200,"0"]`), series(`"x":"12"`, `[200,"1"],[100,"0"]`)}, map[int]bool{11: false, 12: true}},
		"one series for each rule":   {[]string{series(`"x":"11","rule":"a"`, `[9,"1"]`), series(`"x":"11","rule":"b"`, `[9,"0"]`), series(`"x":"11","rule":"c"`, `[9,"1"]`)}, map[int]bool{11: false}},
		"a droplet of another's":     {[]string{series(`"x":"99"`, `[9,"0"]`)}, map[int]bool{}},
		"a value that says nothing":  {[]string{series(`"x":"11"`, `[9,"0.5"]`), series(`"x":"12"`, `[9,"NaN"]`)}, map[int]bool{}},
		"a series without any value": {[]string{series(`"x":"11"`, ``)}, map[int]bool{}},
		"no series":                  {nil, map[int]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"status":"success","data":{"resultType":"matrix","result":[` + strings.Join(test.series, ",") + `]}}`
			c := answering(t, "/v2/monitoring/metrics/load_balancer/droplets_health_checks", 200, body, func(r *http.Request) {
				from, err1 := strconv.ParseInt(r.URL.Query().Get("start"), 10, 64)
				to, err2 := strconv.ParseInt(r.URL.Query().Get("end"), 10, 64)
				if err1 != nil || err2 != nil || to-from != 600 || r.URL.Query().Get("lb_id") != anID {
					t.Errorf("asked %s", r.URL)
				}
			})
			got, err := c.BalancerHealth(t.Context(), cloud.Balancer{ID: anID, Name: "pike", Droplets: []int{11, 12}})
			said := map[int]bool{}
			for id, each := range got {
				said[id] = each.Well
			}
			if err != nil || !maps.Equal(said, test.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestEachCheckHasTheTimeOfItsOwnSample(t *testing.T) {
	body := fmt.Sprintf(`{"status":"success","data":{"resultType":"matrix","result":[
		{"metric":{"lb_id":%[1]q,"x":"11","rule":"a"},"values":[[100,"1"],[200,"1"]]},{"metric":{"lb_id":%[1]q,"x":"11","rule":"b"},"values":[[190,"0"]]},
		{"metric":{"lb_id":%[1]q,"x":"12","rule":"a"},"values":[[300,"1"]]},{"metric":{"lb_id":%[1]q,"x":"12","rule":"b"},"values":[[200,"1"]]}]}}`, anID)
	got, err := answering(t, "/v2/monitoring/metrics/load_balancer/droplets_health_checks", 200, body, nil).
		BalancerHealth(t.Context(), cloud.Balancer{ID: anID, Droplets: []int{11, 12}})
	if err != nil || got[11].Well || got[11].At.Unix() != 190 || !got[12].Well || got[12].At.Unix() != 300 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestChecksWithoutTheScopeSaySo(t *testing.T) {
	c := answering(t, "/v2/monitoring/metrics/load_balancer/droplets_health_checks", 403, `{"id":"forbidden","message":"no"}`, nil)
	_, err := c.BalancerHealth(t.Context(), cloud.Balancer{ID: anID})
	if s, ok := errors.AsType[*cloud.ScopeError](err); !ok || s.Scope != "monitoring:read" {
		t.Errorf("%v", err)
	}
}

func TestAllBalancersAndDatabasesAreListed(t *testing.T) {
	c := answering(t, "/v2/load_balancers", 200, `{"load_balancers":[{"id":"`+anID+`","name":"pike","status":"active","droplet_ids":[11]}],"links":{},"meta":{"total":1}}`, nil)
	balancers, err := c.Balancers(t.Context())
	if err != nil || len(balancers) != 1 || balancers[0].Name != "pike" || !slices.Equal(balancers[0].Droplets, []int{11}) {
		t.Errorf("%+v, %v", balancers, err)
	}
	c = answering(t, "/v2/databases", 200, `{"databases":[{"id":"`+anID+`","name":"majel","engine":"pg","status":"online","private_connection":{"host":"h","port":25060}}]}`, nil)
	databases, err := c.Databases(t.Context())
	if err != nil || len(databases) != 1 || databases[0].Name != "majel" || databases[0].Port != 25060 {
		t.Errorf("%+v, %v", databases, err)
	}
	// An answer without the list is no empty account.
	if got, err := answering(t, "/v2/load_balancers", 200, `{}`, nil).Balancers(t.Context()); err == nil {
		t.Errorf("believed: %v", got)
	}
	if got, err := answering(t, "/v2/databases", 200, `{}`, nil).Databases(t.Context()); err == nil {
		t.Errorf("believed: %v", got)
	}
}
