package mastodon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// chunk is how many entries of a queue or set are read at a time.
const chunk = 500

// readSidekiq is the verb "sidekiq".
func readSidekiq(ctx context.Context, in SidekiqIn, _ func(string)) (SidekiqState, error) {
	var s SidekiqState
	err := withRedis(ctx, in.Layout, "SIDEKIQ_", func(ctx context.Context, c *redis.Client) error {
		var err error
		s, err = snapshot(ctx, c, in)
		return err
	})
	if err != nil || len(in.Pids) == 0 {
		return s, err
	}
	s.Threads, err = jobThreads("/proc", in.Pids)
	return s, err
}

func snapshot(ctx context.Context, c *redis.Client, in SidekiqIn) (SidekiqState, error) {
	s := SidekiqState{Processes: []Process{}, Queues: []Queue{}}
	var err error
	if s.Now, err = c.Time(ctx).Result(); err != nil {
		return s, err
	}
	if err := s.readProcesses(ctx, c); err != nil {
		return s, err
	}
	if err := s.readQueues(ctx, c); err != nil {
		return s, err
	}
	for key, field := range map[string]*int64{"retry": &s.Retry, "dead": &s.Dead, "schedule": &s.Schedule} {
		if *field, err = c.ZCard(ctx, key).Result(); err != nil {
			return s, err
		}
	}
	for key, field := range map[string]*int64{"stat:processed": &s.Processed, "stat:failed": &s.Failed} {
		if *field, err = c.Get(ctx, key).Int64(); err != nil && !errors.Is(err, redis.Nil) {
			return s, err
		}
	}
	return s, s.readJobs(ctx, c, in)
}

// readProcesses reads the records that live processes renew. An identity whose
// record is gone belongs to a dead process, though the set may list it for long.
func (s *SidekiqState) readProcesses(ctx context.Context, c *redis.Client) error {
	ids, err := c.SMembers(ctx, "processes").Result()
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for _, id := range ids {
		record, err := c.HGetAll(ctx, id).Result()
		if err != nil {
			return err
		}
		if record["info"] == "" || record["beat"] == "" {
			s.Stale = append(s.Stale, id)
			continue
		}
		p, err := process(id, record)
		if err != nil {
			return fmt.Errorf("the record of %s: %w", id, err)
		}
		work, err := c.HGetAll(ctx, id+":work").Result()
		if err != nil {
			return err
		}
		for _, v := range work {
			p.Work = append(p.Work, workOf(v))
		}
		slices.SortFunc(p.Work, func(a, b Work) int { return a.Since.Compare(b.Since) })
		s.Processes = append(s.Processes, p)
	}
	slices.SortFunc(s.Processes, func(a, b Process) int {
		if d := strings.Compare(a.Hostname, b.Hostname); d != 0 {
			return d
		}
		return a.Pid - b.Pid
	})
	return nil
}

// process reads a process's record (sidekiq/launcher.rb, the same from 6.5 to 8.1).
func process(id string, record map[string]string) (Process, error) {
	p := Process{Identity: id, Quiet: record["quiet"] == "true"}
	var info struct {
		Hostname    string      `json:"hostname"`
		StartedAt   json.Number `json:"started_at"`
		Pid         int         `json:"pid"`
		Tag         string      `json:"tag"`
		Concurrency int         `json:"concurrency"`
		Queues      []string    `json:"queues"`
		Version     string      `json:"version"`
	}
	if err := json.Unmarshal([]byte(record["info"]), &info); err != nil {
		return p, fmt.Errorf("its info is not understood: %w", err)
	}
	p.Hostname, p.Pid, p.Tag, p.Version = info.Hostname, info.Pid, info.Tag, info.Version
	slices.Sort(info.Queues)
	p.Queues = slices.Compact(info.Queues) // weights repeat a queue's name
	p.Started = moment(info.StartedAt)
	p.Beat = moment(json.Number(record["beat"]))
	if p.Beat.IsZero() {
		return p, fmt.Errorf("its beat is %q", record["beat"])
	}
	p.Concurrency = info.Concurrency
	var err error
	if p.Busy, err = strconv.Atoi(record["busy"]); err != nil {
		return p, fmt.Errorf("its busy is %q", record["busy"])
	}
	if rss, err := strconv.ParseInt(record["rss"], 10, 64); err == nil {
		p.RSS = rss * 1024 // told in KiB
	}
	return p, nil
}

// job is the part of a job's JSON that is read here.
type job struct {
	Class      string      `json:"class"`
	Wrapped    string      `json:"wrapped"`
	EnqueuedAt json.Number `json:"enqueued_at"`
	FailedAt   json.Number `json:"failed_at"`
	RetriedAt  json.Number `json:"retried_at"`
	ErrorClass string      `json:"error_class"`
}

// name is the class that a person knows: ActiveJob's own class wraps another.
func (j job) name() string {
	if j.Wrapped != "" {
		return j.Wrapped
	}
	return j.Class
}

