package cloud

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// carrier notes what is sent.
type carrier struct{ sent []*http.Request }

func (c *carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	c.sent = append(c.sent, r)
	w := httptest.NewRecorder()
	w.WriteString(strings.Repeat("x", 100))
	return w.Result(), nil
}

func TestTheTokenGoesToTheHostOfTheAPIAlone(t *testing.T) {
	base, err := parseAPI("https://api.example")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]int{
		"https://api.example/v2/account":      1,
		"http://api.example/v2/account":       0,
		"https://api.example:8443/v2/account": 0,
		"https://evil.example/v2/account":     0,
		"https://api.example.evil.example/":   0,
	} {
		c := &carrier{}
		g := &guard{next: c, base: base, token: "secret-token"}
		req := httptest.NewRequest(http.MethodGet, address, nil)
		resp, err := g.RoundTrip(req)
		if len(c.sent) != want || (err == nil) != (want == 1) {
			t.Errorf("%s: sent %d, %v", address, len(c.sent), err)
		}
		if err == nil {
			resp.Body.Close()
		} else if strings.Contains(err.Error(), "secret-token") {
			t.Error(err)
		}
		if req.Header.Get("Authorization") != "" {
			t.Error("the caller's own request was given the token")
		}
	}
}

func TestAnAnswerThatNeverEndsIsCut(t *testing.T) {
	b := &bounded{ReadCloser: http.NoBody, left: 0}
	if _, err := b.Read(make([]byte, 10)); err != errHuge { //nolint:errorlint // it is the error itself
		t.Errorf("got %v", err)
	}
}
