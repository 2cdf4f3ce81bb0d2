package githubtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
)

// say writes an error as GitHub does.
func (x *exchange) say(status int, message, docs string) {
	x.json(status, map[string]any{"message": message, "documentation_url": docs})
}

func (x *exchange) notFound() {
	x.say(http.StatusNotFound, "Not Found", "https://docs.github.com/rest")
}

// json writes v.
func (x *exchange) json(status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"message":"the simulation cannot write its answer"}`)
	}
	x.raw(status, b)
}

func (x *exchange) raw(status int, body []byte) {
	x.status = status
	x.header.Set("Content-Type", "application/json; charset=utf-8")
	x.body = slices.Clip(body) // it may be a list that is kept
}

// condition gives an answer its ETag, and makes it a 304 where the caller has it.
// The ETag is made of the body alone and of who asks; the Link header is not part
// of it, and is not in a 304.
func (s *Server) condition(x *exchange) {
	if x.r.Method != http.MethodGet || x.status != http.StatusOK {
		return
	}
	etag := x.etags[x.who]
	if etag == "" {
		sum := sha256.Sum256(append([]byte(x.who+"\n"), x.body...))
		etag = `W/"` + hex.EncodeToString(sum[:]) + `"`
		if x.etags != nil {
			x.etags[x.who] = etag
		}
	}
	x.header.Set("ETag", etag)
	x.header.Set("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, Accept, X-Requested-With")
	if x.r.Header.Get("If-None-Match") == etag {
		x.status = http.StatusNotModified
		x.body = nil
		x.header.Del("Link")
		x.header.Del("Content-Type")
	}
}
