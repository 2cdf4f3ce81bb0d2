package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
)

// KumaOptions are the choices of NewKuma.
type KumaOptions struct {
	// URL is the push URL of a monitor of the kind "Push"
	// (https://status.example/api/push/TOKEN); it is a secret. What stands behind its
	// question mark is replaced.
	URL string
	// Every is the pause between heartbeats; 0 for a minute. The monitor's own
	// interval must be longer.
	Every time.Duration
	// Client for HTTP; nil for one of its own.
	Client *http.Client
	// Redact cuts secrets out of every text; nil for Redactor with the URL.
	Redact func(string) string
}

// kumaCall is how long one heartbeat may take, and kumaWords how long its words may be.
const (
	kumaCall  = 10 * time.Second
	kumaWords = 200
)

// Kuma pushes heartbeats to Uptime Kuma: up while a run goes well, with the step at
// work, down when one failed or needs a person. It observes the engine's events; a
// status page that does not answer holds nothing up.
type Kuma struct {
	o    KumaOptions
	url  *url.URL
	wake chan struct{}
	over chan struct{}
	done chan struct{}
	stop context.CancelFunc
	once sync.Once

	mu     sync.Mutex
	up     bool
	words  string
	title  string
	known  bool
	told   bool
	ping   time.Duration
	failed error
}

// NewKuma begins to push, from a goroutine of its own, until Close. Nothing is pushed
// before something is known.
func NewKuma(o KumaOptions) (*Kuma, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		// The parser's error holds the URL, which is a secret.
		return nil, errors.New("the push URL of Uptime Kuma is no http or https URL")
	}
	if o.Every <= 0 {
		o.Every = time.Minute
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 2 * kumaCall}
	}
	if o.Redact == nil {
		o.Redact = Redactor(o.URL, u.Path)
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &Kuma{o: o, url: u, wake: make(chan struct{}, 1), over: make(chan struct{}), done: make(chan struct{}), stop: stop}
	go k.beat(ctx)
	return k, nil
}

// Set says what the heartbeats say from now on; one goes out at once if up or down is
// news.
func (k *Kuma) Set(up bool, words string) { k.set(up, words, false) }

func (k *Kuma) set(up bool, words string, news bool) {
	k.mu.Lock()
	news = news || !k.known || k.up != up
	k.up, k.words, k.known = up, words, true
	if news {
		k.told = false
	}
	k.mu.Unlock()
	if !news {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Begin names the run that the events to come are of.
func (k *Kuma) Begin(r Run) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.title = newSlackRun(r).title()
}

// Observe takes an event.
func (k *Kuma) Observe(e pipeline.Event) {
	k.mu.Lock()
	title := k.title
	k.mu.Unlock()
	switch e.Kind {
	case pipeline.RunStarted:
		k.set(true, title, true)
	case pipeline.StepStarted:
		k.Set(true, fmt.Sprintf("%s: step %d of %d, %s", title, e.Index, e.Total, e.Step))
	case pipeline.StepUndoing:
		k.Set(false, fmt.Sprintf("%s: going back, %s", title, e.Step))
	case pipeline.StepFailed, pipeline.UndoFailed:
		k.Set(false, fmt.Sprintf("%s failed in %s: %s", title, e.Step, e.Err))
	case pipeline.RunEnded:
		how := endings[pipeline.Status(e.Text)]
		k.set(!how.loud && how.words != "", with(with(title, how.words), e.Err), true)
	}
}

// End adds what is known after a run's end: to be taken back as asked is no failure.
func (k *Kuma) End(r Report) {
	if r.Status == pipeline.Undone && r.Asked {
		k.set(true, r.headline(), true)
	}
}

// beat pushes at once what is news, and the rest every so often.
func (k *Kuma) beat(ctx context.Context) {
	defer close(k.done)
	t := time.NewTicker(k.o.Every)
	defer t.Stop()
	for {
		select {
		case <-k.wake:
		case <-t.C:
		case <-k.over:
			k.push(ctx, true)
			return
		case <-ctx.Done():
			return
		}
		k.push(ctx, false)
	}
}

// push sends one heartbeat; news alone, or any.
func (k *Kuma) push(ctx context.Context, news bool) {
	k.mu.Lock()
	up, words, known, told, ping := k.up, k.words, k.known, k.told, k.ping
	k.mu.Unlock()
	if !known || news && told {
		return
	}
	u, raw := *k.url, words
	status := "down"
	if up {
		status = "up"
	}
	words = printable(k.o.Redact(words))
	if r := []rune(words); len(r) > kumaWords {
		words = string(r[:kumaWords-1]) + "…"
	}
	q := url.Values{"status": {status}, "msg": {words}, "ping": {""}}
	if ping > 0 {
		q.Set("ping", strconv.FormatInt(ping.Milliseconds(), 10))
	}
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, kumaCall)
	defer cancel()
	began := time.Now()
	err := k.get(ctx, u.String())
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = err
	if err == nil {
		k.ping = max(time.Since(began), time.Millisecond)
		k.told = k.told || k.up == up && k.words == raw
	}
}

func (k *Kuma) get(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("its push URL cannot be asked")
	}
	resp, err := k.o.Client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers HTTP %d: is the push URL right, and the monitor active?", resp.StatusCode)
	}
	return nil
}

// Close pushes the last word if it was not yet, waits for that at most so long, and
// says why it could not be told.
func (k *Kuma) Close(limit time.Duration) []string {
	k.once.Do(func() { close(k.over) })
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-k.done:
	case <-t.C:
		k.stop()
		<-k.done
	}
	k.stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known && !k.told {
		why := "it did not answer in time"
		if k.failed != nil {
			why = k.o.Redact(k.failed.Error())
		}
		return []string{"Uptime Kuma was not told how the run went: " + why}
	}
	return nil
}
