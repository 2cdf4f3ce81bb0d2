package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// Search is a small strict stand-in for OpenSearch: version, indexes with mappings
// and settings, bulk writes, counts, a plain search. What it does not know it
// refuses and logs, so that a caller's mistake does not pass.
type Search struct {
	mu      sync.Mutex
	file    string
	indexes map[string]*searchIndex
	// open are searches whose hits are fetched batch by batch; they end with the process.
	open    map[string]*scroll
	scrolls int
}

type searchIndex struct {
	Mappings map[string]any            `json:"mappings"`
	Settings map[string]any            `json:"settings"`
	Docs     map[string]map[string]any `json:"docs"`
	// Closed: its analysers may be changed, and it answers nothing else.
	Closed bool `json:"closed,omitempty"`
}

// NewSearch reads what an earlier run wrote to file.
func NewSearch(file string) (*Search, error) {
	s := &Search{file: file, indexes: map[string]*searchIndex{}, open: map[string]*scroll{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the indexes: %w", err)
	}
	if err := json.Unmarshal(b, &s.indexes); err != nil {
		return nil, fmt.Errorf("cannot read the indexes: %w", err)
	}
	return s, nil
}

func (s *Search) save() error {
	b, err := json.Marshal(s.indexes)
	if err != nil {
		return fmt.Errorf("cannot write the indexes: %w", err)
	}
	if err := os.WriteFile(s.file+".new", b, 0o600); err != nil {
		return fmt.Errorf("cannot write the indexes: %w", err)
	}
	return os.Rename(s.file+".new", s.file)
}

func (i *searchIndex) status() string {
	if i.Closed {
		return "close"
	}
	return "open"
}

// refusal is an answer in OpenSearch's form.
type refusal struct {
	status       int
	kind, reason string
}

func (r *refusal) Error() string { return r.kind + ": " + r.reason }

func refuse(status int, kind, format string, args ...any) error {
	return &refusal{status, kind, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers one request.
func (s *Search) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.answer(r)
	status := http.StatusOK
	if err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			no = &refusal{http.StatusInternalServerError, "internal", err.Error()}
		}
		status = no.status
		log.Printf("refused: %s %s: %s", r.Method, r.URL, no)
		cause := map[string]any{"type": no.kind, "reason": no.reason}
		out = map[string]any{"error": map[string]any{"type": no.kind, "reason": no.reason, "root_cause": []any{cause}}, "status": status}
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("X-elastic-product", "Elasticsearch")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		log.Printf("answering %s: %v", r.URL, err)
	}
}

func (s *Search) answer(r *http.Request) (any, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return map[string]any{
			"name": "khan", "cluster_name": "lab",
			"version": map[string]any{"distribution": "opensearch", "number": "2.19.1", "minimum_wire_compatibility_version": "7.10.0", "minimum_index_compatibility_version": "7.0.0"},
			"tagline": "The OpenSearch Project: https://opensearch.org/",
		}, nil
	case r.URL.Path == "/_cluster/health" && r.Method == http.MethodGet:
		return map[string]any{"cluster_name": "lab", "status": "green", "number_of_nodes": 1}, nil
	case r.URL.Path == "/_cat/indices" && r.Method == http.MethodGet:
		var out []any
		for _, n := range slices.Sorted(maps.Keys(s.indexes)) {
			out = append(out, map[string]any{"index": n, "health": "green", "status": s.indexes[n].status(), "docs.count": fmt.Sprint(len(s.indexes[n].Docs))})
		}
		return out, nil
	case (r.URL.Path == "/_search/scroll" || strings.HasPrefix(r.URL.Path, "/_search/scroll/")) && (r.Method == http.MethodPost || r.Method == http.MethodGet || r.Method == http.MethodDelete):
		return s.scroll(r)
	case r.URL.Path == "/_bulk" && r.Method == http.MethodPost:
		return s.bulk(r.Body, "")
	case strings.HasPrefix(parts[0], "_"):
		return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "no handler for %s %s", r.Method, r.URL.Path)
	case len(parts) == 1:
		return s.index(r, parts[0])
	case len(parts) == 2:
		return s.within(r, parts[0], parts[1])
	case len(parts) == 3 && parts[1] == "_doc":
		return s.document(r, parts[0], parts[2])
	}
	return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "no handler for %s %s", r.Method, r.URL.Path)
}

