package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// depot is the fleet with an S3 server beside refit: a bucket for what was built, and one
// behind a CDN of the test's own.
type depot struct {
	*fleet
	config string
	root   string // of the server's buckets, which are folders
	// cross tells whether the CDN lets pages of other hosts load from it.
	cross atomic.Bool
	asked atomic.Int64
}

const (
	depotUser, depotSecret = "refit-lab", "the-depots-own-secret"
	depotRate              = 4_000_000 // bytes a second to each node
)

func (f *fleet) depot(t *testing.T) *depot {
	t.Helper()
	d := &depot{fleet: f, root: t.TempDir()}
	for _, bucket := range []string{"refit-artifacts", "refit-assets"} {
		if err := os.Mkdir(filepath.Join(d.root, bucket), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server, cdn := d.serveS3(t), d.serveAssets(t)
	secret := filepath.Join(t.TempDir(), "s3-secret")
	if err := os.WriteFile(secret, []byte(depotSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	s3 := func(bucket string) string {
		return fmt.Sprintf("  s3: {endpoint: %s, region: us-east-1, bucket: %s, access_key: {env: DEPOT_USER}, secret_key: {file: %s}}\n", server, bucket, secret)
	}
	t.Setenv("DEPOT_USER", depotUser)
	text := strings.Replace(string(b), "limits:\n", fmt.Sprintf("limits:\n  transfer: %dB\n", depotRate), 1) +
		"\nstore:\n" + s3("refit-artifacts") + "\ncdn:\n  host: " + cdn + "\n" + s3("refit-assets")
	d.config = filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// serveS3 starts the server where refit is, and gives its address.
func (d *depot) serveS3(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs("../../bin/versitygw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: make s3-server builds it", err)
	}
	l, err := d.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "s3.log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := exec.CommandContext(ctx, program, "--access", depotUser, "--secret", depotSecret, "--region", "us-east-1", "--port", address, "posix", "--sidecar", t.TempDir(), d.root) //nolint:gosec // a test's own
	c.Stdout, c.Stderr = log, log
	if err := d.Launch(c); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	until := time.Now().Add(time.Minute)
	for {
		conn, err := d.DialContext(t.Context(), "tcp", address)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			return "http://" + address
		}
		select {
		case err := <-ended:
			said, rerr := os.ReadFile(log.Name())
			t.Fatalf("the S3 server ended: %v\n%s", errors.Join(err, rerr), said)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(until) {
			t.Fatalf("the S3 server does not answer: %v", err)
		}
	}
}

// serveAssets serves the assets' bucket as a CDN does, and gives CDN_HOST.
func (d *depot) serveAssets(t *testing.T) string {
	t.Helper()
	files := http.FileServer(http.Dir(filepath.Join(d.root, "refit-assets")))
	return d.serve(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		if d.cross.Load() {
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		}
		files.ServeHTTP(w, r)
	}))
}

// cutInPlace takes a host off the network when so many bytes of a release have reached it,
// and back after a while. What it gives must be called when refit has ended: it tells how
// many bytes reached each host.
func (f *fleet) cutInPlace(t *testing.T, host string, after int64, lasts time.Duration) func() (cut bool, got map[string]int64) {
	t.Helper()
	count := func() map[string]int64 {
		all, err := f.Traffic(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for h, bytes := range all {
			got[h] = bytes.To
		}
		return got
	}
	began := count()
	stop, done, cut := make(chan struct{}), make(chan error, 1), false
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				done <- nil
				return
			case <-tick.C:
			}
			all, err := f.Traffic(t.Context())
			if err == nil && all[host].To-began[host] < after {
				continue
			}
			if err == nil {
				cut, err = true, f.Cut(t.Context(), host)
			}
			select {
			case <-stop:
			case <-time.After(lasts):
			}
			done <- errors.Join(err, f.Heal(t.Context(), host))
			return
		}
	}()
	return func() (bool, map[string]int64) {
		close(stop)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		got := count()
		for h := range got {
			got[h] -= began[h]
		}
		return cut, got
	}
}

