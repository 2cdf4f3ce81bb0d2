package webpage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/pipeline/report"
)

// view is what the template shows.
type view struct {
	Fleet, Version string
	Now            time.Time
	// Refresh is after how many seconds a browser asks again; 0 for never.
	Refresh  int
	Hosts    []hostView
	HostsAt  time.Time
	Ill      int
	Run      *runView
	RunAt    time.Time // zero where it is of this very moment
	Kept     time.Time
	Keeper   string
	History  []report.Past
	Releases []releaseView
	Behind   []behindView
	Sources  []sourceView
}

type hostView struct {
	report.HostRow
	Healthy bool
}

// runView is the run at work, or the last of this process.
type runView struct {
	ID, Title, By, Why string
	// Step at work, its number and of how many; 0 where they are not known.
	Step      string
	Index, Of int
	Text      string
	Since     time.Time // of the step
	Began     time.Time
	Back      bool
	Ended     string
	EndedAt   time.Time
	Silent    bool
}

type releaseView struct {
	report.Release
	At time.Time
}

type behindView struct {
	Project string
	Since   time.Time // zero if it is not
}

type sourceView struct {
	Name      string
	At, Since time.Time
	Why       string
}

const (
	refreshAtWork = 10 // seconds
	refreshIdle   = 60
	mostHistory   = 20
)

func (p *Page) view(refresh bool) view {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := view{Fleet: p.o.Fleet, Version: p.o.Version, Now: p.o.Now(), HostsAt: p.hostsAt, Kept: p.kept, Keeper: p.keeper}
	for _, h := range p.hosts {
		one := hostView{h, healthy(h.State)}
		if !one.Healthy {
			v.Ill++
		}
		v.Hosts = append(v.Hosts, one)
	}
	v.Run, v.RunAt = p.run()
	v.History = p.history[:min(len(p.history), mostHistory)]
	for _, name := range slices.Sorted(maps.Keys(p.behind)) {
		v.Behind = append(v.Behind, behindView{name, p.behind[name]})
	}
	for _, r := range p.releases {
		v.Releases = append(v.Releases, releaseView{r.Release, r.at})
	}
	slices.SortFunc(v.Releases, func(a, b releaseView) int {
		return cmp.Or(b.Published.Compare(a.Published), strings.Compare(a.Project+a.Version, b.Project+b.Version))
	})
	for _, name := range slices.Sorted(maps.Keys(p.sources)) {
		s := p.sources[name]
		v.Sources = append(v.Sources, sourceView{name, s.at, s.since, s.why})
	}
	if refresh {
		v.Refresh = refreshIdle
		if v.Run != nil && v.Run.Ended == "" {
			v.Refresh = refreshAtWork
		}
	}
	return v
}

// healthy tells whether a host's state, as `refit status` words it, is that of one on
// which all is well.
func healthy(state string) bool {
	return slices.Contains([]string{"running", "serving", "up"}, state)
}

// run is the run to show: this process's own, or somebody else's by the lease, as it was at
// the last look; nil for none.
func (p *Page) run() (*runView, time.Time) {
	if l := p.live; l != nil && (l.ended == "" || p.work == nil) {
		return &runView{
			ID: l.ID, Title: fmt.Sprintf("%s, %s → %s", l.Kind, l.From, l.To), By: l.Who, Why: l.Why, Step: l.step, Index: l.index, Of: l.of, Text: l.text,
			Since: l.since, Began: l.Began, Back: l.back, Ended: l.ended, EndedAt: l.endedAt,
		}, time.Time{}
	}
	if w := p.work; w != nil {
		return &runView{ID: w.Run, Title: w.Why, By: w.By, Why: w.Why, Step: w.Step, Began: w.Since, Silent: w.Silent}, p.kept
	}
	return nil, p.kept
}
