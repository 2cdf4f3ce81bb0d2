package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"vmst.io/refit/hosts/lab"
)

// Schema names the form of roll.json.
const Schema = "refit.bench/v1"

// The aims. Memory is in bytes, the others are ratios and seconds.
const (
	aimHand       = 0.9
	aimCapistrano = 0.5
	aimAnsible    = 1.0 / 3
	aimOut        = 1.2
	aimController = 60e6
	aimHost       = 256e6
	aimHelp       = 0.1
)

// Report is roll.json.
type Report struct {
	Schema string `json:"schema"`
	Choice Choice `json:"choice"`
	CPUs   int    `json:"cpus"`
	// Program is refit's own file.
	Program Program `json:"refit_program"`
	// Artifacts by release, Boot by node.
	Artifacts map[string]Artifact `json:"artifacts"`
	Boot      map[string]Boot     `json:"bare_boot"`
	Cases     []*CaseReport       `json:"cases"`
	Aims      []Aim               `json:"aims"`
}

// CaseReport compares the contenders in one case. Each figure is the median of the
// runs that went well; ratios are refit's to the other's.
type CaseReport struct {
	Case
	From       string             `json:"from"`
	To         string             `json:"to"`
	Contenders map[string]*Median `json:"contenders"`
	// RatioTo of the whole roll, nil where either has no run that counts.
	RatioToHand       *float64 `json:"ratio_to_hand"`
	RatioToCapistrano *float64 `json:"ratio_to_capistrano"`
	RatioToAnsible    *float64 `json:"ratio_to_ansible"`
	// PlaceRatios and RollRatios are the same of a part, by the other's name.
	PlaceRatios map[string]float64 `json:"place_ratio_to"`
	RollRatios  map[string]float64 `json:"roll_ratio_to"`
}

// Median is what one contender's runs of a case have in common.
type Median struct {
	Counted int     `json:"runs_that_count"`
	Whole   float64 `json:"whole_seconds"`
	Place   float64 `json:"place_seconds"`
	Roll    float64 `json:"roll_seconds"`
	// Out by node, and its ratio to drain plus bare boot.
	Out            map[string]float64 `json:"out_seconds"`
	ToDrainAndBoot map[string]float64 `json:"out_ratio_to_drain_plus_boot"`
	// SentToNode is the mean over the nodes, without the users' traffic.
	SentToNode float64 `json:"bytes_to_node_without_users"`
	// Peaks are the largest of all runs.
	ControllerPeak int64   `json:"controller_peak_bytes"`
	HostPeak       int64   `json:"host_peak_bytes"`
	Connections    float64 `json:"ssh_connections"`
	// Requests and Failed are sums over the runs.
	Requests int   `json:"requests_sent"`
	Failed   int   `json:"requests_failed"`
	Runs     []Run `json:"runs"`
}

// Aim is one figure that refit is to reach, in one case where it is of one.
type Aim struct {
	Name  string  `json:"name"`
	Case  string  `json:"case,omitempty"`
	Value float64 `json:"value"`
	// Most is what Value may be.
	Most float64 `json:"at_most"`
	Unit string  `json:"unit,omitempty"`
	Met  bool    `json:"met"`
}

func newReport(c Choice) *Report { return &Report{Schema: Schema, Choice: c, CPUs: runtime.NumCPU()} }

// add takes in a run and works everything out anew.
func (r *Report) add(c Case, run Run) {
	i := slices.IndexFunc(r.Cases, func(x *CaseReport) bool { return x.Case == c })
	if i < 0 {
		i = len(r.Cases)
		r.Cases = append(r.Cases, &CaseReport{Case: c, From: c.From(), To: c.To(), Contenders: map[string]*Median{}})
	}
	x := r.Cases[i]
	if x.Contenders[run.Contender] == nil {
		x.Contenders[run.Contender] = &Median{}
	}
	m := x.Contenders[run.Contender]
	m.Runs = append(m.Runs, run)
	m.compute()
	x.compare()
	r.judge()
}

// good are the runs that count.
func (m *Median) good() []Run {
	return slices.DeleteFunc(slices.Clone(m.Runs), func(r Run) bool { return r.Error != "" })
}

