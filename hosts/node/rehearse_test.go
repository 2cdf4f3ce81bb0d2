package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

const someEnv = `# settings
LOCAL_DOMAIN=lab.example
DB_HOST=10.0.0.1
export SMTP_SERVER=mail.example
SMTP_PASSWORD="two
lines # S3_X=1"
VAPID_PRIVATE_KEY='it''s'
REDIS_URL=redis://old
OTP_SECRET=a#b"c"
`

func (s *sealed) rehearse(instance string) (node.RehearseOut, error) {
	return s.a.Rehearse(s.Context(), node.RehearseIn{
		Instance: instance, EnvFile: "home/mastodon/.env.production", Drop: []string{"DATABASE_URL"}, Prefixes: []string{"SMTP_", "REDIS_"},
		Set: map[string]string{"DB_HOST": "fork.example", "REDIS_URL": "rediss://default:p$w@valkey.example/0"}, Hosts: map[string]string{"fork.example": "10.0.0.9"},
	})
}

func (s *sealed) file(name string) string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.m.State, "root", name))
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

func TestACloneForgetsItsFleet(t *testing.T) {
	s := unsealedHost(t)
	s.put("root/home/mastodon/.env.production", someEnv)
	s.put("root/etc/hosts", "127.0.0.1 localhost\n")
	s.put("root/etc/stunnel/redis.conf", "[redis]\nconnect = redis.example:25061\naccept = 127.0.0.1:6379\n")
	if err := os.Chmod(filepath.Join(s.m.State, "root/home/mastodon/.env.production"), 0o640); err != nil {
		t.Fatal(err)
	}
	var ran []string
	systemd := s.m.Exec
	s.m.Exec = func(ctx context.Context, argv ...string) ([]byte, error) {
		line := strings.Join(argv, " ")
		ran = append(ran, line)
		switch {
		case strings.Contains(line, "list-units"):
			return []byte("stunnel-redis.service loaded active running a tunnel\n"), nil
		case strings.Contains(line, "stop stunnel"):
			return nil, nil
		}
		return systemd(ctx, argv...)
	}
	s.a.Shell = hoststest.NodeShell{Machine: s.m}
	for range 2 { // it is repeated safely
		out, err := s.rehearse("kirk-1")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(out.Dropped, "DB_HOST") || strings.Contains(strings.Join(append(out.Dropped, out.Set...), " "), "p$w") {
			t.Errorf("%+v", out)
		}
		want := "# settings\nLOCAL_DOMAIN=lab.example\nVAPID_PRIVATE_KEY='it''s'\nOTP_SECRET=a#b\"c\"\nDB_HOST='fork.example'\nREDIS_URL='rediss://default:p$w@valkey.example/0'\n"
		if got := s.file("home/mastodon/.env.production"); got != want {
			t.Errorf("%s\nwanted\n%s", got, want)
		}
		if got := s.file("etc/hosts"); got != "127.0.0.1 localhost\n10.0.0.9 fork.example # refit: for this rehearsal\n" {
			t.Errorf("%q", got)
		}
		if !slices.Contains(out.Tunnels, "stunnel-redis.service") || !slices.Contains(ran, "systemctl --no-ask-password stop stunnel-redis.service") {
			t.Errorf("%q, after %q", out.Tunnels, ran)
		}
		if got := s.file("etc/systemd/system/stunnel-redis.service.d/50-refit-rehearsal.conf"); !strings.Contains(got, "ConditionPathExists=!"+filepath.Join(s.m.State, "rehearsal")) {
			t.Errorf("%q", got)
		}
		if got := s.file("etc/stunnel/redis.conf"); strings.Contains(got, "redis.example") || !strings.Contains(got, "connect = 127.0.0.1:9\naccept = 127.0.0.1:6379\n") {
			t.Errorf("%q", got)
		}
	}
	if info, err := os.Stat(filepath.Join(s.m.State, "root/home/mastodon/.env.production")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	// With a permit, too, for it was made for a rehearsal.
	if _, err := s.a.WritePermit(t.Context(), s.in); err != nil {
		t.Fatal(err)
	}
	if _, err := s.rehearse("kirk-1"); err != nil {
		t.Error(err)
	}
}

func TestAMachineOfTheFleetForgetsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		host     func(*testing.T) *sealed
		instance string
	}{
		"it may serve":          {sealedHost, "kirk-1"},
		"another is meant":      {unsealedHost, "kirk-2"},
		"no machine is meant":   {unsealedHost, ""},
		"it has another's file": {func(t *testing.T) *sealed { s := sealedHost(t); s.put("rehearsal", `{"instance": "kirk-9"}`); return s }, "kirk-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.host(t)
			s.put("root/home/mastodon/.env.production", someEnv)
			if _, err := s.rehearse(c.instance); !errors.Is(err, node.ErrSealed) {
				t.Errorf("%v", err)
			}
			if got := s.file("home/mastodon/.env.production"); got != someEnv {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestARefusedConnectionIsOneThatGotOut(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := shut.Addr().String()
	shut.Close()
	s := unsealedHost(t)
	const nowhere = "[fe80::1%nosuch0]:9" // over an interface that there is not
	out, err := s.a.Egress(t.Context(), node.EgressIn{Addresses: []string{open.Addr().String(), refused, nowhere}, Within: 200 * time.Millisecond})
	if err != nil || out.Reached[open.Addr().String()] != "connected" || out.Reached[refused] == "" || out.Unreached[nowhere] == "" || len(out.Reached) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := s.a.Egress(t.Context(), node.EgressIn{Addresses: []string{"nothing"}}); err == nil {
		t.Error("an address without a port is tried")
	}
}
