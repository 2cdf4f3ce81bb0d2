package lab

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func searchServer(t *testing.T, file string) *httptest.Server {
	t.Helper()
	s, err := NewSearch(file)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv
}

// ask does one request and checks its status and a part of its answer.
func ask(t *testing.T, srv *httptest.Server, method, path, body string, code int, part string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code || !strings.Contains(string(b), part) {
		t.Errorf("%s %s: got %d %s, want %d with %s", method, path, resp.StatusCode, b, code, part)
	}
}

func TestAnIndexKeepsItsMappingAndItsDocumentsOverARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data.json")
	s := searchServer(t, file)
	ask(t, s, "GET", "/", "", 200, `"distribution":"opensearch"`)
	ask(t, s, "PUT", "/statuses", `{"mappings":{"properties":{"text":{"type":"text"}}}}`, 200, `"acknowledged":true`)
	ask(t, s, "POST", "/_bulk", `{"index":{"_index":"statuses","_id":"1"}}`+"\n"+`{"text":"a"}`+"\n", 200, `"errors":false`)
	s = searchServer(t, file)
	ask(t, s, "GET", "/statuses/_mapping", "", 200, `"text":{"type":"text"}`)
	ask(t, s, "PUT", "/statuses/_doc/2", `{"text":"b"}`, 200, `"created"`)
	ask(t, s, "GET", "/statuses/_doc/2", "", 200, `"text":"b"`)
	ask(t, s, "GET", "/statuses/_doc/3", "", 404, "no document")
	ask(t, s, "PUT", "/statuses/_doc/2", "{", 400, "mapper_parsing_exception")
	ask(t, s, "GET", "/statuses/_count", "", 200, `"count":2`)
	ask(t, s, "GET", "/statuses/_search", "", 200, `"text":"a"`)
}

func TestAFieldCanBeAddedButItsTypeCannotChange(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "PUT", "/accounts", `{"mappings":{"properties":{"name":{"type":"text"}}}}`, 200, "accounts")
	ask(t, s, "PUT", "/accounts/_mapping", `{"properties":{"age":{"type":"long"}}}`, 200, "true")
	ask(t, s, "PUT", "/accounts/_mapping", `{"properties":{"name":{"type":"keyword"}}}`, 400, "cannot be changed from type [text] to [keyword]")
	ask(t, s, "GET", "/accounts/_mapping", "", 200, `"age":{"type":"long"}`)
}

func TestWhatItDoesNotKnowIsRefused(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "GET", "/nothing/_mapping", "", 404, "index_not_found_exception")
	ask(t, s, "GET", "/_foo", "", 400, "no handler")
	ask(t, s, "PUT", "/a", `{"mapping":{}}`, 400, "unknown field")
	ask(t, s, "PUT", "/a", `{}`, 200, "true")
	ask(t, s, "PUT", "/a", `{}`, 400, "resource_already_exists_exception")
	ask(t, s, "PATCH", "/a", ``, 405, "not allowed")
	ask(t, s, "POST", "/a/_reindex", ``, 400, "no handler")
	ask(t, s, "POST", "/_bulk", "{}\n", 400, "malformed")
	ask(t, s, "DELETE", "/b", ``, 404, "no such index")
}

func TestChewyFindsTheSpecificationThatItLockedAndNoOther(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "PUT", "/chewy_specifications", `{"mappings":{}}`, 200, "true")
	ask(t, s, "POST", "/chewy_specifications/_bulk", `{"index":{"_id":7}}`+"\n"+`{"specification":"N"}`+"\n"+`{"index":{"_id":"accounts"}}`+"\n"+`{"specification":"A"}`+"\n"+`{"index":{"_id":"tags"}}`+"\n"+`{"specification":"T"}`+"\n", 200, `"errors":false`)
	const only = `{"query":{"bool":{"filter":{"ids":{"values":["tags"]}}}},"size":1}`
	ask(t, s, "GET", "/chewy_specifications/_search", only, 200, `"hits":[{"_id":"tags"`)
	ask(t, s, "GET", "/chewy_specifications/_search", strings.ReplaceAll(only, "tags", "statuses"), 200, `"hits":[]`)
	ask(t, s, "GET", "/chewy_specifications/_doc/7", "", 200, `"specification":"N"`)
	ask(t, s, "POST", "/chewy_specifications/_bulk", `{"update":{"_id":"tags"}}`+"\n"+`{"doc":{"specification":"U"}}`+"\n", 200, `"errors":false`)
	ask(t, s, "GET", "/chewy_specifications/_search", only, 200, `"specification":"U"`)
}

