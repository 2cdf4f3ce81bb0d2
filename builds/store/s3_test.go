package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

// What a good server does is tested with a real one (server_test.go); here is what a bad
// one does.

// against is a bucket of a server that a test writes itself, with little patience.
func against(t *testing.T, h http.HandlerFunc) *store.S3 {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	b, err := store.NewS3(store.S3Options{
		Endpoint: srv.URL, Region: "us-east-1", Bucket: "bucket", AccessKey: accessKey, SecretKey: secretKey,
		Silence: 200 * time.Millisecond, Tries: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// calls are the four things that a bucket is asked for.
func calls(ctx context.Context, b store.Bucket) map[string]error {
	out := map[string]error{}
	out["put"] = b.Put(ctx, "k", strings.NewReader("content"))
	out["put in pieces"] = b.Put(ctx, "k", bytes.NewReader(noise(1, 9<<20)))
	r, err := b.Get(ctx, "k", 0)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	out["get"] = err
	_, out["list"] = b.List(ctx, "")
	out["remove"] = b.Remove(ctx, "k")
	return out
}

func TestAServerThatAnswers500IsGivenUpAndNoCallSucceeds(t *testing.T) {
	var asked atomic.Int64
	b := against(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "out of order", http.StatusInternalServerError)
	})
	for call, err := range calls(t.Context(), b) {
		if err == nil {
			t.Errorf("%s succeeded", call)
		}
	}
	if n := asked.Load(); n > 60 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestAServerThatHangsIsGivenUp(t *testing.T) {
	over := make(chan struct{})
	b := against(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	defer close(over)
	began := time.Now()
	for call, err := range calls(t.Context(), b) {
		if err == nil {
			t.Errorf("%s succeeded", call)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s to give up", took)
	}
}

func TestAServerThatHangsInTheMiddleOfAnObjectIsGivenUp(t *testing.T) {
	over := make(chan struct{})
	b := against(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", noon.Format(http.TimeFormat))
		if _, err := w.Write([]byte("the beginning")); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	defer close(over)
	r, err := b.Get(t.Context(), "k", 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err == nil || string(got) != "the beginning" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnUploadThatTakesLongIsNotCutWhileItGoesOn(t *testing.T) {
	const silence = 2 * time.Second
	var requests atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for buf := make([]byte, 64<<10); ; <-tick.C {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				break
			}
		}
		w.Header().Set("ETag", `"x"`)
	}))
	// As little as a link holds: what this side's kernel took would pass for sent.
	srv.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			if err := tcp.SetReadBuffer(64 << 10); err != nil {
				t.Error(err)
			}
		}
	}
	srv.Start()
	defer srv.Close()
	b, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Region: "us-east-1", Bucket: "bucket", AccessKey: accessKey, SecretKey: secretKey, Silence: silence, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := b.Put(t.Context(), "k", bytes.NewReader(noise(1, 5<<20))); err != nil {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if took := time.Since(began); took < 3*silence/2 || requests.Load() != 1 {
		t.Errorf("it took %s and %d requests: this shows nothing", took, requests.Load())
	}
}

func TestAnInterruptedCallEndsAtOnceThoughTheServerHangs(t *testing.T) {
	b := against(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range calls(ctx, b) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestARefusedKeyIsToldInWordsAndNeverShown(t *testing.T) {
	for code, status := range map[string]int{"AccessDenied": 403, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "NoSuchBucket": 404} {
		b := against(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			if r.Method != http.MethodHead {
				fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message></Error>`, code)
			}
		})
		err := b.Put(t.Context(), "k", strings.NewReader("x"))
		want := "does not accept the key for the bucket bucket"
		if code == "NoSuchBucket" {
			want = "has no bucket bucket"
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secretKey) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestAServerOnAnotherSchemeOrWithAPathIsNone(t *testing.T) {
	for _, endpoint := range []string{"", "s3.example", "ftp://s3.example", "https://", "https://s3.example/bucket"} {
		if _, err := store.NewS3(store.S3Options{Endpoint: endpoint, Bucket: "bucket"}); err == nil {
			t.Errorf("%q is taken", endpoint)
		}
	}
}

func TestARealServerRefusesAnotherKeyAndAnotherBucket(t *testing.T) {
	server := s3Server(t)
	if server == nil {
		return
	}
	good := server.bucket(t, "")
	put(t, good, "k", "x")
	for what, o := range map[string]store.S3Options{
		"does not accept the key": {Bucket: bucketOf(good), AccessKey: accessKey, SecretKey: "another-secret"},
		"has no bucket":           {Bucket: "nosuchbucket"},
	} {
		o.Tries = 2
		bad := server.open(t, o)
		if err := bad.Put(t.Context(), "k", strings.NewReader("y")); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
	if got, err := get(t, good, "k", 0); err != nil || string(got) != "x" {
		t.Errorf("then it is %q, %v", got, err)
	}
}

func bucketOf(b *store.S3) string {
	name := b.String()
	return name[strings.LastIndexByte(name, '/')+1:]
}
