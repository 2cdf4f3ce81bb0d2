package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// errCallerGone ends a verb whose caller no longer listens.
var errCallerGone = errors.New("the caller is gone")

// maxRaw is the longest run of raw bytes in one piece; a sign of life can pass
// between two.
const maxRaw = 64 << 10

type requestKey struct{}

// RequestOf returns the request that a verb's context belongs to: who calls, and
// under which epoch.
func RequestOf(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}

// Serve is the function Serve for this machine.
func (m Machine) Serve(ctx context.Context, verbs []Verb, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) == 2 && args[0] == jobBeginWord {
		return m.jobBegan(args[1], time.Now())
	}
	if len(args) == 2 && args[0] == jobEndWord {
		return m.jobEnded(args[1], os.Getenv, time.Now())
	}
	if len(args) == 1 && args[0] == permitCheckWord {
		return m.permitted()
	}
	if len(args) != 1 {
		return errors.New("usage: refit node VERB, with the request on standard input")
	}
	if _, ok := stdout.(*os.File); ok {
		// A process of its own. A caller that is gone must not kill it in the middle of
		// a change, and what it starts must be found with it: see Machine.end.
		signal.Ignore(syscall.SIGPIPE)
		syscall.Umask(0o022)
		if err := syscall.Setpgid(0, 0); err != nil && !errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("cannot make a process group: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reply := newReplier(stdout, m.Beat, func() { cancel(errCallerGone) })
	defer reply.stop()
	out, err := m.serve(ctx, verbs, args[0], stdin, reply)
	return errors.Join(err, reply.finish(out, err))
}

func (m Machine) serve(ctx context.Context, verbs []Verb, name string, stdin io.Reader, reply *replier) (any, error) {
	in := bufio.NewReaderSize(stdin, 64<<10)
	req, err := readRequest(in)
	if err != nil {
		return nil, err
	}
	var verb *Verb
	for i := range verbs {
		if verbs[i].Name == name {
			verb = &verbs[i]
		}
	}
	if verb == nil {
		return nil, Failf(CodeNotFound, "this refit has no verb %q", name)
	}
	ctx = context.WithValue(ctx, requestKey{}, req)
	if verb.Changes {
		release, err := m.pass(ctx, name, req)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if verb.Stream != nil {
		return verb.Stream(ctx, req.In, rawWriter{reply}, reply.say)
	}
	return verb.Run(ctx, req.In, in, reply.say)
}

// Typed makes a verb's Run from a function with typed argument and result.
func Typed[In, Out any](f func(ctx context.Context, in In, payload io.Reader, say func(string)) (Out, error)) func(context.Context, json.RawMessage, io.Reader, func(string)) (any, error) {
	return func(ctx context.Context, raw json.RawMessage, payload io.Reader, say func(string)) (any, error) {
		var in In
		if err := decode(raw, &in); err != nil {
			return nil, fmt.Errorf("cannot read the request: %w", err)
		}
		return f(ctx, in, payload, say)
	}
}

// replier writes a verb's replies, and a sign of life when there are none.
type replier struct {
	gone func()

	mu    sync.Mutex
	w     io.Writer
	err   error // the first failure to write
	last  time.Time
	every time.Duration
	quit  chan struct{}
	once  sync.Once
}

func newReplier(w io.Writer, every time.Duration, gone func()) *replier {
	if every == 0 {
		every = 2 * time.Second
	}
	r := &replier{gone: gone, w: w, every: every, quit: make(chan struct{}), last: time.Now()}
	go r.beat()
	return r
}

func (r *replier) beat() {
	t := time.NewTicker(r.every / 2)
	defer t.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-t.C:
			r.mu.Lock()
			if time.Since(r.last) >= r.every/2 {
				r.write(Reply{Beat: true}, nil)
			}
			r.mu.Unlock()
		}
	}
}

// write sends one reply and the raw bytes after it. mu is held.
func (r *replier) write(reply Reply, raw []byte) {
	if r.err != nil {
		return
	}
	b, err := json.Marshal(reply)
	if err == nil {
		_, err = r.w.Write(append(append(b, '\n'), raw...))
	}
	r.last = time.Now()
	if err != nil {
		r.err = err
		r.gone()
	}
}

func (r *replier) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(Reply{Say: text}, nil)
}

func (r *replier) stop() { r.once.Do(func() { close(r.quit) }) }

// finish sends the last reply. A result is sent beside an error too, where the
// verb gave one.
func (r *replier) finish(out any, failed error) error {
	r.stop()
	done := Reply{Done: true}
	if out != nil {
		b, err := json.Marshal(out)
		if err != nil && failed == nil {
			failed = fmt.Errorf("cannot encode the result: %w", err)
		}
		if err == nil {
			done.Out = b
		}
	}
	if failed != nil {
		done.Error, done.Code = failed.Error(), code(failed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(done, nil)
	if r.err != nil {
		return fmt.Errorf("cannot answer: %w", r.err)
	}
	return nil
}

// rawWriter sends a verb's stream in pieces.
type rawWriter struct{ r *replier }

func (w rawWriter) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		k := min(len(p), maxRaw)
		w.r.mu.Lock()
		w.r.write(Reply{Raw: k}, p[:k])
		err := w.r.err
		w.r.mu.Unlock()
		if err != nil {
			return n, fmt.Errorf("%w: %w", errCallerGone, err)
		}
		n += k
		p = p[k:]
	}
	return n, nil
}
