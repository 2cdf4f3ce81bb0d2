package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Options name a bucket and the key for it.
type S3Options struct {
	// Endpoint is the server's URL: "https://fra1.digitaloceanspaces.com".
	Endpoint string
	// Region as the server names it; empty to ask the server.
	Region string
	// Bucket is the bucket's name.
	Bucket string
	// Prefix stands before every key; empty for none.
	Prefix string
	// AccessKey and SecretKey sign the requests. The key must be allowed to list, read,
	// write and remove objects.
	AccessKey, SecretKey string
	// Silence is how long the server may say nothing in the middle of an exchange; 0 for
	// 30 seconds.
	Silence time.Duration
	// Tries is how often a request is made until it is given up; 0 for 4.
	Tries int
}

// S3 is a Bucket of a server that speaks S3.
type S3 struct {
	o S3Options
	c minio.Core
}

const (
	// partSize is the size of the pieces in which a larger object is sent, in bytes. Two
	// of them are held in memory.
	partSize = 8 << 20
	// mostParts make the largest object: S3 takes 10,000. Some of them are left for what
	// was not expected.
	mostParts, usualParts = 10_000, 9_000
	// largestPart bounds what is held in memory for an object that is expected to be
	// huge: 600 GB of it, in bytes.
	largestPart = 64 << 20
)

// partFor is the size of the pieces of an object of at most so many bytes.
func partFor(most int64) int {
	const step = 1 << 20
	return int(min(largestPart, max(partSize, (most/usualParts+step-1)/step*step)))
}

// tidying is how long the removal of what was begun may take after an error.
const tidying = time.Minute

// NewS3 makes an S3. It asks the server nothing.
func NewS3(o S3Options) (*S3, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%q is no S3 server's URL such as https://fra1.digitaloceanspaces.com", o.Endpoint)
	}
	if o.Silence == 0 {
		o.Silence = 30 * time.Second
	}
	if o.Tries == 0 {
		o.Tries = 4
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	transport, err := minio.DefaultTransport(u.Scheme == "https")
	if err != nil {
		return nil, err
	}
	// It counts from the last byte given to the kernel, which may hold a good deal of a
	// slow upload then. The connection's own limit is enough.
	transport.ResponseHeaderTimeout = 0
	transport.DialContext = awake(o.Silence)
	c, err := minio.NewCore(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""),
		Secure: u.Scheme == "https", Region: o.Region, Transport: transport, MaxRetries: o.Tries,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use the S3 server %s: %w", o.Endpoint, err)
	}
	return &S3{o: o, c: *c}, nil
}

// awake makes connections that end when the other side is silent in the middle of a
// transfer: the library's own limits end with the answer's first line.
func awake(silence time.Duration) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: silence, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			if err := tcp.SetWriteBuffer(unsent); err != nil {
				return nil, errors.Join(err, c.Close())
			}
		}
		return &impatient{c, silence}, nil
	}
}

const (
	// unsent bounds what the kernel holds of an upload, in bytes: nobody sees the
	// progress of that. It goes out within 30 seconds from 0.3 Mbit/s on.
	unsent = 512 << 10
	// stride is how much is written between two looks at the clock, in bytes.
	stride = 64 << 10
)

// impatient is a connection that ends when for a time nothing comes and nothing goes. An
// answer is waited for from the last of the request on: a read begins before that, and
// what is written meanwhile is progress.
type impatient struct {
	net.Conn
	silence time.Duration
}

func (c *impatient) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *impatient) Write(b []byte) (int, error) {
	done := 0
	for {
		// Of reads too.
		if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(b[done:min(len(b), done+stride)])
		done += n
		if err != nil || done == len(b) {
			return done, err
		}
	}
}

func (s *S3) String() string {
	return strings.TrimSuffix(s.o.Endpoint, "/") + "/" + path.Join(s.o.Bucket, s.o.Prefix)
}

func (s *S3) name(key string) string { return path.Join(s.o.Prefix, key) }

// Put implements Bucket.
func (s *S3) Put(ctx context.Context, key string, r io.Reader) error {
	return s.put(ctx, key, r, minio.PutObjectOptions{ContentType: "application/octet-stream"})
}

