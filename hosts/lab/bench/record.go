package bench

import (
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/lab"
)

// Run is one roll by one contender.
type Run struct {
	Contender string    `json:"contender"`
	Round     int       `json:"round"`
	Began     time.Time `json:"began"`
	// Error is why the run does not count; empty for one that went well.
	Error string `json:"error,omitempty"`
	// Whole is the tool's time from its start to its end; Phases add up to it.
	Whole  float64            `json:"whole_seconds"`
	Phases map[string]float64 `json:"phase_seconds,omitempty"`
	// Steps are refit's own, finer than phases.
	Steps []Step `json:"refit_steps,omitempty"`
	// Nodes by their names: how long each was out.
	Nodes map[string]NodeRun `json:"nodes,omitempty"`
	// BytesTo is what went to each host during the run, the users' traffic included;
	// SentTo is an estimate without that, by what users alone sent before the run.
	BytesTo map[string]int64 `json:"bytes_to_host,omitempty"`
	SentTo  map[string]int64 `json:"bytes_to_host_without_users,omitempty"`
	// ControllerPeak is the most memory that the tool's processes took together on the
	// operator's machine. HostPeak is that of what ran on each host for the roll, the
	// application's own programs left out.
	ControllerPeak int64            `json:"controller_peak_bytes"`
	HostPeak       map[string]int64 `json:"host_peak_bytes,omitempty"`
	// PeakOf names what took the controller's peak, and the largest of the hosts' peaks.
	PeakOf []string `json:"peak_of,omitempty"`
	// Logins is how many ssh connections each host accepted.
	Logins map[string]int `json:"ssh_connections,omitempty"`
	Users  Users          `json:"users"`
	// Log is the folder with all that was said.
	Log string `json:"log"`
}

// NodeRun is how long one node was out.
type NodeRun struct {
	// Out of rotation, on a web node: from the first proxy that took it out to the last
	// that has it back. On a Sidekiq node: from the stop of its units until all its
	// workers take jobs again.
	Out float64 `json:"out_seconds"`
	// Drain is the part of Out until no proxy had a request under way there.
	Drain float64 `json:"drain_seconds"`
	// Stop is what the units took to stop.
	Stop float64 `json:"stop_seconds"`
	// ToDrainAndBoot is Out by what could not be spared: Drain and the node's bare boot.
	ToDrainAndBoot float64 `json:"ratio_to_drain_plus_boot"`
}

// Users is what they met during a run.
type Users struct {
	Sent       int      `json:"requests_sent"`
	Failed     int      `json:"requests_failed"`
	EventsSent int      `json:"events_sent"`
	EventsLost int      `json:"events_lost"`
	Failures   []string `json:"failures,omitempty"`
}

func (r *Run) users(met lab.LoadReport) {
	r.Users = Users{Sent: met.Requests.Sent, Failed: met.Requests.Failed, EventsSent: met.Events.Sent, EventsLost: met.Events.Lost}
	for _, f := range met.Failures {
		r.Users.Failures = append(r.Users.Failures, fmt.Sprintf("%s %s %s %s", f.At.Format("15:04:05.000"), f.Kind, f.Node, f.Text))
	}
}

func (r *Run) traffic(before, after map[string]lab.Traffic, idle map[string]float64, seconds float64) {
	r.BytesTo, r.SentTo = map[string]int64{}, map[string]int64{}
	for _, m := range managed() {
		n := after[m.Name].To - before[m.Name].To
		r.BytesTo[m.Name] = n
		r.SentTo[m.Name] = max(n-int64(idle[m.Name]*seconds), 0)
	}
}

// memory takes what was seen. The resource usage of the process that was started tells
// nothing: until it runs its own program it counts the memory of who started it.
func (r *Run) memory(m *memory) {
	r.ControllerPeak = m.controller.bytes()
	r.HostPeak = map[string]int64{}
	r.PeakOf = append(r.PeakOf, fmt.Sprint("controller: ", m.controller.at))
	for host, p := range m.hosts {
		r.HostPeak[host] = p.bytes()
		r.PeakOf = append(r.PeakOf, fmt.Sprint(host, ": ", p.at))
	}
}

// times fills in the phases, by what the tool itself said.
func (r *Run) times(said *listener, began, ended time.Time) error {
	if r.Contender != Refit {
		r.Phases = said.seconds(began, ended)
	} else {
		var err error
		if r.Phases, r.Steps, err = refitPhases(said.report.Bytes(), r.Whole); err != nil {
			return err
		}
	}
	for _, phase := range []string{phasePlace, phaseRoll} {
		if r.Phases[phase] <= 0 {
			return fmt.Errorf("%s said nothing of its phase %q", r.Contender, phase)
		}
	}
	return nil
}

// judge sets each node's time out against what could not be spared.
func (r *Run) judge(f fleet, boot map[string]Boot) error {
	for _, m := range f.nodes() {
		n, ok := r.Nodes[m.Name]
		if !ok {
			return fmt.Errorf("%s was not measured", m.Name)
		}
		least := n.Drain + boot[m.Name].Seconds
		if least <= 0 {
			return errors.New("the bare boot of " + m.Name + " is not known")
		}
		n.ToDrainAndBoot = n.Out / least
		r.Nodes[m.Name] = n
	}
	return nil
}

// brief is a run in a line.
func (r Run) brief() string {
	if r.Error != "" {
		return "FAILED: " + r.Error
	}
	return fmt.Sprintf("whole %.1f s (place %.1f, roll %.1f), %d of %d requests failed", r.Whole, r.Phases[phasePlace], r.Phases[phaseRoll], r.Users.Failed, r.Users.Sent)
}
