package mastodon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
)

// layoutWith makes an environment file and returns a layout that names it.
func layoutWith(t *testing.T, env string) Layout {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".env.production")
	if err := os.WriteFile(file, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	return Layout{Home: filepath.Dir(file), EnvFile: file}
}

// redisWith starts a Redis that asks for a password and whose clock stands at noon.
func redisWith(t *testing.T) (*miniredis.Miniredis, Layout) {
	t.Helper()
	r := miniredis.RunT(t)
	r.RequireAuth("hunter2-of-redis")
	r.SetTime(noon)
	return r, layoutWith(t, fmt.Sprintf("REDIS_HOST=%s\nREDIS_PORT=%s\nREDIS_PASSWORD=hunter2-of-redis\n", r.Host(), r.Port()))
}

func announce(r *miniredis.Miniredis, id, host string, pid int, tag, queues, beat, quiet, busy string) {
	r.SetAdd("processes", id)
	r.HSet(id, "info", fmt.Sprintf(`{"hostname":%q,"started_at":1795348800.25,"pid":%d,"tag":%q,"concurrency":25,"queues":%s,"version":"8.0.9"}`, host, pid, tag, queues))
	r.HSet(id, "beat", beat)
	r.HSet(id, "quiet", quiet)
	r.HSet(id, "busy", busy)
	r.HSet(id, "rss", "1024")
}

func TestProcessesAreReadAsTheyAnnounceThemselves(t *testing.T) {
	r, l := redisWith(t)
	beat := fmt.Sprintf("%d.5", noon.Unix()-4)
	announce(r, "decker:11:aa", "decker", 11, "v4.5.15", `["push","push","pull"]`, beat, "true", "2")
	r.HSet("decker:11:aa:work", "t1", `{"queue":"push","payload":"{\"class\":\"DeliveryWorker\"}","run_at":`+fmt.Sprint(noon.Unix()-60)+`}`)
	r.HSet("decker:11:aa:work", "t2", `{"queue":"pull","payload":{"class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper","wrapped":"MailJob"},"run_at":`+fmt.Sprint(noon.Unix()-30)+`}`)
	r.SetAdd("processes", "decker:9:dead")

	s, err := readSidekiq(context.Background(), SidekiqIn{Layout: l}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Process{{
		Identity: "decker:11:aa", Hostname: "decker", Pid: 11, Tag: "v4.5.15", Queues: []string{"pull", "push"}, Concurrency: 25, Busy: 2,
		Quiet: true, Beat: noon.Add(-3500 * time.Millisecond), Started: time.Unix(1795348800, 250000000).UTC(), Version: "8.0.9", RSS: 1 << 20,
		Work: []Work{{"DeliveryWorker", "push", noon.Add(-time.Minute)}, {"MailJob", "pull", noon.Add(-30 * time.Second)}},
	}}
	if diff := cmp.Diff(want, s.Processes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"decker:9:dead"}, s.Stale); diff != "" {
		t.Error(diff)
	}
	if got := s.Age(s.Processes[0]); got != 3500*time.Millisecond {
		t.Errorf("age %s", got)
	}
}

