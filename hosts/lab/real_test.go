package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests raise the real fleet. They need root on Linux and some minutes, and
// run where REFIT_LAB is set; everything else in this package runs anywhere.
func gate(t *testing.T) {
	t.Helper()
	if os.Getenv("REFIT_LAB") == "" {
		t.Skip("REFIT_LAB is not set: no real hosts")
	}
}

// upLimit is how long the fleet may take from the cached image until every unit of
// every host runs.
const upLimit = 30 * time.Second

// raise boots a fleet without an application and ends it with the test.
func raise(t *testing.T) *Lab {
	t.Helper()
	self := filepath.Join(t.TempDir(), "lab")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", self, "../../cmd/lab")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Made once and kept: what follows is an up from the cached image.
	if _, err := Image(t.Context(), DefaultCache(), nil, t.Logf); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l, err := Up(t.Context(), Options{Dir: filepath.Join(t.TempDir(), ".lab"), Files: "../../testdata/lab", Self: self, Say: t.Logf})
	took := time.Since(began)
	if errors.Is(err, ErrTaken) {
		t.Fatal(err) // that lab is somebody's: it stays
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), t.Logf); err != nil {
			t.Error(err)
		}
		nothingLeft(t)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up from the cached image took %.1f s", took.Seconds())
	if took > upLimit {
		t.Errorf("up from the cached image took %.1f s, want %.0f s at most", took.Seconds(), upLimit.Seconds())
	}
	return l
}

// nothingLeft looks for everything that a lab makes on the machine.
func nothingLeft(t *testing.T) {
	t.Helper()
	if ms, err := mounts(runDir); err != nil || len(ms) > 0 {
		t.Errorf("mounts are left: %v %v", ms, err)
	}
	for _, pattern := range []string{
		filepath.Join(netnsDir, netns+"*"), runDir, filepath.Join(cgroupRoot, cgroup), filepath.Join(cgroupRoot, "*", cgroup),
		"/run/systemd/nspawn/propagate/kirk",
	} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			t.Errorf("left: %v %v", found, err)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), runDir) {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range backing {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), "root-"+imageKey(nil)) {
			t.Errorf("a loop device is left: %s", b)
		}
	}
}

