package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"vmst.io/refit/builds/store"
)

func TestWhatAKilledProcessSentOfADumpIsTakenAwayAndNothingElse(t *testing.T) {
	server := s3Server(t)
	if server == nil {
		return
	}
	for _, prefix := range []string{"", "in/a/folder"} {
		b := server.bucket(t, prefix)
		bucket := strings.Split(strings.TrimPrefix(b.String(), server.url+"/"), "/")[0]
		c, err := minio.NewCore(strings.TrimPrefix(server.url, "http://"), &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		begin := func(key string) {
			id, err := c.NewMultipartUpload(t.Context(), bucket, path.Join(prefix, key), minio.PutObjectOptions{})
			if err == nil {
				_, err = c.PutObjectPart(t.Context(), bucket, path.Join(prefix, key), id, 1, strings.NewReader("half"), 4, minio.PutObjectPartOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		left := func() []string {
			var out []string
			for u := range c.Client.ListIncompleteUploads(t.Context(), bucket, "", true) {
				if u.Err != nil {
					t.Fatal(u.Err)
				}
				out = append(out, strings.TrimPrefix(u.Key, prefix+"/"))
			}
			slices.Sort(out)
			return out
		}
		theirs := []string{"dump/vmst.io.old/" + firstRun + "/database.pgdump", "dump/vmst.io/" + firstRun + "/photo.jpg", "media/1"}
		mine := "dump/vmst.io/" + firstRun + "/database.pgdump"
		for _, key := range append(theirs, mine) {
			begin(key)
		}
		now := time.Now()
		s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
		rule := store.Rule{Fleet: "vmst.io", Dumps: 1}
		if _, err := s.Prune(t.Context(), rule, func(string) bool { return false }); err != nil || len(left()) != 4 {
			t.Errorf("what may be at work: %v, left %v", err, left())
		}
		now = now.Add(25 * time.Hour)
		if _, err := s.Prune(t.Context(), rule, func(string) bool { return false }); err != nil || !slices.Equal(left(), theirs) {
			t.Errorf("a day later: %v, left %v", err, left())
		}
		begin(mine)
		dumped(t, s, "vmst.io", firstRun)
		if !slices.Equal(left(), theirs) {
			t.Errorf("when the run dumps again: left %v", left())
		}
		gone := errors.New("the link is gone")
		parts := archive("PGDMP")
		parts.Write = func(_ context.Context, w io.Writer, _ *store.Dump) error {
			_, err := w.Write(noise(5, 20<<20))
			return errors.Join(err, gone)
		}
		if _, err := s.PutDump(t.Context(), aDump("vmst.io", secondRun), parts); !errors.Is(err, gone) || !slices.Equal(left(), theirs) {
			t.Errorf("one that is cut: %v, left %v", err, left())
		}
	}
}

// endless gives the same bytes for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestAnObjectThatIsExpectedToBeHugeIsSentInPiecesThatFit(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for most, want := range map[int64]int{0: 8 * mib, 70 * gib: 8 * mib, 100 * gib: 12 * mib, 500 * gib: 57 * mib, 5000 * gib: 64 * mib} {
		var first int64
		b := against(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost:
				fmt.Fprint(w, `<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
			case r.Method == http.MethodPut:
				if n, err := io.Copy(io.Discard, r.Body); err == nil && first == 0 {
					first = n
				}
				w.WriteHeader(http.StatusForbidden)
			default:
				fmt.Fprint(w, `<ListMultipartUploadsResult/>`)
			}
		})
		err := b.Put(t.Context(), "k", expecting{endless{}, most})
		if err == nil || first < int64(want) || first > int64(want)+mib/2 {
			t.Errorf("of at most %d GiB the first piece has %d bytes, not %d (%v)", most/gib, first, want, err)
		}
	}
}

type expecting struct {
	io.Reader
	most int64
}

func (e expecting) Most() int64 { return e.most }

// stumbling ends, and then gives more: as a source looks of which the library took no more
// than its last possible piece.
type stumbling struct {
	first, more io.Reader
	ended       bool
}

func (s *stumbling) Read(b []byte) (int, error) {
	if s.ended {
		return s.more.Read(b)
	}
	n, err := s.first.Read(b)
	s.ended = err != nil
	return n, err
}

func TestAnObjectOfWhichTheEndWasLeftOutIsNone(t *testing.T) {
	server := s3Server(t)
	if server == nil {
		return
	}
	b := server.bucket(t, "")
	source := &stumbling{first: strings.NewReader(string(noise(7, 9<<20))), more: strings.NewReader("the end")}
	if err := b.Put(t.Context(), "k", source); err == nil || !strings.Contains(err.Error(), "k is larger than 10000 pieces of 8 MiB") {
		t.Errorf("%v", err)
	}
	if left := keysOf(t, b); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