func TestAnIndexIsPurgedByTheNameItsAliasesTell(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "GET", "/accounts/_alias", "", 404, "index_not_found_exception")
	ask(t, s, "PUT", "/accounts", `{"settings":{"index":{"refresh_interval":"30s"}}}`, 200, "true")
	ask(t, s, "PUT", "/accounts/_settings", `{"index":{"refresh_interval":-1}}`, 200, "true")
	ask(t, s, "GET", "/accounts/_settings", "", 200, `"refresh_interval":-1`)
	ask(t, s, "PUT", "/accounts/_settings", `{"index":{"analysis":{}}}`, 400, "non dynamic")
	ask(t, s, "POST", "/accounts/_close", "", 200, "true")
	ask(t, s, "POST", "/accounts/_search", "", 400, "index_closed_exception")
	ask(t, s, "GET", "/_cat/indices", "", 200, `"status":"close"`)
	ask(t, s, "PUT", "/accounts/_mappings", `{"date_detection":false,"properties":{"name":{"type":"text"}}}`, 200, "true")
	ask(t, s, "PUT", "/accounts/_settings", `{"settings":{"analysis":{"analyzer":{"joined":{}}}}}`, 200, "true")
	ask(t, s, "PUT", "/accounts/_settings", `{"settings":{"index":{"number_of_shards":2}}}`, 400, "non dynamic")
	ask(t, s, "POST", "/accounts/_open", "", 200, "true")
	ask(t, s, "GET", "/accounts/_settings", "", 200, `"joined":{}`)
	ask(t, s, "GET", "/accounts/_alias", "", 200, `{"accounts":{"aliases":{}}}`)
	ask(t, s, "DELETE", "/accounts", "", 200, "true")
	ask(t, s, "HEAD", "/accounts", "", 404, "")
}

func TestAnIndexIsReadBatchByBatchToItsEnd(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "PUT", "/a", `{}`, 200, "true")
	for _, id := range []string{"1", "2", "3"} {
		ask(t, s, "PUT", "/a/_doc/"+id, `{"x":`+id+`}`, 200, "created")
	}
	ask(t, s, "POST", "/a/_search?scroll=1m&size=2", `{"query":{"match_all":{}}}`, 200, `"_id":"2"`)
	ask(t, s, "GET", "/_search/scroll/scroll-1?scroll=1m", "", 200, `"_id":"3"`)
	ask(t, s, "POST", "/_search/scroll", `{"scroll":"1m","scroll_id":"scroll-1"}`, 200, `"hits":[]`)
	ask(t, s, "DELETE", "/_search/scroll", `{"scroll_id":["scroll-1"]}`, 200, `"num_freed":1`)
	ask(t, s, "POST", "/_search/scroll", `{"scroll_id":"scroll-1"}`, 404, "search_context_missing_exception")
}

func TestAFilterKeepsWhatItSaysAndARankIsRefused(t *testing.T) {
	s := searchServer(t, filepath.Join(t.TempDir(), "data.json"))
	ask(t, s, "PUT", "/a", `{}`, 200, "true")
	ask(t, s, "PUT", "/a/_doc/1", `{"x":1}`, 200, "created")
	ask(t, s, "PUT", "/a/_doc/2", `{"x":2,"y":"z"}`, 200, "created")
	for query, want := range map[string]string{
		`{"term":{"x":2}}`:                                           `"value":1`,
		`{"term":{"x":{"value":3}}}`:                                 `"value":0`,
		`{"terms":{"x":[1,2,3]}}`:                                    `"value":2`,
		`{"exists":{"field":"y"}}`:                                   `"value":1`,
		`{"bool":{"must_not":{"term":{"x":2}}}}`:                     `"value":1`,
		`{"bool":{"must":[{"term":{"x":2}},{"term":{"y":"a"}}]}}`:    `"value":0`,
		`{"bool":{"should":[{"term":{"x":1}},{"term":{"y":"z"}}]}}`:  `"value":2`,
		`{"bool":{"should":[{"term":{"x":7}},{"term":{"y":"zz"}}]}}`: `"value":0`,
	} {
		ask(t, s, "POST", "/a/_search", `{"query":`+query+`}`, 200, want)
	}
	for query, want := range map[string]string{
		`{"match":{"y":"z"}}`:                     "unknown query [match]",
		`{"bool":{"boost":1}}`:                    "malformed",
		`{"term":{"x":1},"exists":{"field":"y"}}`: "a query has one name",
		`{"ids":7}`:                               "malformed",
	} {
		ask(t, s, "POST", "/a/_search", `{"query":`+query+`}`, 400, want)
	}
	ask(t, s, "POST", "/a/_search", `{"aggs":{}}`, 400, "unknown field")
	ask(t, s, "POST", "/a/_search?size=x", ``, 400, "size [x]")
	ask(t, s, "POST", "/a/_search", `{"size":10001}`, 400, "too large")
}
