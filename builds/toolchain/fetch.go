package toolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"vmst.io/refit/builds"
)

// fetcher gets files by http.
type fetcher struct {
	// silence ends a server from which nothing comes for so long. One that goes on
	// sending is never ended.
	silence time.Duration
	// patience is how often a server is asked that did not answer, broke off or said
	// that it is not well.
	patience builds.Patience
	client   *http.Client
}

const (
	defaultSilence = time.Minute
	// maxText bounds what is read into memory, maxArchive what is put on the disk, in
	// bytes: Node's list of versions is 0.5 MB, its archive 55 MB.
	maxText    = 32 << 20
	maxArchive = 1 << 30
)

// errSilent is the cause of a context that ended with a server's silence.
var errSilent = errors.New("nothing came")

// statusError is an answer that is no 200.
type statusError struct {
	url  string
	code int
	text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("cannot fetch %s: the server answered %s", e.url, e.text)
}

// brokenError is a server that did not answer, fell silent or broke off.
type brokenError struct {
	url string
	err error
}

func (e *brokenError) Error() string { return fmt.Sprintf("cannot fetch %s: %v", e.url, e.err) }
func (e *brokenError) Unwrap() error { return e.err }

// passing tells whether a fetch that failed may go well the next time: the connection
// broke, or the server said that it is not well.
func passing(err error) bool {
	if s := new(statusError); errors.As(err, &s) {
		return s.code >= http.StatusInternalServerError || s.code == http.StatusTooManyRequests
	}
	b := new(brokenError)
	return errors.As(err, &b)
}

// open asks for a file; what it gives must be closed. Every read restarts the clock
// of the server's silence.
func (f fetcher) open(ctx context.Context, url string) (io.ReadCloser, error) {
	silence := f.silence
	if silence <= 0 {
		silence = defaultSilence
	}
	ctx, cancel := context.WithCancelCause(ctx)
	clock := time.AfterFunc(silence, func() {
		cancel(&brokenError{url, fmt.Errorf("%w for %s; is the server well?", errSilent, silence)})
	})
	fail := func(err error) (io.ReadCloser, error) {
		clock.Stop()
		defer cancel(nil)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, &brokenError{url, err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fail(err)
	}
	client := f.client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		clock.Stop()
		cancel(nil)
		return nil, errors.Join(&statusError{url, resp.StatusCode, resp.Status}, resp.Body.Close())
	}
	return &watched{resp.Body, ctx, cancel, clock, silence, url}, nil
}

// watched is a body with the clock of its server's silence.
type watched struct {
	body    io.ReadCloser
	ctx     context.Context //nolint:containedctx // its cause tells why the body ended
	cancel  context.CancelCauseFunc
	clock   *time.Timer
	silence time.Duration
	url     string
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if n > 0 {
		w.clock.Reset(w.silence)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(w.ctx); cause != nil {
			return n, cause
		}
		return n, &brokenError{w.url, err}
	}
	return n, err
}

func (w *watched) Close() error {
	w.clock.Stop()
	defer w.cancel(nil)
	return w.body.Close()
}

// text gets a small file whole.
func (f fetcher) text(ctx context.Context, url string) (body []byte, err error) {
	err = f.patience.Repeat(ctx, func() (again bool, err error) {
		body, err = f.textOnce(ctx, url)
		return passing(err), err
	})
	return body, err
}

func (f fetcher) textOnce(ctx context.Context, url string) ([]byte, error) {
	r, err := f.open(ctx, url)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxText {
		return nil, fmt.Errorf("cannot fetch %s: it is larger than %d bytes", url, maxText)
	}
	return b, nil
}

// missing tells whether a server said that it has no such file.
func missing(err error) bool {
	var s *statusError
	return errors.As(err, &s) && (s.code == http.StatusNotFound || s.code == http.StatusGone)
}

// archive puts a file of that checksum at to, unless it lies there already. It appears
// under its name whole and right, or not at all.
func (f fetcher) archive(ctx context.Context, url, sum, to string, say func(string)) error {
	if have, err := hashOf(to); err == nil && have == sum {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for %s: %w", filepath.Base(to), err)
	}
	return f.patience.Repeat(ctx, func() (again bool, err error) {
		say("fetching " + url)
		err = f.archiveOnce(ctx, url, sum, to)
		return passing(err), err
	})
}

func (f fetcher) archiveOnce(ctx context.Context, url, sum, to string) error {
	r, err := f.open(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read to its end, or given up with an error of its own
	temp, err := os.CreateTemp(filepath.Dir(to), ".refit-tmp-*")
	if err != nil {
		return fmt.Errorf("cannot keep %s: %w", filepath.Base(to), err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(temp, h), io.LimitReader(r, maxArchive+1))
	if err == nil && n > maxArchive {
		err = fmt.Errorf("cannot fetch %s: it is larger than %d bytes", url, maxArchive)
	}
	if got := hex.EncodeToString(h.Sum(nil)); err == nil && got != sum {
		err = fmt.Errorf("%s has SHA-256 %s (%d bytes), and %s was promised: it is not used; ask whoever runs that server", url, got, n, sum)
	}
	if err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

func hashOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
