package mastodon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// searchServerAnswering starts a search server that asks for a password.
func searchServerAnswering(t *testing.T, root, indexes string) Layout {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if user, pass, _ := r.BasicAuth(); user != "elastic" || pass != "canary-es" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, body)
		}
	}
	mux.HandleFunc("/{$}", answer(root))
	mux.HandleFunc("/_cat/indices", answer(indexes))
	host, port := serving(t, mux)
	return layoutWith(t, fmt.Sprintf("ES_ENABLED=true\nES_HOST=http://%s/\nES_PORT=%d\nES_USER=elastic\nES_PASS=canary-es\nES_PREFIX=masto_\n", host, port))
}

func TestTheSearchServerAndItsOwnIndexesAreTold(t *testing.T) {
	l := searchServerAnswering(t, `{"version":{"number":"2.19.1","distribution":"opensearch"}}`,
		`[{"index":"masto_tags","health":"green","docs.count":"7"},{"index":"masto_accounts","health":"red","status":"close","docs.count":null},{"index":"other"},{"index":".plugins"}]`)
	got, err := readSearch(context.Background(), SearchIn{Layout: l}, nil)
	want := Search{Enabled: true, Distribution: "opensearch", Version: "2.19.1", Indexes: []SearchIndex{{"masto_accounts", "red", 0, true}, {"masto_tags", "green", 7, false}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestWithoutSearchNothingIsAsked(t *testing.T) {
	got, err := readSearch(context.Background(), SearchIn{Layout: layoutWith(t, "ES_ENABLED=false\nES_HOST=nowhere.invalid\n")}, nil)
	if err != nil || got.Enabled {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestASearchServerThatRefusesIsAnErrorWithoutThePassword(t *testing.T) {
	l := searchServerAnswering(t, `{}`, `[]`)
	env, err := readEnviron(l)
	if err != nil {
		t.Fatal(err)
	}
	env["ES_PASS"] = "canary-other"
	_, err = searchServer(context.Background(), env)
	if err == nil || !strings.Contains(err.Error(), "answers 401") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}
