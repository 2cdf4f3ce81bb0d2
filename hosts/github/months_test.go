package github_test

import (
	"runtime"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

// heap is what is in use once the garbage is out.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Ten thousand polls, one every five minutes, are five weeks: of a list of three
// pages and of three tags that are pinned.
func TestTenThousandIdlePollsCostNothingAndLeaveNothing(t *testing.T) {
	polls, warm := 10_000, 1_000
	if raced {
		polls, warm = 1_000, 100
	}
	play(t, githubtest.Options{}, func(s story) {
		s.fill(250)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		var pinned []github.Identity
		for _, tag := range []string{"v1.0.1", "v1.0.100", "v1.0.250"} {
			pinned = append(pinned, s.identify(c, tag, github.Identity{}))
		}
		first := s.Count(token)
		var before uint64
		var goroutines int
		for i := range polls {
			if i == warm {
				before, goroutines = heap(), runtime.NumGoroutine()
			}
			time.Sleep(5 * time.Minute)
			list := s.poll(c, known)
			if list.Changed || list.Renewed || len(list.Releases) != 250 {
				s.Fatalf("poll %d: changed %v, renewed %v, %d releases", i, list.Changed, list.Renewed, len(list.Releases))
			}
			known = list.Known
			for j := range pinned {
				pinned[j] = s.identify(c, pinned[j].Tag, pinned[j])
			}
		}
		last := s.Count(token)
		after := heap()
		s.Logf("%d polls: %d requests, all of them 304: %d; spent %d; heap %d KiB after %d polls, %d KiB at the end; %d goroutines, then %d",
			polls, last.Requests-first.Requests, last.NotModified-first.NotModified, last.Spent-first.Spent, before>>10, warm, after>>10, goroutines, runtime.NumGoroutine())
		if last.Spent != first.Spent || last.NotModified-first.NotModified != 6*polls || last.Refused != 0 {
			s.Errorf("before %+v, after %+v", first, last)
		}
		if grown := int64(after) - int64(before); grown > 256<<10 {
			s.Errorf("the heap grew by %d KiB", grown>>10)
		}
		if n := runtime.NumGoroutine(); n > goroutines+2 {
			s.Errorf("%d goroutines became %d", goroutines, n)
		}
	})
}