// forgetRelease takes a release that is not live away from every host.
func (f *fleet) forgetRelease(t *testing.T, release string) {
	t.Helper()
	for _, host := range []string{"kirk", "spock", "scotty", "decker", "uhura"} {
		if err := os.RemoveAll(filepath.Join(f.Root(host), "home/mastodon/releases", release)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLabAStoreAndACDNServeARollWhoseNodesAreCutOffInMidPlace rolls a release of a real one's
// size, 33,000 files, at a limited rate.
func TestLabAStoreAndACDNServeARollWhoseNodesAreCutOffInMidPlace(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	d := f.depot(t)
	upgrade := []string{"upgrade", "--to", "v4.5.21", "--yes"}
	f.must(t, 0, d.config, []string{"build", "--to", "v4.5.21"}, "v4.5.21 is in the store")

	before := f.fingerprintOf(t, "readlink /home/mastodon/live; systemctl show -p MainPID mastodon-web.service mastodon-sidekiq-default.service")
	f.underLoad(t, func() {
		over := f.cutInPlace(t, "scotty", 10<<20, 15*time.Second)
		a := f.must(t, 1, d.config, upgrade, "no Access-Control-Allow-Origin", "give the bucket a CORS rule")
		cut, got := over()
		t.Logf("refit said:\n%s", a.err)
		if !cut || !strings.Contains(a.err, "the step is run again; it had failed: scotty:") {
			t.Errorf("scotty was not missed: cut %t", cut)
		}
		if got["scotty"] > got["decker"]*5/4 {
			t.Errorf("%d bytes reached scotty, which was cut off, and %d decker: it began anew", got["scotty"], got["decker"])
		}
	})
	if now := f.fingerprintOf(t, "readlink /home/mastodon/live; systemctl show -p MainPID mastodon-web.service mastodon-sidekiq-default.service"); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("a node was switched before pages could load from the CDN:\n%v\n%v", before, now)
	}

	d.cross.Store(true)
	f.underLoad(t, func() {
		a := f.must(t, 0, d.config, upgrade, "DONE", "hashed files of both releases, for pages of https://")
		if strings.Index(a.err, "hashed files of both releases, for pages") > strings.Index(a.err, "roll sidekiq scotty: begun") {
			t.Errorf("a node was rolled before the CDN had answered:\n%s", a.err)
		}
		f.runsEverywhere(t, "v4.5.21")
		f.must(t, 0, d.config, []string{"rollback", "--yes"})
	})
	f.runsEverywhere(t, "v4.5.2")
	if d.asked.Load() < 1900 {
		t.Errorf("the CDN was asked %d times", d.asked.Load())
	}

	f.forgetRelease(t, "v4.5.21")
	f.must(t, 0, d.config, []string{"build", "--to", "v4.5.21"}, "was not built: it came from the store")
	f.forgetRelease(t, "v4.5.21")
	d.spoil(t)
	f.must(t, 0, d.config, []string{"build", "--to", "v4.5.21"}, "cannot be used, so it is made", "arrived with other content than the manifest says")
	f.forgetRelease(t, "v4.5.21")
	f.well(t)
}

// spoil changes a byte of each large object of the artifacts' bucket.
func (d *depot) spoil(t *testing.T) {
	t.Helper()
	spoiled := 0
	err := filepath.WalkDir(filepath.Join(d.root, "refit-artifacts"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() < 10<<20 {
			return err
		}
		spoiled++
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteAt([]byte{0}, info.Size()/2)
		return errors.Join(err, file.Close())
	})
	if err != nil || spoiled == 0 {
		t.Fatalf("%d objects were spoiled: %v", spoiled, err)
	}
}

// fingerprintOf is what a script says on each node.
func (f *fleet) fingerprintOf(t *testing.T, script string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, host := range []string{"kirk", "spock", "scotty", "decker"} {
		text, err := f.Exec(t.Context(), host, "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		out[host] = text
	}
	return out
}
