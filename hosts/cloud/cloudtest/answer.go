package cloudtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// object is JSON's.
type object = map[string]any

// fail writes an error as the account does.
func (x *exchange) fail(status int, id, message string) {
	x.json(status, object{"id": id, "message": message, "request_id": x.header.Get("X-Request-Id")})
}

func (x *exchange) notFound() {
	x.fail(http.StatusNotFound, "not_found", "The resource you were accessing could not be found.")
}

// unfit refuses what cannot be done, or cannot be read; it is false.
func (x *exchange) unfit(why string) bool {
	x.fail(http.StatusUnprocessableEntity, "unprocessable_entity", why)
	return false
}

// json writes v.
func (x *exchange) json(status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"id":"server_error","message":"the simulation cannot write its answer"}`)
	}
	x.status, x.body = status, b
	x.header.Set("Content-Type", "application/json; charset=utf-8")
}

// done answers what has no content.
func (x *exchange) done() { x.status, x.body = http.StatusNoContent, nil }

// page writes the part of a list that the query asks for: 20 of them, or per_page.
func page[T any](x *exchange, name string, all []T, show func(T) object) {
	at, size := 1, 20
	if n, err := strconv.Atoi(x.one("page")); err == nil {
		at = n
	}
	if n, err := strconv.Atoi(x.one("per_page")); err == nil {
		size = n
	}
	from := min((at-1)*size, len(all))
	items := []object{}
	for _, v := range all[from:min(from+size, len(all))] {
		items = append(items, show(v))
	}
	last := max((len(all)+size-1)/size, 1)
	pages := object{}
	if at > 1 {
		pages["first"], pages["prev"] = x.link(1), x.link(min(at-1, last))
	}
	if at < last {
		pages["next"], pages["last"] = x.link(at+1), x.link(last)
	}
	links := object{}
	if len(pages) > 0 {
		links["pages"] = pages
	}
	x.json(http.StatusOK, object{name: items, "links": links, "meta": object{"total": len(all)}})
}

// link is the address of another page of the same list.
func (x *exchange) link(page int) string {
	q, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		q = url.Values{}
	}
	q.Set("page", strconv.Itoa(page))
	return x.base + x.r.URL.Path + "?" + q.Encode()
}

// number is the path's number of that name; on false there is no such thing.
func (x *exchange) number(name string) (int, bool) {
	n, err := strconv.Atoi(x.r.PathValue(name))
	if err != nil || n < 1 {
		x.notFound()
		return 0, false
	}
	return n, true
}

func date(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

// list is a JSON list also where there is nothing.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return slices.Clone(all)
}

func each[T, U any](all []T, f func(T) U) []U {
	out := make([]U, 0, len(all))
	for _, v := range all {
		out = append(out, f(v))
	}
	return out
}

// only are those of a list that fit.
func only[T any](all []T, fits func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !fits(v) })
}
