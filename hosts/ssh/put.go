package ssh

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts"
)

// put writes a file in two commands. The first writes it under a temporary name,
// flushes it and tells its hash; a link that is cut ends its input like a file's
// end would, so only the second, after the hashes were compared, renames it. The
// content travels compressed: refit's own binary, 30 MB, becomes a third.
func put(ctx context.Context, sh hosts.Shell, name, file string, mode fs.FileMode, r io.Reader) (err error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	temp := path.Join(path.Dir(file), ".refit-tmp-"+hex.EncodeToString(id[:]))
	fail := func(err error) error { return fmt.Errorf("%s: cannot write %s: %w", name, file, err) }
	defer func() {
		if err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrSilent) {
			// A short time of its own: ctx may be what ended.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			err = errors.Join(err, sh.Run(ctx, hosts.Command{Argv: []string{"rm", "-f", "--", temp}}, nil))
		}
	}()
	h := sha256.New()
	var out bytes.Buffer
	packed := compress(io.TeeReader(r, h))
	defer packed.Close() //nolint:errcheck // frees the compressing goroutine; its error is in src
	src := &noting{r: packed}
	script := `umask 077 && gzip -dc > "$1" && chmod "$2" "$1" && sync "$1" && sha256sum < "$1"`
	err = sh.Run(ctx, hosts.Command{Argv: []string{"sh", "-c", script, "refit-put", temp, fmt.Sprintf("%o", mode.Perm())}, Stdin: src}, &out)
	if failed := src.failure(); failed != nil {
		return fail(failed)
	}
	if err != nil {
		return fail(err)
	}
	want := hex.EncodeToString(h.Sum(nil))
	if got, _, _ := strings.Cut(out.String(), " "); got != want {
		return fail(fmt.Errorf("%w: what arrived has hash %.16s instead of %.16s", ErrLost, got, want))
	}
	script = `mv -fT "$1" "$2" && sync "${2%/*}"`
	if err := sh.Run(ctx, hosts.Command{Argv: []string{"sh", "-c", script, "refit-put", temp, file}}, nil); err != nil {
		return fail(err)
	}
	return nil
}

// compress is r compressed. Closing it ends the goroutine that compresses.
func compress(r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		// The library writes some 200 bytes at a time, each of which would become a
		// packet of its own.
		b := bufio.NewWriterSize(pw, 32<<10)
		// The fastest level: it must not be slower than a good network.
		z, err := gzip.NewWriterLevel(b, gzip.BestSpeed)
		if err == nil {
			_, err = io.Copy(z, r)
		}
		if err == nil {
			err = errors.Join(z.Close(), b.Flush())
		}
		pw.CloseWithError(err)
	}()
	return pr
}

// noting remembers why its reader failed. A command that ended early may leave it
// being read.
type noting struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	}
	return k, err
}

func (n *noting) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Put writes a file whole: temporary name, flush, comparison of hashes, rename.
// path must be absolute.
func (c *Client) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	return put(ctx, c, c.name, path, mode, r)
}
