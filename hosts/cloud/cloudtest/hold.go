package cloudtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// Description is the environment's variable for the folder of the official descriptions.
const Description = "REFIT_OPENAPI"

// Hold fails a test for each exchange that is not as the provider's official description
// has it, on either side. The description is digitalocean.json in dir, or, for what that
// lacks, digitalocean-full.json there; what neither has is not held, and Hold logs how
// many those were. With dir "" the test is skipped.
//
// What was dropped or spoiled by a trouble is not held. Of a request that was refused as
// unreadable (400, 415, 422), the answer alone is.
func Hold(t testing.TB, dir string, log []Exchange) {
	t.Helper()
	if dir == "" {
		t.Skipf("not held to the provider's description: %s names no folder with a digitalocean.json", Description)
	}
	all, err := describe(dir)
	if err != nil {
		t.Fatalf("%s: %v", Description, err)
	}
	held, missing := 0, map[string]int{}
	for _, e := range log {
		if e.Dropped || e.Spoiled {
			continue
		}
		known, err := all.hold(e)
		if !known && err == nil {
			missing[e.Method+" "+e.path()]++
			continue
		}
		held++
		if err != nil {
			t.Errorf("%s %s answered %d: %v\n%s\n%s", e.Method, e.URL, e.Status, err, e.Request, e.Response)
		}
	}
	t.Logf("%d exchanges held to the provider's description, of %d", held, len(log))
	for what, n := range missing {
		t.Logf("not held, since no description there has it: %s (%d)", what, n)
	}
}

func (e Exchange) path() string {
	if u, err := url.Parse(e.URL); err == nil {
		return u.Path
	}
	return e.URL
}

// description is one of the files, made stricter: an object has no properties but those
// described.
type description struct {
	doc    *openapi3.T
	router routers.Router
}

type descriptions []description

func describe(dir string) (descriptions, error) {
	var out descriptions
	for _, name := range []string{"digitalocean.json", "digitalocean-full.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && len(out) > 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		doc, err := load(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		doc.Servers = nil // any host will do
		router, err := legacy.NewRouter(doc, openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		stricter(doc)
		out = append(out, description{doc, router})
	}
	return out, nil
}

// hold tells where an exchange is not as described, and whether anything describes it.
func (all descriptions) hold(e Exchange) (known bool, err error) {
	req, err := http.NewRequestWithContext(context.Background(), e.Method, e.URL, bytes.NewReader(e.Request))
	if err != nil {
		return false, err
	}
	req.Header = e.RequestHeader.Clone()
	req.Header.Set("Authorization", "Bearer left-out")
	for _, d := range all {
		if route, params, err := d.router.FindRoute(req); err == nil {
			return true, d.hold(e, req, route, params)
		}
	}
	if e.Status == http.StatusNotFound { // a path that nobody has is refused as an error
		return true, all[0].refusal(e)
	}
	return false, nil
}

func (d description) hold(e Exchange, req *http.Request, route *routers.Route, params map[string]string) error {
	opts := &openapi3filter.Options{
		IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		SchemaValidationOptions: formats(),
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: opts}
	refused := e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusUnsupportedMediaType
	if err := openapi3filter.ValidateRequest(req.Context(), in); err != nil && !refused {
		return fmt.Errorf("the request: %w", err)
	}
	if e.Status == http.StatusNoContent && len(e.Response) > 0 {
		return errors.New("a 204 with a body")
	}
	if e.Status >= http.StatusBadRequest {
		return d.refusal(e)
	}
	described := route.Operation.Responses.Status(e.Status)
	if described == nil {
		return errors.New("a status that the description does not have there")
	}
	for name := range described.Value.Headers {
		if strings.HasPrefix(name, "ratelimit-") && e.Header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: e.Status, Header: e.Header, Options: opts}
	out.Body = io.NopCloser(bytes.NewReader(e.Response))
	return openapi3filter.ValidateResponse(req.Context(), out)
}

// formats are what texts are held to beyond the library's own.
func formats() []openapi3.SchemaValidationOption {
	uri := openapi3.NewCallbackValidator(func(s string) error {
		u, err := url.Parse(s)
		if err == nil && (u.Scheme == "" || u.Host == "") {
			err = errors.New("no absolute address")
		}
		return err
	})
	uuid := openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC4122)
	return []openapi3.SchemaValidationOption{
		openapi3.EnableFormatValidation(), openapi3.WithStringFormatValidator("uri", uri), openapi3.WithStringFormatValidator("uuid", uuid),
		openapi3.WithStringFormatValidator("ipv4", openapi3.NewIPValidator(true)),
	}
}
