package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// maxHits bounds what one answer holds, as the real one's index.max_result_window.
const maxHits = 10000

// searchBody is what a search may ask: filters and pages, nothing that ranks.
type searchBody struct {
	Query  map[string]any
	From   int
	Size   *int
	Source any `json:"_source"`
	// Whether every hit is counted makes no difference here: all are.
	TrackTotalHits any `json:"track_total_hits"`
}

// scroll is what is left of a search whose hits are fetched batch by batch.
type scroll struct {
	name string
	ids  []string
	size int
	all  int
}

// search answers one search; with ?scroll= the batches after the first are fetched
// by its _scroll_id.
func (s *Search) search(r *http.Request, name string, i *searchIndex) (any, error) {
	var body searchBody
	if err := strict(r.Body, &body); err != nil {
		return nil, err
	}
	size := 10
	if v := r.URL.Query().Get("size"); v != "" {
		if _, err := fmt.Sscan(v, &size); err != nil {
			return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "size [%s]", v)
		}
	}
	if body.Size != nil {
		size = *body.Size
	}
	if size < 0 || size > maxHits {
		return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "Result window is too large: [%d]", size)
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(i.Docs)) {
		ok, err := matches(body.Query, id, i.Docs[id])
		if err != nil {
			return nil, err
		}
		if ok {
			ids = append(ids, id)
		}
	}
	all := len(ids)
	ids = ids[min(body.From, all):]
	out := i.hits(name, ids[:min(size, len(ids))], all)
	if r.URL.Query().Has("scroll") {
		s.scrolls++
		id := fmt.Sprintf("scroll-%d", s.scrolls)
		s.open[id] = &scroll{name, ids[min(size, len(ids)):], size, all}
		out["_scroll_id"] = id
	}
	return out, nil
}

// scroll gives the next batch of an earlier search, or forgets it.
func (s *Search) scroll(r *http.Request) (any, error) {
	var body struct {
		Scroll string
		ID     json.RawMessage `json:"scroll_id"`
	}
	if err := strict(r.Body, &body); err != nil {
		return nil, err
	}
	var ids []string
	if _, in, ok := strings.Cut(r.URL.Path, "/scroll/"); ok {
		ids = strings.Split(in, ",")
	} else if json.Unmarshal(body.ID, &ids) != nil {
		ids = make([]string, 1)
		if err := json.Unmarshal(body.ID, &ids[0]); err != nil {
			return nil, refuse(http.StatusBadRequest, "illegal_argument_exception", "scrollId is missing")
		}
	}
	if r.Method == http.MethodDelete {
		freed := 0
		for _, id := range ids {
			if s.open[id] != nil {
				freed++
			}
			delete(s.open, id)
		}
		return map[string]any{"succeeded": true, "num_freed": freed}, nil
	}
	at := s.open[ids[0]]
	if at == nil {
		return nil, refuse(http.StatusNotFound, "search_context_missing_exception", "No search context found for id [%s]", ids[0])
	}
	i, err := s.find(at.name)
	if err != nil {
		return nil, err
	}
	n := min(at.size, len(at.ids))
	out := i.hits(at.name, at.ids[:n], at.all)
	at.ids = at.ids[n:]
	out["_scroll_id"] = ids[0]
	return out, nil
}

func (i *searchIndex) hits(name string, ids []string, all int) map[string]any {
	hits := []any{}
	for _, id := range ids {
		// A document deleted since the search began is no hit any more.
		if doc := i.Docs[id]; doc != nil {
			hits = append(hits, map[string]any{"_index": name, "_id": id, "_score": 1, "_source": doc})
		}
	}
	return map[string]any{
		"took": 1, "timed_out": false, "_shards": map[string]any{"total": 1, "successful": 1, "failed": 0},
		"hits": map[string]any{"total": map[string]any{"value": all, "relation": "eq"}, "max_score": 1, "hits": hits},
	}
}