// workOf reads a value of the work hash: up to Sidekiq 6 its payload is an object,
// from 7 on a string that holds one.
func workOf(v string) Work {
	var w struct {
		Queue   string          `json:"queue"`
		Payload json.RawMessage `json:"payload"`
		RunAt   json.Number     `json:"run_at"`
	}
	if err := json.Unmarshal([]byte(v), &w); err != nil {
		return Work{Class: "unknown"}
	}
	payload := []byte(w.Payload)
	var text string
	if json.Unmarshal(payload, &text) == nil {
		payload = []byte(text)
	}
	var j job
	if err := json.Unmarshal(payload, &j); err != nil || j.name() == "" {
		j.Class = "unknown"
	}
	return Work{Class: j.name(), Queue: w.Queue, Since: moment(w.RunAt)}
}

// moment reads Sidekiq's times: seconds with a fraction up to version 7, whole
// milliseconds from 8 on. 1e11 is the year 5138 as seconds and 1973 as
// milliseconds, so the size of the number tells.
func moment(n json.Number) time.Time {
	f, err := n.Float64()
	if err != nil || f <= 0 || math.IsInf(f, 0) {
		return time.Time{}
	}
	if f > 1e11 {
		return time.UnixMilli(int64(f)).UTC()
	}
	seconds, fraction := math.Modf(f)
	return time.Unix(int64(seconds), int64(fraction*1e9)).UTC()
}

func (s *SidekiqState) readQueues(ctx context.Context, c *redis.Client) error {
	names, err := c.SMembers(ctx, "queues").Result()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		q := Queue{Name: name}
		if q.Size, err = c.LLen(ctx, "queue:"+name).Result(); err != nil {
			return err
		}
		oldest, err := c.LIndex(ctx, "queue:"+name, -1).Result()
		switch {
		case errors.Is(err, redis.Nil): // emptied meanwhile
			q.Size = 0
		case err != nil:
			return err
		default:
			var j job
			if err := json.Unmarshal([]byte(oldest), &j); err == nil {
				if at := moment(j.EnqueuedAt); !at.IsZero() {
					q.Latency = max(0, s.Now.Sub(at))
				}
			}
		}
		s.Queues = append(s.Queues, q)
	}
	return nil
}

// readJobs counts by class what waits, and the NameErrors among the retries.
func (s *SidekiqState) readJobs(ctx context.Context, c *redis.Client, in SidekiqIn) error {
	if !in.Jobs && in.Since.IsZero() {
		return nil
	}
	most := in.MaxJobs
	if most == 0 {
		most = 20000
	}
	counts := JobCounts{Queued: map[string]int64{}, Retried: map[string]int64{}, Scheduled: map[string]int64{}}
	scan := func(name string, size int64, read func(from, to int64) ([]string, error), each func(job)) error {
		if size > int64(most) {
			counts.Cut = append(counts.Cut, name)
			size = int64(most)
		}
		for from := int64(0); from < size; from += chunk {
			jobs, err := read(from, min(from+chunk, size)-1)
			if err != nil {
				return err
			}
			for _, raw := range jobs {
				var j job
				if err := json.Unmarshal([]byte(raw), &j); err != nil || j.name() == "" {
					j.Class = "unknown"
				}
				each(j)
			}
		}
		return nil
	}
	set := func(key string) func(from, to int64) ([]string, error) {
		return func(from, to int64) ([]string, error) {
			//lint:ignore SA1019 ZRANGE REV needs Redis 6.2, and Mastodon 4.3 runs on 4
			return c.ZRevRange(ctx, key, from, to).Result()
		}
	}
	// The newest retries, those due last, are read first: it is they that tell of a
	// burst if there are too many to read all.
	err := scan("retry", s.Retry, set("retry"), func(j job) {
		counts.Retried[j.name()]++
		if j.ErrorClass == "NameError" && !in.Since.IsZero() && !j.failed().Before(in.Since) {
			if s.NameErrorClasses == nil {
				s.NameErrorClasses = map[string]int64{}
			}
			s.NameErrors++
			s.NameErrorClasses[j.name()]++
		}
	})
	if err != nil || !in.Jobs {
		return err
	}
	if err := scan("schedule", s.Schedule, set("schedule"), func(j job) { counts.Scheduled[j.name()]++ }); err != nil {
		return err
	}
	for _, q := range s.Queues {
		read := func(from, to int64) ([]string, error) { return c.LRange(ctx, "queue:"+q.Name, from, to).Result() }
		if err := scan(q.Name, q.Size, read, func(j job) { counts.Queued[j.name()]++ }); err != nil {
			return err
		}
	}
	s.Jobs = &counts
	return nil
}

// failed is when the job failed last.
func (j job) failed() time.Time {
	if t := moment(j.RetriedAt); !t.IsZero() {
		return t
	}
	return moment(j.FailedAt)
}
