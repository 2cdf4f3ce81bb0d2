package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

// serverVariable names an S3 server's program (versitygw) that the tests start on
// loopback: `make s3-server` builds it.
const serverVariable = "REFIT_S3_SERVER"

const accessKey, secretKey = "refit-test", "no-secret-at-all"

// testServer is an S3 server on loopback, whose buckets are folders.
type testServer struct {
	url, root string
}

// s3Server starts the server for one test; nil where there is no program for it.
func s3Server(t *testing.T) *testServer {
	t.Helper()
	program := os.Getenv(serverVariable)
	if program == "" {
		t.Logf("not tested against an S3 server: %s names none (make s3-server builds one)", serverVariable)
		return nil
	}
	root := t.TempDir()
	address := freeAddress(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, "--access", accessKey, "--secret", secretKey, "--region", "us-east-1", "--port", address, "posix", "--sidecar", t.TempDir(), root) //nolint:gosec // a test's own
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &testServer{"http://" + address, root}
	s.await(t, log.Name(), ended)
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until the server answers anything.
func (s *testServer) await(t *testing.T, log string, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-tick.C:
			continue
		case err := <-ended:
			said, rerr := os.ReadFile(log)
			t.Fatalf("the S3 server ended: %v\n%s", errors.Join(err, rerr), said)
		case <-ctx.Done():
			t.Fatal("the S3 server does not answer")
		}
	}
}

// bucket makes an empty one.
func (s *testServer) bucket(t *testing.T, prefix string) *store.S3 {
	t.Helper()
	name := fmt.Sprintf("b%d", time.Now().UnixNano())
	if err := os.Mkdir(filepath.Join(s.root, name), 0o755); err != nil {
		t.Fatal(err)
	}
	return s.open(t, store.S3Options{Bucket: name, Prefix: prefix})
}

func (s *testServer) open(t *testing.T, o store.S3Options) *store.S3 {
	t.Helper()
	o.Endpoint, o.Region = s.url, "us-east-1"
	if o.AccessKey == "" {
		o.AccessKey, o.SecretKey = accessKey, secretKey
	}
	b, err := store.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