func (s *S3) put(ctx context.Context, key string, r io.Reader, o minio.PutObjectOptions) error {
	size := partSize
	if e, ok := r.(interface{ Most() int64 }); ok {
		size = partFor(e.Most())
	}
	o.PartSize, o.SendContentMd5 = uint64(size), true
	first := make([]byte, size)
	n, err := io.ReadFull(r, first)
	first = first[:n]
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		_, err = s.c.Client.PutObject(ctx, s.o.Bucket, s.name(key), bytes.NewReader(first), int64(n), o)
	case err == nil:
		_, err = s.c.Client.PutObject(ctx, s.o.Bucket, s.name(key), io.MultiReader(bytes.NewReader(first), r), -1, o)
		if err == nil {
			return s.atEnd(ctx, key, r, size)
		}
		// What was sent of it is kept, and paid for, until somebody takes it away.
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
		defer cancel()
		err = errors.Join(err, s.c.RemoveIncompleteUpload(tidy, s.o.Bucket, s.name(key)))
	}
	return s.said(key, err)
}

// atEnd makes sure that the source gives no more: the library ends an object after its
// last possible piece and says nothing of what is left.
func (s *S3) atEnd(ctx context.Context, key string, r io.Reader, size int) error {
	_, err := io.ReadFull(r, make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s is larger than %d pieces of %d MiB, which is all that S3 takes", key, mostParts, size>>20)
	}
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
	defer cancel()
	return errors.Join(err, s.Remove(tidy, key))
}

// Abandon takes away the pieces of uploads that were begun before a time and neither
// completed nor aborted: whoever sent them was killed.
func (s *S3) Abandon(ctx context.Context, prefix string, before time.Time, mine func(key string) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range s.c.Client.ListIncompleteUploads(ctx, s.o.Bucket, s.name(prefix), true) {
		if u.Err != nil {
			return s.said(prefix, u.Err)
		}
		key := u.Key
		if s.o.Prefix != "" {
			key = strings.TrimPrefix(key, s.o.Prefix+"/")
		}
		if !strings.HasPrefix(key, prefix) || !mine(key) || !u.Initiated.Before(before) {
			continue
		}
		if err := s.said(key, s.c.AbortMultipartUpload(ctx, s.o.Bucket, u.Key, u.UploadID)); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return context.Cause(ctx)
}

// Get implements Bucket.
func (s *S3) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if offset > 0 {
		if err := o.SetRange(offset, 0); err != nil {
			return nil, err
		}
	}
	r, _, _, err := s.c.GetObject(ctx, s.o.Bucket, s.name(key), o)
	if err != nil && minio.ToErrorResponse(err).Code == "InvalidRange" {
		return http.NoBody, nil // it ends before the offset
	}
	if err != nil {
		return nil, s.said(key, err)
	}
	return r, nil
}

// List implements Bucket.
func (s *S3) List(ctx context.Context, prefix string) ([]Item, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing where it stands after an error
	defer cancel()
	from := prefix
	if s.o.Prefix != "" {
		from = s.o.Prefix + "/" + prefix
	}
	var out []Item
	for o := range s.c.Client.ListObjects(ctx, s.o.Bucket, minio.ListObjectsOptions{Prefix: from, Recursive: true}) {
		if o.Err != nil {
			return nil, s.said(prefix, o.Err)
		}
		key := o.Key
		if s.o.Prefix != "" {
			key = strings.TrimPrefix(key, s.o.Prefix+"/")
		}
		out = append(out, Item{Key: key, Size: o.Size, Modified: o.LastModified})
	}
	return out, context.Cause(ctx)
}

// Remove implements Bucket.
func (s *S3) Remove(ctx context.Context, key string) error {
	err := s.said(key, s.c.RemoveObject(ctx, s.o.Bucket, s.name(key), minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// said puts the server's answer into words.
func (s *S3) said(key string, err error) error {
	if err == nil {
		return nil
	}
	switch minio.ToErrorResponse(err).Code {
	case "NoSuchKey", "NoSuchUpload":
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	case "NoSuchBucket":
		return fmt.Errorf("%s has no bucket %s: make it, or name another: %w", s.o.Endpoint, s.o.Bucket, err)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Errorf("%s does not accept the key for the bucket %s: it must be allowed to list, read, write and remove objects: %w", s.o.Endpoint, s.o.Bucket, err)
	}
	return err
}