func (s *Search) find(name string) (*searchIndex, error) {
	if i := s.indexes[name]; i != nil {
		return i, nil
	}
	return nil, refuse(http.StatusNotFound, "index_not_found_exception", "no such index [%s]", name)
}

// index creates, shows, asks for or deletes one index.
func (s *Search) index(r *http.Request, name string) (any, error) {
	switch r.Method {
	case http.MethodPut:
		if s.indexes[name] != nil {
			return nil, refuse(http.StatusBadRequest, "resource_already_exists_exception", "index [%s] already exists", name)
		}
		var body struct {
			Mappings, Settings, Aliases map[string]any
		}
		if err := strict(r.Body, &body); err != nil {
			return nil, err
		}
		s.indexes[name] = &searchIndex{Mappings: body.Mappings, Settings: body.Settings, Docs: map[string]map[string]any{}}
		return map[string]any{"acknowledged": true, "shards_acknowledged": true, "index": name}, s.save()
	case http.MethodDelete:
		names := strings.Split(name, ",")
		for _, n := range names {
			if _, err := s.find(n); err != nil {
				return nil, err
			}
		}
		for _, n := range names {
			delete(s.indexes, n)
		}
		return map[string]any{"acknowledged": true}, s.save()
	case http.MethodGet, http.MethodHead:
		i, err := s.find(name)
		if err != nil {
			return nil, err
		}
		return map[string]any{name: map[string]any{"mappings": i.Mappings, "settings": i.Settings}}, nil
	}
	return nil, refuse(http.StatusMethodNotAllowed, "illegal_argument_exception", "%s is not allowed on an index", r.Method)
}

// within answers what is asked of one index.
func (s *Search) within(r *http.Request, name, what string) (any, error) {
	if what == "_alias" && r.Method == http.MethodGet {
		return s.aliases(name)
	}
	i, err := s.find(name)
	if err != nil {
		return nil, err
	}
	get, post := r.Method == http.MethodGet, r.Method == http.MethodPost
	if i.Closed && slices.Contains([]string{"_count", "_search", "_refresh", "_bulk"}, what) {
		return nil, refuse(http.StatusBadRequest, "index_closed_exception", "closed [%s]", name)
	}
	switch {
	case (what == "_close" || what == "_open") && post:
		i.Closed = what == "_close"
		return map[string]any{"acknowledged": true, "shards_acknowledged": true}, s.save()
	case (what == "_mapping" || what == "_mappings") && get:
		return map[string]any{name: map[string]any{"mappings": i.Mappings}}, nil
	case (what == "_mapping" || what == "_mappings") && (r.Method == http.MethodPut || post):
		var body struct {
			Properties    map[string]any
			Dynamic       any
			DateDetection any `json:"date_detection"`
		}
		if err := strict(r.Body, &body); err != nil {
			return nil, err
		}
		return map[string]any{"acknowledged": true}, s.merge(i, body.Properties)
	case what == "_settings" && get:
		return map[string]any{name: map[string]any{"settings": i.Settings}}, nil
	case what == "_settings" && r.Method == http.MethodPut:
		return map[string]any{"acknowledged": true}, s.set(i, r.Body)
	case what == "_count" && (get || post):
		return map[string]any{"count": len(i.Docs), "_shards": map[string]any{"total": 1, "successful": 1, "failed": 0}}, nil
	case what == "_refresh" && (get || post):
		return map[string]any{"_shards": map[string]any{"total": 1, "successful": 1, "failed": 0}}, nil
	case what == "_search" && (get || post):
		return s.search(r, name, i)
	case what == "_bulk" && post:
		return s.bulk(r.Body, name)
	}
	return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "no handler for %s %s", r.Method, r.URL.Path)
}

