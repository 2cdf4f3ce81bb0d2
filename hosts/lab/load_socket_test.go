package lab

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

func TestAWebsocketThatEndsComesBackAndTellsWhyItEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var lives atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(upstreamHeader, "10.77.0.21:4000")
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if lives.Add(1) == 1 {
			if err := c.Close(websocket.StatusGoingAway, "restarting"); err != nil {
				t.Error(err)
			}
			return
		}
		if err := c.Write(r.Context(), websocket.MessageText, []byte(`{"event":"update","payload":"{\"id\":\"7\"}"}`)); err != nil {
			t.Error(err)
		}
		// The client leaves when it was told; its going is the end of this.
		if _, _, err := c.Read(r.Context()); err == nil {
			t.Error("the client said something")
		}
		cancel()
	}))
	defer srv.Close()
	ld := testLoad()
	ld.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, srv.Listener.Addr().String())
		},
		TLSClientConfig: &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"},
	}}
	s := &socket{load: ld, stream: "user"}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx)
	}()
	must(t, await(t.Context(), bootLimit, func() (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.lives) == 2 && s.lives[1].got["7"], nil
	}))
	cancel()
	<-ended
	drops := ld.Report().Sockets.Drops
	if len(drops) != 1 || drops[0].From != "10.77.0.21:4000" || !strings.Contains(drops[0].Why, "restarting") {
		t.Errorf("got %+v, want one drop that says why", drops)
	}
}
