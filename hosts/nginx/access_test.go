package nginx

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFormatsOfTheAccessLog(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		want entry
	}{
		"combined": {
			`10.0.0.5 - - [22/Nov/2026:18:00:00 +0000] "GET /about HTTP/1.1" 200 512 "https://x.test/?a=\x22b\x22" "Mozilla/5.0 (X11; Linux)"`,
			entry{status: 200, took: -1},
		},
		"combined with a user": {
			`10.0.0.5 - anna [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 502 0 "-" "-"`,
			entry{status: 502, took: -1},
		},
		"appended, quoted": {
			`10.0.0.5 - - [22/Nov/2026:18:00:00 +0000] "POST /inbox HTTP/1.1" 202 0 "-" "x" request_time="0.105" upstream_addr="10.77.0.21:3000, 10.77.0.22:3000"`,
			entry{status: 202, took: 105 * time.Millisecond, upstream: "10.77.0.22:3000"},
		},
		"appended, plain": {
			`10.77.0.5 - [2026-11-22T18:00:00+00:00] "GET / HTTP/1.1" 200 99 rt=0.011 ua=10.77.0.21:3000 us=200 ut=0.010`,
			entry{status: 200, took: 11 * time.Millisecond, upstream: "10.77.0.21:3000"},
		},
		"a retried one, plain": {
			`10.77.0.5 - [2026-11-22T18:00:00+00:00] "GET / HTTP/1.1" 500 99 rt=0.011 ua=10.77.0.21:3000, 10.77.0.22:3000 us=502, 500 ut=0.001, 0.010`,
			entry{status: 500, took: 11 * time.Millisecond, upstream: "10.77.0.22:3000"},
		},
		"no upstream": {
			`10.77.0.5 - [2026-11-22T18:00:00+00:00] "GET / HTTP/1.1" 301 99 rt=0.000 ua=- us=- ut=-`,
			entry{status: 301},
		},
		"a browser called ua": {
			`10.77.0.5 - [x] "GET / HTTP/1.1" 200 99 ua="Mozilla: the browser"`,
			entry{status: 200, took: -1},
		},
		"a request that is none": {
			`10.77.0.5 - - [x] "\x16\x03\x01" 400 150 "-" "-"`,
			entry{status: 400, took: -1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := readEntry(c.line + "\n")
			if !ok || got != c.want {
				t.Errorf("got %+v, %v", got, ok)
			}
		})
	}
	for _, bad := range []string{"", "hello", `"GET /" abc`, `"GET /"`, `"GET /" 99 1`, `x "unfinished`} {
		if e, ok := readEntry(bad); ok {
			t.Errorf("%q was read as %+v", bad, e)
		}
	}
}

func FuzzNoLineOfALogStopsTheReader(f *testing.F) {
	f.Add(`10.77.0.5 - [x] "GET / HTTP/1.1" 200 99 rt=0.011 ua=10.77.0.21:3000, x us="`)
	f.Add(`[ " = ,`)
	f.Fuzz(func(_ *testing.T, line string) { readEntry(line) })
}

// accessLog is a log in a directory of its own.
type accessLog struct {
	t    *testing.T
	path string
}

func newLog(t *testing.T) accessLog {
	return accessLog{t, filepath.Join(t.TempDir(), "access.log")}
}

func (l accessLog) write(lines ...string) {
	l.t.Helper()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := f.WriteString(strings.Join(lines, "")); err != nil {
		l.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		l.t.Fatal(err)
	}
}

func (l accessLog) read(since Cursor) Access {
	l.t.Helper()
	a, err := readAccess(context.Background(), AccessIn{Path: l.path, Since: since}, quiet)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func logged(status, upstream, seconds string) string {
	return `10.77.0.5 - [x] "GET / HTTP/1.1" ` + status + ` 1 rt=` + seconds + ` ua=` + upstream + "\n"
}

func TestOnlyWhatWasLoggedSinceTheCursorCounts(t *testing.T) {
	l := newLog(t)
	l.write(logged("500", "10.77.0.21:3000", "0.1"))
	first := l.read(Cursor{})
	if first.Requests != 0 || first.Next == (Cursor{}) {
		t.Fatalf("%+v", first)
	}
	l.write(
		logged("200", "10.77.0.21:3000", "0.100"), logged("502", "10.77.0.22:3000", "0.300"),
		logged("101", "10.77.0.21:4000", "900"), "nonsense\n", logged("200", "10.77.0.21:3000", "0.200")[:30],
	)
	got := l.read(first.Next)
	if got.Requests != 3 || got.Errors != 1 || got.Unreadable != 1 || !got.Timed || got.Max != 300*time.Millisecond {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(Traffic{Requests: 1, Errors: 1, P50: 300 * time.Millisecond, P95: 300 * time.Millisecond, Max: 300 * time.Millisecond}, got.Upstreams["10.77.0.22:3000"]); diff != "" {
		t.Error(diff)
	}
	l.write(logged("200", "10.77.0.21:3000", "0.200")[30:])
	if rest := l.read(got.Next); rest.Requests != 1 || rest.Unreadable != 0 {
		t.Errorf("the unfinished line: %+v", rest)
	}
}

func TestARotationLosesNothing(t *testing.T) {
	l := newLog(t)
	l.write(logged("200", "-", "0.1"))
	since := l.read(Cursor{}).Next
	l.write(logged("500", "-", "0.1"))
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
	l.write(logged("200", "-", "0.1"), logged("200", "-", "0.1"))
	got := l.read(since)
	if got.Requests != 3 || got.Errors != 1 || !got.Rotated || got.Lost {
		t.Errorf("%+v", got)
	}
	if again := l.read(got.Next); again.Requests != 0 || again.Rotated {
		t.Errorf("%+v", again)
	}
}

func TestLinesThatARotationTookAwayAreSaidToBeLost(t *testing.T) {
	t.Run("compressed or removed", func(t *testing.T) {
		l := newLog(t)
		l.write(logged("200", "-", "0.1"))
		since := l.read(Cursor{}).Next
		since.Inode++ // of a file that is gone
		if got := l.read(since); got.Requests != 1 || !got.Lost || !got.Rotated {
			t.Errorf("%+v", got)
		}
	})
	t.Run("emptied in its place", func(t *testing.T) {
		l := newLog(t)
		l.write(logged("200", "-", "0.1"), logged("200", "-", "0.1"))
		since := l.read(Cursor{}).Next
		if err := os.Truncate(l.path, 0); err != nil {
			t.Fatal(err)
		}
		l.write(logged("200", "-", "0.1"))
		if got := l.read(since); got.Requests != 1 || !got.Lost || !got.Rotated {
			t.Errorf("%+v", got)
		}
	})
}

func TestALogThatIsNotThereIsAnError(t *testing.T) {
	if _, err := readAccess(context.Background(), AccessIn{Path: filepath.Join(t.TempDir(), "none.log")}, quiet); err == nil {
		t.Error("no error")
	}
}