// on runs a program on a host and fails the test if it fails.
func on(t *testing.T, l *Lab, host string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := l.Exec(ctx, host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// search asks khan within the time given.
func search(t *testing.T, l *Lab, limit time.Duration) error {
	t.Helper()
	client, err := l.HTTPClient()
	must(t, err)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://khan:%d/", PortSearch), nil)
	must(t, err)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func TestLabHostsAreRealAndCanBeBroken(t *testing.T) {
	gate(t)
	l := raise(t)
	ctx := t.Context()

	t.Run("every host runs without a failed unit", func(t *testing.T) {
		s, err := l.Status(ctx)
		must(t, err)
		for _, h := range s.Hosts {
			if h.State != "running" || h.Failed != "" || h.Link != "up" {
				t.Errorf("%+v", h)
			}
		}
	})
	t.Run("a second lab is refused", func(t *testing.T) {
		if _, err := Up(ctx, Options{Dir: t.TempDir(), Files: "../../testdata/lab"}); !errors.Is(err, ErrTaken) {
			t.Errorf("got %v, want %v", err, ErrTaken)
		}
	})
	t.Run("nothing leads out of the lab", func(t *testing.T) {
		if out, err := l.Exec(ctx, "kirk", "ping", "-c1", "-W2", "9.9.9.9"); err == nil {
			t.Errorf("kirk reached the outside: %s", out)
		}
		if out := on(t, l, "kirk", "ip", "route"); strings.Contains(out, "default") {
			t.Errorf("kirk has a default route: %s", out)
		}
	})
	t.Run("refit's user may run refit's agent as root and nothing else", func(t *testing.T) {
		out := on(t, l, "kirk", "runuser", "-u", "refit", "--", "sudo", "-n", "-l")
		if !strings.Contains(out, "NOPASSWD: /var/lib/refit/bin/refit-* node *") || strings.Contains(out, "ALL) ALL") {
			t.Errorf("got %s", out)
		}
		if _, err := l.Exec(ctx, "kirk", "runuser", "-u", "refit", "--", "sudo", "-n", "id"); err == nil {
			t.Error("sudo id works")
		}
	})
	t.Run("sshd counts strangers as real hosts do, and secrets are their owners'", func(t *testing.T) {
		out := on(t, l, "kirk", "sshd", "-T")
		if !strings.Contains(out, "persourcepenalties crash:") || !strings.Contains(out, "maxstartups 10:30:100") || !strings.Contains(out, "passwordauthentication no") {
			t.Errorf("got %s", out)
		}
		for path, want := range map[string]string{"/home/mastodon/.env.production": "600 mastodon", "/etc/refit/probe.token": "600 root", "/var/lib/refit/bin": "755 refit"} {
			if got := on(t, l, "kirk", "stat", "-c", "%a %U", path); got != want {
				t.Errorf("%s: got %s, want %s", path, got, want)
			}
		}
	})
	t.Run("nodes reach Redis through stunnel and the database both ways", func(t *testing.T) {
		if out := on(t, l, "kirk", "redis-cli", "ping"); out != "PONG" {
			t.Errorf("got %s", out)
		}
		for _, to := range []string{"port=5432 dbname=mastodon", "port=25061 dbname=mastodon-pool"} {
			on(t, l, "scotty", "env", "PGPASSWORD="+l.Secrets.Database, "psql", "-qXAtc", "SELECT 1", "host="+DatabaseAddress+" user=mastodon "+to)
		}
	})
	t.Run("the builder reaches repositories and mirrors", func(t *testing.T) {
		on(t, l, "uhura", "git", "ls-remote", "http://10.77.0.61/git/config.git")
		on(t, l, "uhura", "curl", "-sf", fmt.Sprintf("http://%s:%d/versions", Gateway, PortGems))
	})
	t.Run("a unit can be kept off the network", func(t *testing.T) {
		out := on(t, l, "uhura", "systemd-run", "--quiet", "--wait", "--pipe", "--property=PrivateNetwork=yes", "ip", "-brief", "link")
		if !strings.HasPrefix(out, "lo ") || strings.Contains(out, "eth0") {
			t.Errorf("it sees %q, want the loopback alone", out)
		}
	})
	t.Run("a cut host does not answer and comes back healed", func(t *testing.T) {
		must(t, l.Cut(ctx, "khan"))
		if err := search(t, l, time.Second); err == nil {
			t.Error("khan answers though it is cut off")
		}
		must(t, l.Heal(ctx, "khan"))
		must(t, search(t, l, 10*time.Second))
	})
	t.Run("a frozen host takes connections and answers nothing until it is thawed", func(t *testing.T) {
		must(t, l.Freeze(ctx, "khan"))
		c, err := l.DialContext(ctx, "tcp", fmt.Sprintf("khan:%d", PortSearch))
		must(t, err)
		must(t, c.Close())
		if err := search(t, l, time.Second); err == nil {
			t.Error("khan answers though it is frozen")
		}
		must(t, l.Thaw(ctx, "khan"))
		must(t, search(t, l, 10*time.Second))
	})
	t.Run("a reboot and a pulled plug keep the disk", func(t *testing.T) {
		on(t, l, "scotty", "touch", "/home/mastodon/kept")
		before, err := leader("scotty")
		must(t, err)
		must(t, l.Reboot(ctx, "scotty"))
		after, err := leader("scotty")
		must(t, err)
		if before == after {
			t.Error("PID 1 is the same after the reboot")
		}
		must(t, l.PowerOff(ctx, "scotty"))
		if _, err := l.Exec(ctx, "scotty", "true"); err == nil {
			t.Error("scotty is off and lets us in")
		}
		must(t, l.Start(ctx, "scotty"))
		on(t, l, "scotty", "ls", "/home/mastodon/kept")
		if err := l.Start(ctx, "scotty"); err == nil {
			t.Error("a host that is up was started again")
		}
	})
	t.Run("a full disk refuses writes until it is freed", func(t *testing.T) {
		must(t, l.Fill(ctx, "decker"))
		if _, err := l.Exec(ctx, "decker", "dd", "if=/dev/zero", "of=/var/tmp/more", "bs=64k", "count=1"); err == nil || !strings.Contains(err.Error(), "No space left") {
			t.Errorf("got %v", err)
		}
		must(t, l.Free(ctx, "decker"))
		on(t, l, "decker", "dd", "if=/dev/zero", "of=/var/tmp/more", "bs=64k", "count=1")
	})
	t.Run("a limited link is slow in both directions", func(t *testing.T) {
		must(t, l.Limit(ctx, "kirk", "64kbps"))
		began := time.Now()
		if n := len(on(t, l, "kirk", "head", "-c", "300000", "/dev/zero")); n > 300000 {
			t.Errorf("got %d bytes", n)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("300 kB at 64 kB/s took %s", took)
		}
		must(t, l.Unlimit(ctx, "kirk"))
		must(t, l.Unlimit(ctx, "kirk"))
		on(t, l, "kirk", "true")
		if err := l.Limit(ctx, "kirk", "quickly"); err == nil {
			t.Error("a rate that is none was taken")
		}
	})
	t.Run("services die, stop and start by name", func(t *testing.T) {
		before := on(t, l, "spock", "systemctl", "show", "-P", "MainPID", "stunnel-redis")
		must(t, l.Kill(ctx, "spock", "stunnel-redis.service"))
		must(t, await(ctx, 10*time.Second, func() (bool, error) {
			now := on(t, l, "spock", "systemctl", "show", "-P", "MainPID", "stunnel-redis")
			return now != "0" && now != before, nil
		}))
		must(t, l.StopService(ctx, "spock", "stunnel-redis.service"))
		if _, err := l.Exec(ctx, "spock", "systemctl", "is-active", "stunnel-redis"); err == nil {
			t.Error("the service still runs")
		}
		must(t, l.StartService(ctx, "spock", "stunnel-redis.service"))
		if err := l.Kill(ctx, "spock", "no-such-program"); err == nil {
			t.Error("a process that is not there was killed")
		}
	})
	t.Run("a snapshot brings back what was there and nothing later", func(t *testing.T) {
		on(t, l, "uhura", "sh", "-c", "echo early > /srv/early")
		must(t, l.Snapshot(ctx, "uhura", "one"))
		on(t, l, "uhura", "sh", "-c", "rm /srv/early; echo late > /srv/late")
		must(t, l.Restore(ctx, "uhura", "one"))
		if out := on(t, l, "uhura", "ls", "/srv"); !strings.Contains(out, "early") || strings.Contains(out, "late") {
			t.Errorf("got %s", out)
		}
		for _, bad := range []string{"", "../x", "a b"} {
			if err := l.Snapshot(ctx, "uhura", bad); err == nil {
				t.Errorf("a snapshot was named %q", bad)
			}
		}
		if err := l.Restore(ctx, "uhura", "two"); err == nil {
			t.Error("a snapshot that is not there was restored")
		}
	})
	t.Run("Redis moves with its data and nodes follow its name", func(t *testing.T) {
		on(t, l, "kirk", "redis-cli", "set", "kept", "yes")
		for _, want := range []string{RedisMoved, RedisAddress} {
			must(t, l.MoveRedis(ctx))
			if l.Redis != want {
				t.Errorf("Redis is at %s, want %s", l.Redis, want)
			}
			must(t, await(ctx, 10*time.Second, func() (bool, error) {
				out, err := l.Exec(ctx, "kirk", "redis-cli", "get", "kept")
				return strings.TrimSpace(out) == "yes", err
			}))
		}
	})
	t.Run("the standby takes over the database's address, and back", func(t *testing.T) {
		query := func(sql string) string {
			return on(t, l, "scotty", "env", "PGPASSWORD="+l.Secrets.Database, "PGCONNECT_TIMEOUT=10", "psql", "-qXAtc", sql, "host="+DatabaseAddress+" user=mastodon port=5432 dbname=mastodon")
		}
		query("CREATE TABLE kept AS SELECT 1 AS one")
		for _, want := range []string{"paris", "majel"} {
			must(t, l.PromoteStandby(ctx))
			if l.Primary != want {
				t.Errorf("the primary is %s, want %s", l.Primary, want)
			}
			query("INSERT INTO kept VALUES (2)")
			must(t, l.RebuildStandby(ctx))
		}
		if n := query("SELECT count(*) FROM kept"); n != "3" {
			t.Errorf("%s rows, want 3", n)
		}
	})
	t.Run("the state is found again from its directory", func(t *testing.T) {
		again, err := Open(l.Dir)
		must(t, err)
		if again.Primary != "majel" || again.Redis != RedisAddress || again.Secrets != l.Secrets {
			t.Errorf("got %+v", again.State)
		}
	})
	t.Run("down clears everything after supervisors and mirrors were killed", func(t *testing.T) {
		must(t, l.Freeze(ctx, "kirk"))
		for _, m := range Machines()[:5] {
			b, err := os.ReadFile(hostDir(m.Name, "pid"))
			must(t, err)
			var pid int
			_, err = fmt.Sscan(string(b), &pid)
			must(t, err)
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		must(t, killGroup(ctx, "mirrors"))
		for range 2 {
			must(t, Down(ctx, t.Logf))
			nothingLeft(t)
		}
		if _, err := Open(l.Dir); !errors.Is(err, ErrNotUp) {
			t.Errorf("got %v, want %v", err, ErrNotUp)
		}
	})
}
