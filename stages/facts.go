package stages

import (
	"fmt"
	"slices"
	"time"

	"vmst.io/refit/builds"
)

// Facts is all that a run knows and a resume needs. It is journalled after each
// step, so it survives JSON there and back. Each field names the one stage that
// writes it.
type Facts struct {
	// From is the release that the fleet runs, To the one it shall run (survey).
	From builds.Release `json:"from"`
	To   builds.Release `json:"to"`
	// Facets is how they differ (survey).
	Facets builds.Facets `json:"facets"`
	// Made is what is made of To: all of it, or of several systems' the first's.
	Made
	// Others are what is made of To for nodes of other systems (survey).
	Others []Made `json:"others,omitempty"`
	// Asked is what refit.yml asked for when the plan was made, as far as it decides which
	// steps there are; nil in a journal of a refit that did not write it down (survey).
	Asked *Asked `json:"asked,omitempty"`
	// Said are what must be said aloud in the plan: overrides, what could not be
	// checked (survey).
	Said []string `json:"said,omitempty"`
	// Pre and Post are the migrations of To that the database lacks, by version (survey).
	Pre  []builds.Migration `json:"pre,omitempty"`
	Post []builds.Migration `json:"post,omitempty"`
	// Sidekiq and Web are the nodes in the order in which they are rolled; Sidekiq
	// is rolled first if SidekiqFirst (survey).
	Sidekiq      []string `json:"sidekiq"`
	Web          []string `json:"web"`
	SidekiqFirst bool     `json:"sidekiq_first"`
	// Baseline is how the fleet did before anything was touched (survey, then preflight).
	Baseline Baseline `json:"baseline"`
	// Unproved says which nodes went back to a release that is not what was placed (roll).
	Unproved []string `json:"unproved,omitempty"`
	// Applied are the migrations of Pre that the database has at the end of the
	// pre-migrate stage, also of one that failed (pre-migrate).
	Applied []builds.Migration `json:"applied,omitempty"`
	// PostBegun: the unit of the post-migrations was started, so that what it did
	// cannot be taken back (post-migrate).
	PostBegun bool `json:"post_begun,omitempty"`
	// Birth is the node that is made, of a run that makes one (survey, and its stages).
	Birth *Birth `json:"birth,omitempty"`
	// Align is the node that is brought back into step, of a run that does that (survey).
	Align *Alignment `json:"align,omitempty"`
	// Rehearsal is the copy that is upgraded, of a run that rehearses (survey, and its stages).
	Rehearsal *Rehearsal `json:"rehearsal,omitempty"`
	// RestoreBefore is where the database stood right before the pre-migrations,
	// RestoreBeforePost right before the post-migrations (restore point, post-migrate).
	RestoreBefore     *RestoreTo `json:"restore_before,omitempty"`
	RestoreBeforePost *RestoreTo `json:"restore_before_post,omitempty"`
	// Dump is the dump in the store, in words (dump).
	Dump string `json:"dump,omitempty"`
	// Search is what was found out about the search index (search).
	Search string `json:"search,omitempty"`
	// Pruned lists what was removed, "kirk: v4.5.12" (prune).
	Pruned []string `json:"pruned,omitempty"`
	// Configs is the fleet's configuration, where there is a config repository (survey, and
	// its stages).
	Configs *Configured `json:"configs,omitempty"`
	// Snapshots are the nodes that are kept as images before anything is changed, chosen by
	// the survey and written on by snapshot, snapshots done and snapshot off; Golden the
	// images that new nodes are made from, one a tier (golden). Both are empty without a
	// cloud account.
	Snapshots []Kept `json:"snapshots,omitempty"`
	Golden    []Kept `json:"golden,omitempty"`
	// Retired says which images were removed, and which could not be (retire images).
	Retired []string `json:"retired,omitempty"`
}

// RestoreTo is a state that a database can be restored to.
type RestoreTo struct {
	// At is the instant, by the database server's clock.
	At time.Time `json:"at"`
	// LSN is the position of its write-ahead log; empty where the server does not tell.
	LSN string `json:"lsn,omitempty"`
}

func (r *RestoreTo) String() string {
	if r.LSN == "" {
		return instant(r.At)
	}
	return fmt.Sprintf("%s, log position %s", instant(r.At), r.LSN)
}

// Restores says, for a run that did not end well, how the database gets back to what it
// was; nothing of a run that has not touched it.
func (f *Facts) Restores() []string {
	var out []string
	if f.RestoreBeforePost != nil {
		out = append(out, fmt.Sprintf("should the post-migrations have to be taken back: restore the database to %s", f.RestoreBeforePost))
	}
	if f.RestoreBefore != nil {
		out = append(out, fmt.Sprintf("should all migrations have to be taken back: restore the database to %s", f.RestoreBefore))
	}
	if f.Dump != "" {
		out = append(out, "from before the migrations there is "+f.Dump)
	}
	return out
}

// Made is what is made of a release for the nodes of one system.
type Made struct {
	// Builder makes it and Nodes get it; empty where the fleet has one builder, for all
	// nodes (survey).
	Builder string   `json:"builder,omitempty"`
	Nodes   []string `json:"nodes,omitempty"`
	// Recipe is how it is built, toolchain and mirrors with it (survey).
	Recipe builds.Recipe `json:"recipe"`
	// Digest is the digest of its manifest (build).
	Digest string `json:"digest,omitempty"`
	// Unverified says what of it was held to no checksum of its own (build).
	Unverified []string `json:"unverified,omitempty"`
	// Stored is what became of it in the store (build).
	Stored string `json:"stored,omitempty"`
}

// all are what is made of To, one for each system.
func (f *Facts) all() []*Made {
	out := []*Made{&f.Made}
	for i := range f.Others {
		out = append(out, &f.Others[i])
	}
	return out
}

// Stores says what became in the store of what was made.
func (f *Facts) Stores() []string {
	var out []string
	for _, m := range f.all() {
		if m.Stored != "" {
			out = append(out, m.Stored)
		}
	}
	return out
}

// by is what a builder makes.
func (f *Facts) by(builder string) *Made {
	for _, m := range f.all() {
		if m.Builder == builder {
			return m
		}
	}
	return &f.Made
}

// of is what a node gets.
func (f *Facts) of(n Node) *Made {
	for _, m := range f.all() {
		if slices.Contains(m.Nodes, n.Name) {
			return m
		}
	}
	return &f.Made
}

// Baseline is how the fleet did before anything was touched.
type Baseline struct {
	At time.Time `json:"at"`
	// Latency is the median answer of the slowest web node.
	Latency time.Duration `json:"latency_ns"`
	// Errors is the share of requests through the proxies that were answered with a 5xx.
	Errors float64 `json:"errors"`
	// Retries and Dead are sizes of Sidekiq's sets; Processed its counter.
	Retries   int64 `json:"retries"`
	Dead      int64 `json:"dead"`
	Processed int64 `json:"processed"`
}
