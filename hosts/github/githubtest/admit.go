package githubtest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// apiVersion is the version of the API that is simulated.
const apiVersion = "2022-11-28"

var (
	accepted = []string{"application/vnd.github+json", "application/vnd.github.v3+json", "application/json"}
	etagForm = regexp.MustCompile(`^(W/)?"[^"]+"$`)
)

// admit asks of a request what GitHub asks before it looks at what is wanted. On
// false the refusal is written.
func (s *Server) admit(x *exchange) bool {
	if status, why := s.inspect(x.r); why != "" {
		s.fault("%s %s: %s", x.r.Method, x.r.URL.RequestURI(), why)
		x.say(status, why, "https://docs.github.com/rest")
		return false
	}
	if given := x.r.Header.Get("Authorization"); given != "" {
		kind, token, _ := strings.Cut(given, " ")
		t, known := s.opts.Tokens[token]
		if !known || !slices.Contains([]string{"bearer", "token"}, strings.ToLower(kind)) {
			x.say(http.StatusUnauthorized, "Bad credentials", "https://docs.github.com/rest")
			return false
		}
		x.who, x.token = token, t
	}
	return s.withinLimits(x)
}

// inspect finds what no client of ours may send.
func (s *Server) inspect(r *http.Request) (status int, why string) {
	agent := r.Header.Get("User-Agent")
	version := r.Header.Get("X-GitHub-Api-Version")
	none := r.Header.Get("If-None-Match")
	switch {
	case r.URL.Path != "/rate_limit" && !strings.HasPrefix(r.URL.Path, "/repos/"):
		return http.StatusNotFound, "no such path here" + redirected(r.URL.Path)
	case agent == "" || strings.HasPrefix(agent, "Go-http-client/"):
		return http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
	case len(r.Header.Values("Accept")) != 1 || !slices.Contains(accepted, r.Header.Get("Accept")):
		return http.StatusUnsupportedMediaType, fmt.Sprintf("unsupported Accept header %q", r.Header.Values("Accept"))
	case version != apiVersion:
		return http.StatusBadRequest, fmt.Sprintf("unsupported X-GitHub-Api-Version %q", version)
	case none != "" && !etagForm.MatchString(none):
		return http.StatusBadRequest, fmt.Sprintf("If-None-Match %q is no ETag", none)
	case len(r.Header.Values("Authorization")) > 1:
		return http.StatusBadRequest, "more than one Authorization header"
	case (r.Method == http.MethodGet || r.Method == http.MethodDelete) && r.ContentLength != 0:
		return http.StatusBadRequest, "a body that nobody reads"
	case (r.Method == http.MethodPost || r.Method == http.MethodPatch) && r.Header.Get("Content-Type") != "application/json":
		return http.StatusUnsupportedMediaType, "the body is not said to be application/json"
	}
	return http.StatusUnprocessableEntity, badQuery(r)
}

func redirected(path string) string {
	if strings.HasPrefix(path, "/repositories/") {
		return ": a redirect was followed, or a link of GitHub's, which names repositories by number"
	}
	return ""
}

// badQuery tells what is wrong with the query, "" if nothing.
func badQuery(r *http.Request) string {
	deployments := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/deployments")
	list := deployments || r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "/releases") || strings.HasSuffix(r.URL.Path, "/statuses"))
	pulls := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pulls")
	list = list || pulls
	for k, v := range r.URL.Query() {
		if pulls && len(v) == 1 && pullQuery(k, v[0]) {
			continue
		}
		if deployments && len(v) == 1 && slices.Contains([]string{"sha", "ref", "task", "environment"}, k) {
			continue
		}
		n, err := strconv.Atoi(v[0])
		switch {
		case !list || (k != "page" && k != "per_page"):
			return fmt.Sprintf("unknown query parameter %q", k)
		case len(v) != 1 || err != nil || n < 1:
			return fmt.Sprintf("%s=%s is no page", k, strings.Join(v, ","))
		case k == "per_page" && n > 100:
			return "per_page is more than 100, which GitHub cuts down silently"
		}
	}
	return ""
}

// unknown is the route of what the description does not have.
func (s *Server) unknown(x *exchange) {
	s.fault("%s %s: no such path or method in the description", x.r.Method, x.r.URL.RequestURI())
	x.say(http.StatusNotFound, "Not Found", "https://docs.github.com/rest")
}
