package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"vmst.io/refit/hosts/lab"
)

// unitTimes is when systemd last stopped and started a unit.
type unitTimes struct {
	name                        string
	stopping, stopped, starting time.Time
}

// askUnits are the arguments that show a host's units with their times.
func askUnits(names []string) []string {
	return append([]string{"systemctl", "show", "--timestamp=us+utc", "-p", "Id,ActiveExitTimestamp,InactiveEnterTimestamp,InactiveExitTimestamp"}, names...)
}

// readUnits reads the answer: a block for each unit, with an empty line between two.
func readUnits(out string) ([]unitTimes, error) {
	var all []unitTimes
	for block := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		var u unitTimes
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			to := map[string]*time.Time{"ActiveExitTimestamp": &u.stopping, "InactiveEnterTimestamp": &u.stopped, "InactiveExitTimestamp": &u.starting}[key]
			switch {
			case key == "Id":
				u.name = value
			case to != nil && value != "":
				at, err := time.Parse("Mon 2006-01-02 15:04:05.000000 MST", value)
				if err != nil {
					return nil, fmt.Errorf("cannot read systemd's time of %s: %w", u.name, err)
				}
				*to = at
			}
		}
		if u.name == "" {
			return nil, fmt.Errorf("cannot read what systemd says of units: %.200q", out)
		}
		all = append(all, u)
	}
	return all, nil
}

// restarted is when the first of a node's units began to stop, when the last one had
// stopped and when the first began to start. Each must have done so since then.
func restarted(all []unitTimes, since time.Time) (stopping, stopped, starting time.Time, err error) {
	for _, u := range all {
		if u.stopping.Before(since) || u.starting.Before(u.stopping) {
			return stopping, stopped, starting, fmt.Errorf("%s was not restarted", u.name)
		}
		if stopping.IsZero() || u.stopping.Before(stopping) {
			stopping = u.stopping
		}
		if u.stopped.After(stopped) {
			stopped = u.stopped
		}
		if starting.IsZero() || u.starting.Before(starting) {
			starting = u.starting
		}
	}
	return stopping, stopped, starting, nil
}

// askWorkers prints, for each of a host's units given, what its process says of
// itself in Redis, a line each; nothing for one that has said nothing yet.
const askWorkers = `. /root/.bashrc
all=$(redis-cli SMEMBERS processes)
for unit; do
  id=$(grep "^$(uname -n):$(systemctl show -P MainPID "$unit"):" <<<"$all") && redis-cli HGET "$id" info
done
true`

// readWorkers gives when the last of so many workers began to take jobs: Sidekiq
// notes it with its first sign of life, once it has booted. Zero while one is missing.
func readWorkers(out string, units int) (time.Time, error) {
	var last time.Time
	n := 0
	for line := range strings.Lines(strings.TrimSpace(out)) {
		var info struct {
			Started float64 `json:"started_at"`
		}
		if err := json.Unmarshal([]byte(line), &info); err != nil || info.Started == 0 {
			return last, fmt.Errorf("cannot read what a worker says in Redis: %.200q", line)
		}
		n++
		if at := time.UnixMicro(int64(info.Started * 1e6)); at.After(last) {
			last = at
		}
	}
	if n < units {
		return time.Time{}, nil
	}
	return last, nil
}

// unitsOf asks a host for its units' times.
func unitsOf(ctx context.Context, l *lab.Lab, m lab.Machine) ([]unitTimes, error) {
	out, err := l.Inside(ctx, m.Name, askUnits(units(m))...)
	if err != nil {
		return nil, err
	}
	return readUnits(out)
}

// workingSince asks when a Sidekiq host's workers began to take jobs.
func workingSince(ctx context.Context, l *lab.Lab, m lab.Machine) (time.Time, error) {
	out, err := l.Inside(ctx, m.Name, append([]string{"bash", "-c", askWorkers, "bash"}, units(m)...)...)
	if err != nil {
		return time.Time{}, err
	}
	return readWorkers(out, len(units(m)))
}