// document writes, shows or deletes one document.
func (s *Search) document(r *http.Request, name, id string) (any, error) {
	i, err := s.find(name)
	if err != nil {
		return nil, err
	}
	told := map[string]any{"_index": name, "_id": id}
	_, found := i.Docs[id]
	switch {
	case r.Method == http.MethodPut || r.Method == http.MethodPost:
		var doc map[string]any
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			return nil, refuse(http.StatusBadRequest, "mapper_parsing_exception", "%v", err)
		}
		i.Docs[id] = doc
		told["result"] = "created"
		return told, s.save()
	case !found:
		return nil, refuse(http.StatusNotFound, "resource_not_found_exception", "no document [%s] in [%s]", id, name)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		told["found"], told["_source"] = true, i.Docs[id]
		return told, nil
	case r.Method == http.MethodDelete:
		delete(i.Docs, id)
		told["result"] = "deleted"
		return told, s.save()
	}
	return nil, refuse(http.StatusMethodNotAllowed, "illegal_argument_exception", "%s is not allowed on a document", r.Method)
}

// merge adds fields to a mapping. A field's type cannot change: that is what makes
// a new index necessary.
func (s *Search) merge(i *searchIndex, add map[string]any) error {
	if i.Mappings == nil {
		i.Mappings = map[string]any{}
	}
	have, ok := i.Mappings["properties"].(map[string]any)
	if !ok {
		have = map[string]any{}
		i.Mappings["properties"] = have
	}
	for field, v := range add {
		old, ok := have[field].(map[string]any)
		now, ok2 := v.(map[string]any)
		if ok && ok2 && old["type"] != now["type"] {
			return refuse(http.StatusBadRequest, "illegal_argument_exception",
				"mapper [%s] cannot be changed from type [%v] to [%v]", field, old["type"], now["type"])
		}
	}
	maps.Copy(have, add)
	return s.save()
}

// bulk applies lines of actions and documents.
func (s *Search) bulk(body io.Reader, index string) (any, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 10<<20)
	var items []any
	for lines.Scan() {
		var action map[string]struct {
			Index string `json:"_index"`
			// ID is a string, or a number that stands for one.
			ID identifier `json:"_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil || len(action) != 1 {
			return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "malformed action line")
		}
		for kind, a := range action {
			if a.Index == "" {
				a.Index = index
			}
			i, err := s.find(a.Index)
			if err != nil {
				return nil, err
			}
			switch kind {
			case "delete":
				delete(i.Docs, string(a.ID))
			case "index", "create":
				var doc map[string]any
				if !lines.Scan() || json.Unmarshal(lines.Bytes(), &doc) != nil {
					return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "action without a document")
				}
				i.Docs[string(a.ID)] = doc
			case "update":
				if err := i.update(string(a.ID), lines); err != nil {
					return nil, err
				}
			default:
				return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "unknown action [%s]", kind)
			}
			items = append(items, map[string]any{kind: map[string]any{"_index": a.Index, "_id": a.ID, "status": 200, "result": "updated"}})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "%v", err)
	}
	return map[string]any{"took": 1, "errors": false, "items": items}, s.save()
}

// identifier is a document's name.
type identifier string

func (id *identifier) UnmarshalJSON(b []byte) error {
	var n json.Number
	if json.Unmarshal(b, &n) == nil {
		*id = identifier(n)
		return nil
	}
	return json.Unmarshal(b, (*string)(id))
}

// update changes some fields of a document, as the line after the action says.
func (i *searchIndex) update(id string, lines *bufio.Scanner) error {
	var change struct {
		Doc    map[string]any
		Upsert bool `json:"doc_as_upsert"`
	}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &change) != nil || change.Doc == nil {
		return refuse(http.StatusBadRequest, "illegal_argument_exception", "update without a document")
	}
	switch doc := i.Docs[id]; {
	case doc != nil:
		maps.Copy(doc, change.Doc)
	case change.Upsert:
		i.Docs[id] = change.Doc
	}
	return nil
}

// strict reads a JSON body that may be empty but may hold nothing unknown.
func strict(body io.Reader, to any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil && !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "parse_exception", "%v", err)
	}
	return nil
}