func (m *Median) compute() {
	runs := m.good()
	of := func(f func(Run) float64) float64 {
		var all []float64
		for _, r := range runs {
			all = append(all, f(r))
		}
		return median(all)
	}
	m.Counted = len(runs)
	m.Whole = of(func(r Run) float64 { return r.Whole })
	m.Place = of(func(r Run) float64 { return r.Phases[phasePlace] })
	m.Roll = of(func(r Run) float64 { return r.Phases[phaseRoll] })
	m.SentToNode = of(func(r Run) float64 { return meanOf(r.SentTo, r.Nodes) })
	m.Connections = of(func(r Run) float64 { return float64(sum(r.Logins)) })
	m.Out, m.ToDrainAndBoot = map[string]float64{}, map[string]float64{}
	m.ControllerPeak, m.HostPeak, m.Requests, m.Failed = 0, 0, 0, 0
	for _, r := range runs {
		for node := range r.Nodes {
			m.Out[node] = of(func(r Run) float64 { return r.Nodes[node].Out })
			m.ToDrainAndBoot[node] = of(func(r Run) float64 { return r.Nodes[node].ToDrainAndBoot })
		}
		m.ControllerPeak = max(m.ControllerPeak, r.ControllerPeak)
		for _, n := range r.HostPeak {
			m.HostPeak = max(m.HostPeak, n)
		}
		m.Requests += r.Users.Sent
		m.Failed += r.Users.Failed
	}
}

// meanOf is the mean of what went to the nodes.
func meanOf(bytes map[string]int64, nodes map[string]NodeRun) float64 {
	var total float64
	for node := range nodes {
		total += float64(bytes[node])
	}
	return total / float64(max(len(nodes), 1))
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

func (x *CaseReport) compare() {
	ratio := func(other string, of func(*Median) float64) *float64 {
		a, b := x.Contenders[Refit], x.Contenders[other]
		if a == nil || b == nil || a.Counted == 0 || b.Counted == 0 || of(b) <= 0 {
			return nil
		}
		q := of(a) / of(b)
		return &q
	}
	whole := func(m *Median) float64 { return m.Whole }
	x.RatioToHand, x.RatioToCapistrano, x.RatioToAnsible = ratio(Hand, whole), ratio(Capistrano, whole), ratio(Ansible, whole)
	x.PlaceRatios, x.RollRatios = map[string]float64{}, map[string]float64{}
	for _, other := range []string{Hand, Capistrano, Ansible} {
		if q := ratio(other, func(m *Median) float64 { return m.Place }); q != nil {
			x.PlaceRatios[other] = *q
		}
		if q := ratio(other, func(m *Median) float64 { return m.Roll }); q != nil {
			x.RollRatios[other] = *q
		}
	}
}

// judge sets refit's figures against the aims.
func (r *Report) judge() {
	r.Aims = nil
	aim := func(name, where string, value, most float64, unit string) {
		r.Aims = append(r.Aims, Aim{name, where, value, most, unit, value <= most})
	}
	for _, x := range r.Cases {
		where := x.Case.String()
		for _, q := range []struct {
			name  string
			ratio *float64
			most  float64
		}{
			{"whole roll to the hand-written one", x.RatioToHand, aimHand},
			{"whole roll to Capistrano's", x.RatioToCapistrano, aimCapistrano},
			{"whole roll to Ansible's", x.RatioToAnsible, aimAnsible},
		} {
			if q.ratio != nil {
				aim(q.name, where, *q.ratio, q.most, "")
			}
		}
		m := x.Contenders[Refit]
		if m == nil || m.Counted == 0 {
			continue
		}
		for _, node := range slices.Sorted(maps.Keys(m.ToDrainAndBoot)) {
			if isWeb(node) {
				aim(node+" out of rotation to drain plus boot", where, m.ToDrainAndBoot[node], aimOut, "")
			}
		}
		aim("memory of the controller", where, float64(m.ControllerPeak)/1e6, aimController/1e6, "MB")
		aim("memory on a host", where, float64(m.HostPeak)/1e6, aimHost/1e6, "MB")
		aim("failures that users met", where, float64(m.Failed), 0, "requests")
	}
	aim("refit --help", "", r.Program.HelpSeconds*1000, aimHelp*1000, "ms")
}

// isWeb tells whether a node is one that can be out of rotation.
func isWeb(node string) bool {
	return slices.ContainsFunc(theFleet().webs, func(m lab.Machine) bool { return m.Name == node })
}

// Failed names the runs that went wrong, nil if none did.
func (r *Report) Failed() error {
	var all []string
	for _, x := range r.Cases {
		for _, name := range slices.Sorted(maps.Keys(x.Contenders)) {
			for _, run := range x.Contenders[name].Runs {
				if run.Error != "" {
					all = append(all, fmt.Sprintf("%s, round %d of %s: %s (%s)", run.Contender, run.Round, x.Case, run.Error, run.Log))
				}
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("%d runs do not count:\n  %s", len(all), strings.Join(all, "\n  "))
}

// save writes roll.json whole.
func (r *Report) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	path := filepath.Join(dir, "roll.json")
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}
