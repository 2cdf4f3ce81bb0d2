// Package githubtest is a simulated GitHub for tests and the lab: the part of its
// REST API that refit speaks, with state and with strictness. A request that the
// real one would refuse, or that a well-behaved client does not send (a path that
// the description does not have, no User-Agent, one more request while a limit
// lasts), is a fault that the test is told of.
//
// Answers are held to GitHub's official description by this package's own tests.
// Where the description is silent, this is what was seen of the real one: an ETag
// is made of the body and of who asks, an answer 304 carries no Link header and
// costs an authorised caller nothing, and releases are listed by the date of the
// tagged commit.
package githubtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options of a simulated GitHub.
type Options struct {
	// Fail is told of each fault, as it happens, by the goroutine that serves the
	// request; testing.T's Error is made for it. nil only records them (Faults).
	Fail func(args ...any)
	// Now is GitHub's clock; nil is time.Now.
	Now func() time.Time
	// Tokens are the tokens that are valid. Any other is answered 401.
	Tokens map[string]Token
	// Anonymous is how many requests an hour callers without a token have, all
	// together; 0 is 60.
	Anonymous int
	// LimitStatus answers who has used up a primary limit: 403, or 429. 0 is 403.
	LimitStatus int
}

// Token is what a token is good for.
type Token struct {
	// Push lets it see drafts and change releases.
	Push bool
	// Pulls lets it open and change pull requests; Push alone does not.
	Pulls bool
	// Limit is its requests an hour; 0 is 5000.
	Limit int
}

// Server is the simulated GitHub, an http.Handler. Its methods may be called
// while it serves.
type Server struct {
	opts Options
	mux  *http.ServeMux

	mu       sync.Mutex
	repos    map[string]*repo // by lower-case owner/name
	moved    map[string]int64 // old names, and the repository's number
	buckets  map[string]*bucket
	block    *Secondary
	blocked  time.Time // until when block holds
	blockHit bool      // whether a caller was told of it
	troubles []*Trouble
	hooks    []*hook
	faults   []string
	lastID   int64
}

// maxFaults bounds what is kept for Faults.
const maxFaults = 100

// New makes a simulated GitHub without repositories.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{
		opts: opts, mux: http.NewServeMux(),
		repos: map[string]*repo{}, moved: map[string]int64{}, buckets: map[string]*bucket{},
	}
	for pattern, handle := range map[string]func(*exchange){
		"GET /rate_limit":                                      s.getRateLimit,
		"GET /repos/{owner}/{repo}/releases":                   s.listReleases,
		"POST /repos/{owner}/{repo}/releases":                  s.createRelease,
		"GET /repos/{owner}/{repo}/releases/latest":            s.latestRelease,
		"GET /repos/{owner}/{repo}/releases/tags/{tag...}":     s.releaseByTag,
		"GET /repos/{owner}/{repo}/releases/{id}":              s.getRelease,
		"PATCH /repos/{owner}/{repo}/releases/{id}":            s.editRelease,
		"DELETE /repos/{owner}/{repo}/releases/{id}":           s.deleteRelease,
		"GET /repos/{owner}/{repo}/git/ref/tags/{ref...}":      s.getRef,
		"GET /repos/{owner}/{repo}/git/tags/{sha}":             s.getTag,
		"GET /repos/{owner}/{repo}/git/commits/{sha}":          s.getCommit,
		"GET /repos/{owner}/{repo}/deployments":                s.listDeployments,
		"POST /repos/{owner}/{repo}/deployments":               s.createDeployment,
		"GET /repos/{owner}/{repo}/deployments/{id}/statuses":  s.listStatuses,
		"POST /repos/{owner}/{repo}/deployments/{id}/statuses": s.createStatus,
		"GET /repos/{owner}/{repo}/pulls":                      s.listPulls,
		"POST /repos/{owner}/{repo}/pulls":                     s.createPull,
		"GET /repos/{owner}/{repo}/pulls/{number}":             s.getPull,
		"PATCH /repos/{owner}/{repo}/pulls/{number}":           s.editPull,
		"/": s.unknown,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if x, ok := w.(*exchange); ok { // nothing else comes here: see answer
				x.r = r
				handle(x)
			}
		})
	}
	return s
}

