package mastodon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
)

// republish is how often the event is published until it arrives. The streaming
// server subscribes after it has accepted the websocket and does not say when.
const republish = 100 * time.Millisecond

// event opens a websocket as the probe account, publishes an event that nobody
// else gets, and waits for it: Redis, the streaming server, its database and the
// token are all proven at once.
func (p *prober) event(ctx context.Context) (detail string, err error) {
	if p.token == "" {
		return "", &errSkip{p.noToken}
	}
	id, err := p.verify(ctx)
	if err != nil {
		return "", err
	}
	socket, res, err := websocket.Dial(ctx, "ws://"+p.in.Domain+"/api/v1/streaming?stream=user", &websocket.DialOptions{
		HTTPClient: p.streaming.http,
		HTTPHeader: p.streaming.headers(p.token),
	})
	if err != nil {
		if res != nil && res.StatusCode != 0 {
			return "", &statusError{path: "the websocket of /api/v1/streaming", status: res.StatusCode}
		}
		return "", p.streaming.explain(ctx, "the websocket of /api/v1/streaming", err)
	}
	defer func() {
		// The server may have gone meanwhile; then there is nothing to close.
		if closeErr := socket.CloseNow(); closeErr != nil && err == nil && !errors.Is(closeErr, context.Canceled) {
			err = fmt.Errorf("cannot close the websocket: %w", closeErr)
		}
	}()
	nonce := rand.Text()
	message, err := json.Marshal(map[string]string{"event": "refit.probe", "payload": nonce})
	if err != nil {
		return "", err
	}
	arrived := make(chan error, 1)
	go func() { arrived <- receive(ctx, socket, nonce) }()
	begun := time.Now()
	tick := time.NewTicker(republish)
	defer tick.Stop()
	heard := false // somebody has subscribed
	for {
		receivers, err := p.publish(ctx, "timeline:"+id, string(message))
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		heard = heard || receivers > 0
		select {
		case err := <-arrived:
			if err != nil && ctx.Err() == nil {
				return "", fmt.Errorf("the websocket ended before the event came: %w", err)
			}
			if err == nil {
				return fmt.Sprintf("arrived after %d ms", time.Since(begun).Milliseconds()), nil
			}
		case <-tick.C:
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() == nil:
		case heard:
			return "", errors.New("the event was published and did not come out of the websocket")
		default:
			return "", errors.New("the streaming server did not subscribe to the account's timeline in Redis")
		}
	}
}

// receive reads until the event with that payload comes.
func receive(ctx context.Context, socket *websocket.Conn, nonce string) error {
	for {
		_, b, err := socket.Read(ctx)
		if err != nil {
			return err
		}
		var m struct {
			Event   string `json:"event"`
			Payload string `json:"payload"`
		}
		// Other events may have another kind of payload; they are not ours.
		if json.Unmarshal(b, &m) == nil && m.Event == "refit.probe" && m.Payload == nonce {
			return nil
		}
	}
}

// publishInRedis publishes through the main Redis of this host's environment.
func (p *prober) publishInRedis(ctx context.Context, channel, message string) (receivers int64, err error) {
	err = withRedis(ctx, p.in.Layout, "", func(ctx context.Context, c *redis.Client) error {
		receivers, err = c.Publish(ctx, channel, message).Result()
		return err
	})
	return receivers, err
}
