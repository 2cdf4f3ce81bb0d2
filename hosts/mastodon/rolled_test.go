package mastodon

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fleet is a snapshot in which all is well: decker with two units, one of them
// the scheduler, on v2, and scotty on v1.
func fleet(change ...func(*SidekiqState)) SidekiqState {
	s := SidekiqState{
		Now:       noon,
		Processed: 200,
		Queues:    []Queue{{Name: "default", Size: 3}},
		Processes: []Process{
			{Hostname: "decker", Pid: 11, Tag: "v2", Queues: []string{"default", "mailers"}, Beat: noon.Add(-9 * time.Second)},
			{Hostname: "decker", Pid: 12, Tag: "v2", Queues: []string{"scheduler"}, Beat: noon.Add(-2 * time.Second)},
			{Hostname: "scotty", Pid: 11, Tag: "v1", Queues: []string{"pull", "push"}, Beat: noon.Add(-5 * time.Second)},
		},
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func earlier() SidekiqState {
	return fleet(func(s *SidekiqState) {
		s.Now, s.Processed = noon.Add(-time.Minute), 100
	})
}

func rolled(change ...func(*Want)) Want {
	w := Want{
		Hostname:    "decker",
		Tag:         "v2",
		Units:       []WantUnit{{"mastodon-sidekiq-default.service", 11, 0}, {"mastodon-sidekiq-scheduler.service", 12, 0}},
		Queues:      []string{"scheduler", "mailers", "default"},
		FleetQueues: []string{"default", "mailers", "pull", "push", "scheduler"},
	}
	for _, f := range change {
		f(&w)
	}
	return w
}

func TestAHostThatIsAsItMustBePasses(t *testing.T) {
	if err := CheckRolled(earlier(), fleet(), rolled()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotAsItMustBeIsNamed(t *testing.T) {
	none := func(*Want) {}
	for name, c := range map[string]struct {
		change func(*SidekiqState)
		want   func(*Want)
		say    string // empty: no fault
	}{
		"a unit has not announced itself": {
			func(s *SidekiqState) { s.Processes = s.Processes[1:] }, none,
			"mastodon-sidekiq-default.service (process 11) has not announced itself in Redis",
		},
		"the host's queues are not all served": {
			func(s *SidekiqState) { s.Processes[0].Queues = []string{"mailers"} }, none,
			"decker does not serve default",
		},
		"a process of another host with that pid does not count": {
			func(s *SidekiqState) { s.Processes[0].Hostname = "scotty" }, none,
			"(process 11) has not announced itself",
		},
		"the old release":            {func(s *SidekiqState) { s.Processes[0].Tag = "v1" }, none, "process 11 runs v1, not v2"},
		"quiet":                      {func(s *SidekiqState) { s.Processes[0].Quiet = true }, none, "process 11 is quiet"},
		"no beat":                    {func(s *SidekiqState) { s.Processes[0].Beat = noon.Add(-16 * time.Second) }, none, "last sign of life 16s ago"},
		"a beat as old as it may be": {func(s *SidekiqState) { s.Processes[0].Beat = noon.Add(-15 * time.Second) }, none, ""},
		"two schedulers": {
			func(s *SidekiqState) { s.Processes[2].Queues = append(s.Processes[2].Queues, "scheduler") }, none,
			"2 processes serve the queue scheduler, which only one may: process 12 on decker, process 11 on scotty",
		},
		"no scheduler": {func(s *SidekiqState) { s.Processes[1].Queues = nil }, none, "no process serves the queue scheduler"},
		"no scheduler between two": {func(s *SidekiqState) { s.Processes = append(s.Processes[:1], s.Processes[2]) }, func(w *Want) {
			w.NoScheduler, w.Units, w.Queues = true, w.Units[:1], []string{"default", "mailers"}
		}, ""},
		"two schedulers between two": {func(s *SidekiqState) { s.Processes[0].Queues = []string{"scheduler"} }, func(w *Want) {
			w.NoScheduler, w.Queues = true, nil
		}, "2 processes serve the queue scheduler"},
		"a queue too many": {
			func(s *SidekiqState) { s.Processes[0].Queues = append(s.Processes[0].Queues, "pull") }, none,
			"decker serves pull, which it should not",
		},
		"a queue of the fleet that nobody serves":  {func(*SidekiqState) {}, func(w *Want) { w.FleetQueues = append(w.FleetQueues, "fasp") }, "nobody serves fasp"},
		"a queue that only a quiet process serves": {func(s *SidekiqState) { s.Processes[2].Quiet = true }, none, "nobody serves pull, push"},
		"a queue that only a dead process serves":  {func(s *SidekiqState) { s.Processes[2].Beat = noon.Add(-time.Minute) }, none, "nobody serves pull, push"},
		"a process of no unit": {func(s *SidekiqState) {
			s.Processes = append(s.Processes, Process{Hostname: "decker", Pid: 5, Tag: "v1", Beat: noon})
		}, none, "process 5 (v1) belongs to none of the units"},
		"a restart":   {func(*SidekiqState) {}, func(w *Want) { w.Units[0].Restarts = 2 }, "systemd restarted mastodon-sidekiq-default.service 2 times"},
		"a dead unit": {func(*SidekiqState) {}, func(w *Want) { w.Units[1].Pid = 0 }, "mastodon-sidekiq-scheduler.service does not run"},
		"a burst of NameErrors": {
			func(s *SidekiqState) {
				s.NameErrors, s.NameErrorClasses = 6, map[string]int64{"FooWorker": 5, "BarWorker": 1}
			},
			func(w *Want) { w.MaxNameErrors = 5 }, "6 jobs failed with NameError, 5 allowed: FooWorker 5, BarWorker 1",
		},
		"as many NameErrors as allowed": {func(s *SidekiqState) { s.NameErrors = 5 }, func(w *Want) { w.MaxNameErrors = 5 }, ""},
		"nothing processed while jobs wait": {
			func(s *SidekiqState) { s.Processed = 100 }, none,
			"the processed counter stands at 100 while jobs wait in default",
		},
		"nothing processed and nothing to do":         {func(s *SidekiqState) { s.Processed, s.Queues = 100, nil }, none, ""},
		"nothing processed in a queue of other hosts": {func(s *SidekiqState) { s.Processed, s.Queues = 100, []Queue{{Name: "push", Size: 9}} }, none, ""},
		"counters that were reset":                    {func(s *SidekiqState) { s.Processed = 1 }, none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckRolled(earlier(), fleet(c.change), rolled(c.want))
			switch {
			case c.say == "" && err != nil:
				t.Errorf("unexpected: %v", err)
			case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)):
				t.Errorf("want %q, got %v", c.say, err)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	err := CheckRolled(earlier(), SidekiqState{Now: noon}, rolled())
	if err == nil {
		t.Fatal("no error")
	}
	for _, s := range []string{"process 11", "process 12", "no process serves the queue scheduler", "nobody serves"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q is not in %v", s, err)
		}
	}
}

func TestAFleetWithAnOldProcessAnywhereIsNotRolled(t *testing.T) {
	err := CheckFleet(fleet(), "v2", []string{"pull"})
	if err == nil || !strings.Contains(err.Error(), "process 11 on scotty runs v1, not v2") {
		t.Errorf("got %v", err)
	}
	whole := fleet(func(s *SidekiqState) { s.Processes[2].Tag = "v2" })
	if err := CheckFleet(whole, "v2", []string{"pull", "scheduler", "default"}); err != nil {
		t.Error(err)
	}
}
