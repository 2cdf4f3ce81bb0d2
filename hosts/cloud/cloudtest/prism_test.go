package cloudtest_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// A second opinion: a validating proxy of somebody else's stands before the account and
// answers with an error of its own where a request or an answer is not as described.
func TestAnIndependentProxyFindsNoFault(t *testing.T) {
	binary, dir := os.Getenv("REFIT_PRISM"), os.Getenv(cloudtest.Description)
	if binary == "" || dir == "" {
		t.Skipf("no second opinion: REFIT_PRISM names no prism (npm's @stoplight/prism-cli), or %s no folder of descriptions", cloudtest.Description)
	}
	doc := filepath.Join(dir, "digitalocean-full.json")
	if _, err := os.Stat(doc); err != nil {
		t.Skipf("no second opinion: the walk needs the whole description: %v", err)
	}
	conf := furnished()
	conf.Clusters[0].Backups = []time.Time{time.Now().Add(-time.Hour)}
	s := cloudtest.New(conf)
	defer s.Close()
	behind := httptest.NewServer(s)
	t.Cleanup(behind.Close) // after the proxy's end: it may hold a connection
	proxy := prism(t, binary, doc, behind.URL)
	c := caller{t, &http.Client{Transport: judged{t}, Timeout: 20 * time.Second}, "http://" + proxy}
	walk(c, s.Wait)
	if n := len(s.Log()); n < 90 {
		t.Errorf("%d requests came through: the proxy refused some", n)
	}
}

// judged fails the test for what the proxy says instead of the account.
type judged struct{ *testing.T }

func (j judged) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && (resp.Header.Get("Content-Type") == "application/problem+json" || resp.Header.Get("Sl-Violations") != "") {
		j.Errorf("%s %s: %d %s", r.Method, r.URL, resp.StatusCode, resp.Header.Get("Sl-Violations"))
	}
	return resp, err
}

// prism starts the proxy and is its address once it listens.
func prism(t *testing.T, binary, doc, upstream string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, "proxy", "--errors", "-h", "127.0.0.1", "-p", port, doc, upstream)
	out, err := os.Create(filepath.Join(t.TempDir(), "prism.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("prism: %v", err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", at)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return at
		}
		if ctx.Err() != nil {
			text, _ := os.ReadFile(out.Name())
			t.Fatalf("prism does not listen: %v\n%s", err, text)
		}
	}
	return at
}
