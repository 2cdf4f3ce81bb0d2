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
