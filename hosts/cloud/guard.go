package cloud

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxBody bounds what is read of one answer, in bytes: a page of 200 droplets is below 1 MiB.
const maxBody = 32 << 20

var errHuge = fmt.Errorf("the answer is larger than %d MiB", maxBody>>20)

// guard gives the token to requests for the API's host, and to no other, and bounds what
// comes back.
type guard struct {
	next  http.RoundTripper
	base  *url.URL
	token string
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != g.base.Scheme || req.URL.Host != g.base.Host {
		return nil, fmt.Errorf("a request for %s was kept back: the token is for %s", req.URL.Host, g.base.Host)
	}
	own := req.Clone(req.Context())
	own.Header.Set("Authorization", "Bearer "+g.token)
	resp, err := g.next.RoundTrip(own)
	if err == nil {
		resp.Body = &bounded{ReadCloser: resp.Body, left: maxBody}
	}
	return resp, err
}

// bounded ends a body that is larger than any answer of the API.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHuge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