// exchange is one request and the answer that is being written. It is the
// http.ResponseWriter of the routes.
type exchange struct {
	r      *http.Request
	base   string // scheme and host, as the caller sees them
	who    string // the token, "" without one
	token  Token
	status int
	header http.Header
	body   []byte
	etags  map[string]string // of this body by caller, where they are kept

	wait, stall time.Duration
	cut         Cut
}

func (x *exchange) Header() http.Header         { return x.header }
func (x *exchange) WriteHeader(code int)        { x.status = code }
func (x *exchange) Write(b []byte) (int, error) { x.body = append(x.body, b...); return len(b), nil }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{r: r, base: "http://" + r.Host, status: http.StatusOK, header: http.Header{}}
	if r.TLS != nil {
		x.base = "https://" + r.Host
	}
	for _, after := range s.answer(x) {
		after()
	}
	s.send(w, x)
}

// answer decides what to say and returns what Then wants done before it is said.
func (s *Server) answer(x *exchange) []func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.header.Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	x.header.Set("Server", "github.com")
	x.header.Set("X-GitHub-Api-Version-Selected", apiVersion)
	if !s.admit(x) {
		return nil
	}
	if t := s.trouble(x.r); t != nil {
		x.wait, x.stall, x.cut = t.Wait, t.Stall, t.Cut
		if t.Status != 0 {
			x.status = t.Status
			for k, v := range t.Header {
				x.header[http.CanonicalHeaderKey(k)] = v
			}
			x.body = []byte(t.Body)
			return nil
		}
	}
	s.mux.ServeHTTP(x, x.r)
	s.condition(x)
	s.charge(x)
	return s.due(x.r)
}

// send writes the answer, or as much of it as the trouble lets through.
func (s *Server) send(w http.ResponseWriter, x *exchange) {
	if !pause(x.r, x.wait) {
		return
	}
	if x.cut == CutBefore {
		s.hangUp(w)
		return
	}
	for k, v := range x.header {
		w.Header()[k] = v
	}
	body := x.body
	if x.status != http.StatusNotModified && x.status != http.StatusNoContent {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	}
	w.WriteHeader(x.status)
	half := len(body)
	if x.cut == CutWithin || x.stall > 0 {
		half /= 2
	}
	if _, err := w.Write(body[:half]); err != nil || x.cut == CutWithin {
		return // less than Content-Length says: the connection is closed
	}
	if x.stall > 0 {
		if err := http.NewResponseController(w).Flush(); err != nil || !pause(x.r, x.stall) {
			return
		}
		if _, err := w.Write(body[half:]); err != nil {
			return // the caller has gone
		}
	}
}

// pause waits, and is false if the caller has gone meanwhile.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *Server) hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault("cannot cut this connection: %v", err)
	}
}

// fault notes what a test must hear of. The lock is held.
func (s *Server) fault(format string, args ...any) {
	text := fmt.Sprintf("simulated GitHub: "+format, args...)
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, text)
	}
	if s.opts.Fail != nil {
		s.opts.Fail(text)
	}
}

// Faults are the first hundred faults.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// hook is what is to be done after one answer was decided.
type hook struct {
	match string
	do    func()
}

// Then runs do once, after the next answer to a request whose path and query hold
// match was decided and before it is sent: what do changes comes too late for that
// answer and in time for the next.
func (s *Server) Then(match string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, &hook{match, do})
}

func (s *Server) due(r *http.Request) []func() {
	for i, h := range s.hooks {
		if strings.Contains(r.URL.RequestURI(), h.match) {
			s.hooks = slices.Delete(s.hooks, i, i+1)
			return []func(){h.do}
		}
	}
	return nil
}
