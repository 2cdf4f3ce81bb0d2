package mastodon

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5/pgproto3"
)

// rejecting is a PostgreSQL that asks for the password and refuses it, quoting it as
// no good server does: whatever a server says, the verb must not pass it on.
func rejecting(t *testing.T) (host, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go reject(c)
		}
	}()
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func reject(c net.Conn) {
	defer c.Close()
	b := pgproto3.NewBackend(c, c)
	for {
		start, err := b.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, ok := start.(*pgproto3.StartupMessage); ok {
			break
		}
		if _, err := io.WriteString(c, "N"); err != nil { // no TLS here
			return
		}
	}
	b.Send(&pgproto3.AuthenticationCleartextPassword{})
	if b.Flush() != nil || b.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
		return
	}
	said := ""
	if m, err := b.Receive(); err == nil {
		if p, ok := m.(*pgproto3.PasswordMessage); ok {
			said = p.Password
		}
	}
	b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: `password authentication failed for user "mastodon" with password=` + said + " (" + said + ")"})
	b.Flush() //nolint:errcheck // the client may be gone
}

func TestAPasswordThatIsRefusedIsSaidToBeAndNotShown(t *testing.T) {
	host, port := rejecting(t)
	r := miniredis.RunT(t)
	r.RequireAuth("another")
	layout := layoutWith(t, fmt.Sprintf("DB_HOST=%s\nDB_PORT=%s\nDB_PASS=canary-db\nREDIS_HOST=%s\nREDIS_PORT=%s\nREDIS_PASSWORD=canary-redis\n", host, port, r.Host(), r.Port()))
	for _, v := range Verbs() {
		want := ""
		switch v.Name {
		case "db", "db.activity":
			want = "password authentication failed"
		case "redis", "sidekiq":
			want = "WRONGPASS"
		default:
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			if err := failsUnseen(t, v, layout); !strings.Contains(err.Error(), want) {
				t.Errorf("does not say %q: %v", want, err)
			}
		})
	}
}

// TestAProbeThatFailsShowsNeitherTokenNorPassword breaks what the probe uses secrets
// for: Redis refuses the password, Puma the token, and says both back.
func TestAProbeThatFailsShowsNeitherTokenNorPassword(t *testing.T) {
	a := newApp(t)
	a.redis.RequireAuth("another")
	a.layout = layoutWith(t, fmt.Sprintf("REDIS_HOST=%s\nREDIS_PORT=%s\nREDIS_PASSWORD=canary-redis\n", a.redis.Host(), a.redis.Port()))
	a.in.Layout = a.layout
	look := func() string {
		t.Helper()
		p, err := runProbe(t.Context(), a.in, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		failed := p.Err()
		if failed == nil {
			t.Fatal("nothing failed")
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + failed.Error()
	}
	shown := look()
	if !strings.Contains(shown, "WRONGPASS") {
		t.Errorf("the refused password is not told: %s", shown)
	}
	wrong := "canary-wrong-token"
	a.in.TokenFile = layoutWith(t, wrong+"\n").EnvFile
	shown += look()
	for _, secret := range []string{"canary-redis", token, wrong} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown: %s", secret, shown)
		}
	}
}
