package main

import (
	"slices"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/stages"
)

// planJSON is a plan for programs, of a fleet or of the source alone: fields that only
// the other kind has are there and empty.
type planJSON struct {
	Schema string `json:"schema"` // "refit.plan/v1"
	From   string `json:"from"`
	To     string `json:"to"`
	Commit string `json:"commit"`
	Tree   string `json:"tree"`
	// Published and Deadline are empty where GitHub was not asked.
	Published string   `json:"published"`
	Deadline  string   `json:"deadline"`
	Security  bool     `json:"security"`
	Advisory  []string `json:"advisories"`
	Flags     []string `json:"flags"`
	// Requirements are the oldest versions that the target's code accepts.
	Requirements map[string]builds.Minimum `json:"requirements"`
	// Changes is null where the source could not be read: that is not the same as nothing.
	Changes       *builds.Changes `json:"changes"`
	MigrationFree bool            `json:"migration_free"`
	Reversible    bool            `json:"reversible"`
	Order         string          `json:"order"` // "sidekiq" or "web" is rolled first
	Blockers      []string        `json:"blockers"`
	// Acknowledge are the names that --ack takes: what the notes leave to an admin.
	Acknowledge []string   `json:"acknowledgements"`
	Steps       []stepJSON `json:"steps"`
	// Via is the way to go, release by release; the target alone where the way is open.
	Via  []string `json:"via"`
	Said []string `json:"said"`
	// Differences are where the notes and the source do not say the same.
	Differences []string `json:"differences"`
	// ID and Hash are a fleet's plan's: the run that it would be, what an approval names.
	ID   string `json:"id,omitempty"`
	Hash string `json:"hash,omitempty"`
	// Pending are the migrations that the fleet's database lacks, by version and name.
	Pending *pendingJSON `json:"pending,omitempty"`

	// Rehearsed is what the newest rehearsal of this way measured, where there was one.
	Rehearsed *stages.Measured `json:"rehearsed,omitempty"`

	// For people: what is left to them with the reason, how long the steps take, and how
	// many runs say so.
	asks    []string
	takes   time.Duration
	earlier int
	// rehearsal is Rehearsed in words.
	rehearsal []string
	// canRehearse: refit.yml says what is to be copied.
	canRehearse bool
}

// stamp is a time for programs, empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

type pendingJSON struct {
	Pre  []string `json:"pre"`
	Post []string `json:"post"`
}

// json is what upstream says, without a fleet.
func (w way) json(from builds.Version, to builds.Release) planJSON {
	p := planJSON{
		Schema: "refit.plan/v1", From: from.String(), To: to.Version.String(), Commit: to.Tag.Commit, Tree: to.Tag.Tree,
		Security: len(w.advisories) > 0, Advisory: append([]string{}, w.advisories...), Flags: w.flags(),
		Requirements: map[string]builds.Minimum{}, Blockers: []string{}, Acknowledge: w.names(), Steps: []stepJSON{},
		Via: []string{}, Said: append([]string{}, w.said...), Differences: append([]string{}, w.differences...), asks: w.asks(),
	}
	if u := w.understood; u != nil {
		p.Requirements, p.Changes, p.MigrationFree, p.Reversible, p.Order = u.Requirements, &u.Changes, u.MigrationFree, u.Reversible, u.Order
	}
	return p
}

// json is a fleet's plan: what its database lacks counts, not what the sources differ in.
// Of a fleet that does not run one release nothing is said but what stands against it.
func (p *planned) json() planJSON {
	f := p.facts
	out := p.way.json(f.From.Version, f.To)
	out.Blockers = append(out.Blockers, p.refused...)
	if f.From.Version.IsZero() {
		return out
	}
	out.ID, out.Hash, out.Order = p.ID, p.hash, first(f.SidekiqFirst)
	out.Published, out.Deadline = stamp(p.way.published), stamp(p.deadline)
	out.Pending = &pendingJSON{migrationNames(f.Pre), migrationNames(f.Post)}
	out.MigrationFree, out.Reversible = len(f.Pre)+len(f.Post) == 0, len(f.Post) == 0
	out.Via = append(out.Via, p.via...)
	out.Said = slices.Concat(f.Said, out.Said)
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, stepJSON{s.Name(), s.Host, s.Why, s.OneWay, s.Expect.Seconds()})
		out.takes += s.Expect
	}
	out.earlier = p.earlier
	out.Rehearsed, out.rehearsal, out.canRehearse = p.measured, rehearsed(p.measured, f), p.canRehearse
	return out
}