func TestARecordThatIsNotUnderstoodIsAnErrorAndNoIdleProcess(t *testing.T) {
	for name, field := range map[string][2]string{
		"info": {"info", "{"}, "beat": {"beat", "soon"}, "busy": {"busy", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, l := redisWith(t)
			announce(r, "decker:11:aa", "decker", 11, "v1", `[]`, "1795348800.1", "false", "0")
			r.HSet("decker:11:aa", field[0], field[1])
			if _, err := readSidekiq(context.Background(), SidekiqIn{Layout: l}, nil); err == nil || !strings.Contains(err.Error(), "decker:11:aa") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLatencyIsTheSameInSecondsAndInMilliseconds(t *testing.T) {
	r, l := redisWith(t)
	push := func(queue string, jobs ...string) {
		r.SetAdd("queues", queue)
		for _, j := range jobs {
			if _, err := r.Lpush("queue:"+queue, j); err != nil {
				t.Fatal(err)
			}
		}
	}
	push("seven", fmt.Sprintf(`{"class":"A","enqueued_at":%d.5}`, noon.Unix()-10), `{"class":"B","enqueued_at":1.0}`)
	push("eight", fmt.Sprintf(`{"class":"A","enqueued_at":%d}`, noon.UnixMilli()-9500))
	push("odd", `not json`)
	s, err := readSidekiq(context.Background(), SidekiqIn{Layout: l, Jobs: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Queue{{"eight", 1, 9500 * time.Millisecond}, {"odd", 1, 0}, {"seven", 2, 9500 * time.Millisecond}}
	if diff := cmp.Diff(want, s.Queues); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{"A": 2, "B": 1, "unknown": 1}, s.Jobs.Queued); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyNameErrorsSinceTheTimeAskedForCount(t *testing.T) {
	r, l := redisWith(t)
	retry := func(score float64, job string) {
		if _, err := r.ZAdd("retry", score, job); err != nil {
			t.Fatal(err)
		}
	}
	retry(1, fmt.Sprintf(`{"class":"NewWorker","error_class":"NameError","failed_at":%d}`, noon.UnixMilli()-1000))
	retry(2, fmt.Sprintf(`{"class":"NewWorker","error_class":"NameError","failed_at":%d.5,"retried_at":%d.5}`, noon.Unix()-7200, noon.Unix()-30))
	retry(3, fmt.Sprintf(`{"class":"OldWorker","error_class":"NameError","failed_at":%d.5}`, noon.Unix()-3600))
	retry(4, fmt.Sprintf(`{"class":"NewWorker","error_class":"RuntimeError","failed_at":%d.5}`, noon.Unix()-1))
	if err := r.Set("stat:processed", "41"); err != nil {
		t.Fatal(err)
	}
	s, err := readSidekiq(context.Background(), SidekiqIn{Layout: l, Since: noon.Add(-time.Minute)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.NameErrors != 2 || s.NameErrorClasses["NewWorker"] != 2 || s.Retry != 4 || s.Processed != 41 || s.Jobs != nil {
		t.Errorf("got %+v", s)
	}
}

func TestACountOfJobsIsBoundedAndSaysSo(t *testing.T) {
	r, l := redisWith(t)
	r.SetAdd("queues", "default")
	for i := range 1201 {
		if _, err := r.Lpush("queue:default", fmt.Sprintf(`{"class":"A","jid":"%d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readSidekiq(context.Background(), SidekiqIn{Layout: l, Jobs: true, MaxJobs: 1100}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Jobs.Queued["A"] != 1100 || !cmp.Equal(s.Jobs.Cut, []string{"default"}) {
		t.Errorf("got %+v", s.Jobs)
	}
}

func TestWaitingForIdleEndsWithTheLastJob(t *testing.T) {
	busy := Process{Hostname: "decker", Pid: 11, Quiet: true, Busy: 1, Work: []Work{{Class: "ImportWorker"}}}
	loud := Process{Hostname: "decker", Pid: 12}
	other := Process{Hostname: "scotty", Pid: 11, Busy: 5}
	idle := Process{Hostname: "decker", Pid: 11, Quiet: true}
	answers := []SidekiqState{
		{Processes: []Process{busy, loud, other}},
		{Processes: []Process{busy, other}}, // 12 has ended
		{Processes: []Process{idle, other}},
	}
	read := func(context.Context) (SidekiqState, error) {
		s := answers[0]
		answers = answers[1:]
		return s, nil
	}
	var said []string
	got, err := waitIdle(context.Background(), read, IdleOptions{Hostname: "decker", Every: time.Microsecond}, func(s string) { said = append(said, s) })
	if err != nil || got.Busy != 0 || len(answers) != 0 {
		t.Fatalf("%+v, %v, %d answers left", got, err, len(answers))
	}
	want := []string{"process 11 works on ImportWorker 1, process 12 has not said yet that it is quiet", "process 11 works on ImportWorker 1"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

func TestWhenTheTimeIsUpTheJobsThatAreLeftAreTold(t *testing.T) {
	read := func(context.Context) (SidekiqState, error) {
		return SidekiqState{Processes: []Process{{Hostname: "decker", Pid: 11, Quiet: true, Busy: 3}}}, nil
	}
	got, err := waitIdle(context.Background(), read, IdleOptions{Hostname: "decker", Within: time.Nanosecond}, nil)
	if err != nil || got.Busy != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWaitingForIdleEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	read := func(context.Context) (SidekiqState, error) {
		cancel()
		return SidekiqState{Processes: []Process{{Hostname: "decker", Busy: 1}}}, nil
	}
	if _, err := waitIdle(ctx, read, IdleOptions{Hostname: "decker", Every: time.Hour}, nil); err == nil {
		t.Error("no error")
	}
}

func TestAQuietedProcessIsIdleWhenItsLastThreadThatTakesJobsHasEnded(t *testing.T) {
	loud := Process{Hostname: "decker", Pid: 11, Busy: 1}
	for name, c := range map[string]struct {
		threads []map[int]int
		looks   int // after which it is idle; 0 if only its own word tells
	}{
		"they end":                    {[]map[int]int{{11: 5}, {11: 1}, {11: 0}}, 3},
		"it ends":                     {[]map[int]int{{11: Ended}}, 1},
		"none was ever told apart":    {[]map[int]int{{11: 0}, {11: 0}}, 0},
		"nothing is known of them":    {[]map[int]int{nil, nil}, 0},
		"one works on":                {[]map[int]int{{11: 5}, {11: 1}, {11: 1}}, 0},
		"another process' have ended": {[]map[int]int{{11: 5, 12: 1}, {11: 2, 12: 0}}, 0},
	} {
		looks := 0
		ctx, cancel := context.WithCancel(context.Background())
		read := func(context.Context) (SidekiqState, error) {
			s := SidekiqState{Processes: []Process{loud}}
			if looks < len(c.threads) {
				s.Threads = c.threads[looks]
			}
			if looks++; looks == len(c.threads) && c.looks == 0 {
				cancel() // it would wait on
			}
			return s, nil
		}
		_, err := waitIdle(ctx, read, IdleOptions{Hostname: "decker", Every: time.Microsecond}, nil)
		if (err == nil) != (c.looks > 0) || err == nil && looks != c.looks {
			t.Errorf("%s: %v after %d looks", name, err, looks)
		}
		cancel()
	}
}

func TestThreadsThatTakeJobsAreToldByTheNamesThatSidekiqGivesThem(t *testing.T) {
	proc := t.TempDir()
	for pid, names := range map[string][]string{
		"11": {"ruby3.3", "sidekiq.heartbe", "sidekiq.schedul", "sidekiq.default", "sidekiq.default", "AR Pool Reaper"},
		"12": {"ruby", "processor", "processor", "processor", "heartbeat", "scheduler"}, // Sidekiq 6.5
		"13": {"ruby3.3", "sidekiq.heartbe"},
	} {
		for i, name := range names {
			dir := filepath.Join(proc, pid, "task", strconv.Itoa(i))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "comm"), []byte(name+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := jobThreads(proc, []int{11, 12, 13, 14})
	if diff := cmp.Diff(map[int]int{11: 2, 12: 3, 13: 0, 14: Ended}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
