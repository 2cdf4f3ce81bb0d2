package mastodon

import (
	"slices"
	"time"
)

// SidekiqIn asks for the state of Sidekiq.
type SidekiqIn struct {
	Layout Layout `json:"layout"`
	// Jobs counts jobs by class in the queues, the retry set and the schedule.
	Jobs bool `json:"jobs,omitempty"`
	// MaxJobs bounds that count per queue and set; 0 for 20000.
	MaxJobs int `json:"max_jobs,omitempty"`
	// Since, when set, counts the retries that failed with a NameError since then.
	Since time.Time `json:"since,omitzero"`
	// Pids are Sidekiq processes of the host that is asked, whose threads are counted.
	Pids []int `json:"pids,omitempty"`
}

// SidekiqState is a snapshot of what all Sidekiq processes say of themselves in
// Redis and of what waits there. Times are by the clock of Redis.
type SidekiqState struct {
	// Now is the time of Redis when the snapshot was taken.
	Now time.Time `json:"now"`
	// Processes are those whose record exists, by hostname and process ID.
	Processes []Process `json:"processes"`
	// Stale are identities that are still listed while their record is gone:
	// processes that died within the last minutes.
	Stale  []string `json:"stale,omitempty"`
	Queues []Queue  `json:"queues"`
	// Sizes of the retry set, the dead set and the schedule.
	Retry    int64 `json:"retry"`
	Dead     int64 `json:"dead"`
	Schedule int64 `json:"schedule"`
	// Processed and Failed are the counters over all time.
	Processed int64 `json:"processed"`
	Failed    int64 `json:"failed"`
	// NameErrors are the retries that failed with a NameError since the time asked
	// for: jobs of a class that the process which took them does not have.
	NameErrors int64 `json:"name_errors"`
	// NameErrorClasses counts them by job class.
	NameErrorClasses map[string]int64 `json:"name_error_classes,omitempty"`
	// Jobs counts by job class; for ActiveJob by the class that it wraps.
	Jobs *JobCounts `json:"jobs,omitempty"`
	// Threads counts, for the processes asked for, the threads that take jobs or work
	// on one; Ended for a process that is gone.
	Threads map[int]int `json:"threads,omitempty"`
}

// Ended is the number of threads of a process that is gone.
const Ended = -1

// JobCounts counts jobs by class and place.
type JobCounts struct {
	Queued    map[string]int64 `json:"queued"`
	Retried   map[string]int64 `json:"retried"`
	Scheduled map[string]int64 `json:"scheduled"`
	// Cut names the queues and sets ("retry", "schedule") that hold more than
	// MaxJobs: of them only the first MaxJobs were counted.
	Cut []string `json:"cut,omitempty"`
}

// Of counts the jobs of a class everywhere.
func (c JobCounts) Of(class string) int64 {
	return c.Queued[class] + c.Retried[class] + c.Scheduled[class]
}

// Process is one Sidekiq process.
type Process struct {
	// Identity is its key in Redis: "hostname:pid:nonce".
	Identity string `json:"identity"`
	Hostname string `json:"hostname"`
	Pid      int    `json:"pid"`
	// Tag is the name of the release's directory that it runs in, "v4.5.14".
	Tag string `json:"tag"`
	// Queues that it serves, sorted.
	Queues []string `json:"queues"`
	// Concurrency is its number of threads, Busy how many of them work.
	Concurrency int `json:"concurrency"`
	Busy        int `json:"busy"`
	// Quiet: it takes no new jobs.
	Quiet bool `json:"quiet"`
	// Beat is when it last wrote its record, at most every ten seconds; Quiet and
	// Busy are of that moment.
	Beat time.Time `json:"beat"`
	// Started is when it booted.
	Started time.Time `json:"started"`
	// Version is Sidekiq's own, empty before 7.
	Version string `json:"version,omitempty"`
	// RSS is its resident memory in bytes.
	RSS int64 `json:"rss"`
	// Work is what its threads are at, the longest first.
	Work []Work `json:"work,omitempty"`
}

// Work is a job that is being worked on.
type Work struct {
	Class string    `json:"class"`
	Queue string    `json:"queue"`
	Since time.Time `json:"since"`
}

// Serves tells whether the process takes jobs from the queue.
func (p Process) Serves(queue string) bool { return slices.Contains(p.Queues, queue) }

// Queue is a queue that exists in Redis (it vanishes when it is empty).
type Queue struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Latency is the age of its oldest job, which is the next one to be taken.
	Latency time.Duration `json:"latency"`
}

// On returns the processes of a host.
func (s SidekiqState) On(hostname string) []Process {
	var out []Process
	for _, p := range s.Processes {
		if p.Hostname == hostname {
			out = append(out, p)
		}
	}
	return out
}

// Queue returns the queue of that name, empty if it does not exist.
func (s SidekiqState) Queue(name string) Queue {
	for _, q := range s.Queues {
		if q.Name == name {
			return q
		}
	}
	return Queue{Name: name}
}

// Age is how long before the snapshot the process wrote its record.
func (s SidekiqState) Age(p Process) time.Duration { return s.Now.Sub(p.Beat) }

// union gives the queues that the processes serve together, sorted.
func union(ps []Process) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Queues...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
