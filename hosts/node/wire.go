package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A request's argument longer than packFrom bytes travels compressed: the list of the
// files to pack of a first release has 200 kB as JSON and must also pass a slow link.
const packFrom = 64 << 10

// maxRequest bounds an argument, packed or not, in bytes.
const maxRequest = 128 << 20

// encodeRequest makes the bytes that stand before a payload.
func encodeRequest(r Request, in any) ([]byte, error) {
	var packed []byte
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		if len(b) < packFrom {
			r.In = b
		} else {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return nil, err
			}
			packed = w.EncodeAll(b, nil)
			r.Packed = int64(len(packed))
			if err := w.Close(); err != nil {
				return nil, err
			}
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), packed...), nil
}

// readRequest reads what encodeRequest made and leaves r at the payload.
func readRequest(r *bufio.Reader) (Request, error) {
	var req Request
	line, err := r.ReadBytes('\n')
	if err != nil {
		return req, fmt.Errorf("cannot read the request: %w", err)
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return req, fmt.Errorf("cannot read the request: %w", err)
	}
	if req.Packed == 0 {
		return req, nil
	}
	if req.Packed > maxRequest {
		return req, fmt.Errorf("the request is too long: %d bytes", req.Packed)
	}
	packed := make([]byte, req.Packed)
	if _, err := io.ReadFull(r, packed); err != nil {
		return req, fmt.Errorf("cannot read the request: %w", err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRequest))
	if err != nil {
		return req, err
	}
	defer d.Close()
	if req.In, err = d.DecodeAll(packed, nil); err != nil {
		return req, fmt.Errorf("cannot unpack the request: %w", err)
	}
	return req, nil
}

// decode reads a verb's argument or result; nothing at all is the zero value.
func decode(b json.RawMessage, v any) error {
	if len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, v)
}

// requestReader is what a verb reads: the request, then the payload. It notes
// why the payload could not be read, which a Shell does not report.
type requestReader struct {
	head    []byte
	payload io.Reader
	touch   func()

	mu  sync.Mutex
	err error
}

func (r *requestReader) Read(p []byte) (int, error) {
	r.touch()
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.payload == nil {
		return 0, io.EOF
	}
	n, err := r.payload.Read(p)
	r.touch()
	if err != nil && !errors.Is(err, io.EOF) {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

func (r *requestReader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// replyParser takes a verb's output apart as it arrives. It is written to from
// one goroutine; its fields are read once that has ended.
type replyParser struct {
	say   func(string)
	raw   io.Writer
	touch func()
	pause func()

	line []byte
	left int // raw bytes still to come
	any  bool
	done *Reply
	err  error
}

func (p *replyParser) Write(b []byte) (int, error) {
	p.touch()
	n := len(b)
	for len(b) > 0 {
		if p.left > 0 {
			k := min(p.left, len(b))
			if p.raw == nil {
				return 0, p.fail(errors.New("the verb sent bytes that nobody asked for"))
			}
			// Whoever takes the bytes may be slow; that is not the host's silence.
			p.pause()
			_, err := p.raw.Write(b[:k])
			p.touch()
			if err != nil {
				return 0, p.fail(fmt.Errorf("cannot pass on what the verb sent: %w", err))
			}
			p.left -= k
			b = b[k:]
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			p.line = append(p.line, b...)
			break
		}
		p.line = append(p.line, b[:i]...)
		b = b[i+1:]
		if err := p.reply(p.line); err != nil {
			return 0, p.fail(err)
		}
		p.line = p.line[:0]
	}
	return n, nil
}

func (p *replyParser) reply(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	var r Reply
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("not an answer of the agent: %.200q", line)
	}
	p.any = true
	switch {
	case r.Done:
		p.done = &r
	case r.Raw > 0:
		p.left = r.Raw
	case r.Say != "" && p.say != nil:
		p.say(r.Say)
	}
	return nil
}

func (p *replyParser) fail(err error) error {
	p.err = err
	return err
}

// silence calls an end when nothing touched it for a time. It begins to count at
// the first touch: making a connection has time limits of its own.
type silence struct {
	after time.Duration
	mu    sync.Mutex
	timer *time.Timer
	end   func()
	over  bool
}

func newSilence(after time.Duration, end func()) *silence {
	return &silence{after: after, end: end}
}

func (s *silence) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case s.timer == nil:
		s.timer = time.AfterFunc(s.after, s.end)
	default:
		s.timer.Reset(s.after)
	}
}

// pause stops counting until the next touch.
func (s *silence) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (s *silence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
