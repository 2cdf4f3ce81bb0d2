package stages

import (
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
	// Recipe is how To is built, toolchain and mirrors with it (survey).
	Recipe builds.Recipe `json:"recipe"`
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
	// Digest is the digest of the manifest of To (build).
	Digest string `json:"digest,omitempty"`
	// Unverified says what of To was held to no checksum of its own (build).
	Unverified []string `json:"unverified,omitempty"`
	// Stored is what became of the release in the store (build).
	Stored string `json:"stored,omitempty"`
	// Unproved says which nodes went back to a release that is not what was placed (roll).
	Unproved []string `json:"unproved,omitempty"`
	// Applied are the migrations of Pre that the database has at the end of the
	// pre-migrate stage, also of one that failed (pre-migrate).
	Applied []builds.Migration `json:"applied,omitempty"`
	// PostBegun: the unit of the post-migrations was started, so that what it did
	// cannot be taken back (post-migrate).
	PostBegun bool `json:"post_begun,omitempty"`
	// Search is what was found out about the search index (search).
	Search string `json:"search,omitempty"`
	// Pruned lists what was removed, "kirk: v4.5.12" (prune).
	Pruned []string `json:"pruned,omitempty"`
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