// matches tells whether a query keeps a document. It knows queries that filter;
// those that rank are refused, since an answer in the wrong order would pass for one.
func matches(query map[string]any, id string, doc map[string]any) (bool, error) {
	if len(query) == 0 {
		return true, nil
	}
	if len(query) != 1 {
		return false, refuse(http.StatusBadRequest, "parsing_exception", "a query has one name, this one has %v", slices.Sorted(maps.Keys(query)))
	}
	for kind, v := range query {
		body, ok := v.(map[string]any)
		if !ok {
			return false, refuse(http.StatusBadRequest, "parsing_exception", "[%s] query malformed", kind)
		}
		switch kind {
		case "match_all":
			return true, nil
		case "ids":
			return among(body["values"], id), nil
		case "term", "terms":
			for field, want := range body {
				if m, ok := want.(map[string]any); ok {
					want = m["value"]
				}
				return among(want, doc[field]), nil
			}
		case "exists":
			field, _ := body["field"].(string)
			return doc[field] != nil, nil
		case "bool":
			return matchesBool(body, id, doc)
		}
		return false, refuse(http.StatusBadRequest, "parsing_exception", "unknown query [%s]", kind)
	}
	return true, nil
}

func matchesBool(body map[string]any, id string, doc map[string]any) (bool, error) {
	should, met := 0, 0
	for clause, v := range body {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, q := range list {
			query, ok := q.(map[string]any)
			if !ok {
				return false, refuse(http.StatusBadRequest, "parsing_exception", "[bool] query malformed at [%s]", clause)
			}
			is, err := matches(query, id, doc)
			if err != nil {
				return false, err
			}
			switch clause {
			case "must", "filter":
				if !is {
					return false, nil
				}
			case "must_not":
				if is {
					return false, nil
				}
			case "should":
				should++
				if is {
					met++
				}
			default:
				return false, refuse(http.StatusBadRequest, "parsing_exception", "[bool] query does not support [%s]", clause)
			}
		}
	}
	return should == 0 || met > 0, nil
}

// among tells whether a value is a wanted one or among the wanted ones. Numbers and
// strings compare by what they show, as identifiers do.
func among(want, have any) bool {
	list, ok := want.([]any)
	if !ok {
		list = []any{want}
	}
	return slices.ContainsFunc(list, func(w any) bool { return w != nil && have != nil && fmt.Sprint(w) == fmt.Sprint(have) })
}

// aliases answers which aliases indexes have: none here has any, but who asks by
// name is told of the index itself.
func (s *Search) aliases(names string) (any, error) {
	out := map[string]any{}
	for _, name := range strings.Split(names, ",") {
		if _, err := s.find(name); err != nil {
			return nil, err
		}
		out[name] = map[string]any{"aliases": map[string]any{}}
	}
	return out, nil
}

// set changes an index's settings. Those under "index" may stand bare too, and an
// index that is open takes no analysers.
func (s *Search) set(i *searchIndex, body io.Reader) error {
	var in map[string]any
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return refuse(http.StatusBadRequest, "parse_exception", "%v", err)
	}
	for _, under := range []string{"settings", "index"} {
		if inner, ok := in[under].(map[string]any); ok && len(in) == 1 {
			in = inner
		}
	}
	for name := range in {
		if name == "number_of_shards" || name == "analysis" && !i.Closed {
			return refuse(http.StatusBadRequest, "illegal_argument_exception", "Can't update non dynamic settings [[index.%s]] for open indices", name)
		}
	}
	if i.Settings == nil {
		i.Settings = map[string]any{}
	}
	if analysis, ok := in["analysis"]; ok {
		i.Settings["analysis"] = analysis
		delete(in, "analysis")
	}
	have, ok := i.Settings["index"].(map[string]any)
	if !ok {
		have = map[string]any{}
		i.Settings["index"] = have
	}
	maps.Copy(have, in)
	return s.save()
}
