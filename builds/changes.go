package builds

// Changes is how one release differs from another, as `refit plan` says it:
// "changes" of schema refit.plan/v1. Lists are never nil, so that JSON has no
// null where an array is promised; what did not change is null.
type Changes struct {
	// Ruby is .ruby-version, Node .nvmrc, Bundler BUNDLED WITH of Gemfile.lock,
	// Yarn packageManager of package.json.
	Ruby    Pin `json:"ruby"`
	Node    Pin `json:"node"`
	Bundler Pin `json:"bundler"`
	Yarn    Pin `json:"yarn"`
	// Gems: Gemfile.lock differs.
	Gems *Gems `json:"gems"`
	// JavaScript: package.json, yarn.lock or app/javascript differs.
	JavaScript *Touched `json:"javascript"`
	// Streaming: streaming/ or yarn.lock differs, so the streaming server is to be restarted.
	Streaming  *Touched         `json:"streaming"`
	Migrations MigrationChanges `json:"migrations"`
	Jobs       JobChanges       `json:"jobs"`
	Queues     QueueChanges     `json:"queues"`
	Schedule   ScheduleChanges  `json:"schedule"`
	// Units are the changed unit files of dist/, by file name.
	Units []string `json:"units"`
	// UnitDiffs are their unified diffs, by file name.
	UnitDiffs map[string]string `json:"unit_diffs"`
	// Nginx: dist/nginx.conf differs.
	Nginx *Nginx     `json:"nginx"`
	Env   EnvChanges `json:"env"`
	// Search: app/chewy differs.
	Search *Search `json:"search"`
	// Files is how many tracked files differ in all.
	Files int `json:"files"`
}

// Pin is a pinned tool's version in the old release and in the new one; equal
// where it did not move, empty where the tree pins none.
type Pin struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Changed tells whether the pin moved.
func (p Pin) Changed() bool { return p.From != p.To }

// Touched names the parts that differ: files, or folders as "app/javascript".
type Touched struct {
	Files []string `json:"files"`
}

// Gems is how the locked gems differ. Changed may be empty: a lock can differ in
// its platforms or its Bundler alone.
type Gems struct {
	Files   []string    `json:"files"`
	Changed []GemChange `json:"changed"`
}

// GemChange is a gem whose locked version differs; From is empty for a new one,
// To for one that is gone.
type GemChange struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// MigrationChanges are file names without .rb, in order of their versions.
type MigrationChanges struct {
	// Pre and Post are new: their version, which is what a database remembers, is none of the old release's.
	Pre  []string `json:"pre"`
	Post []string `json:"post"`
	// Risky are those of Pre and Post that a person should know of.
	Risky []Risky `json:"risky"`
	// Moved lie in the other of the two folders now, or under another name: they are not new.
	Moved []string `json:"moved"`
	// Changed have other text under the same version: a database that ran them does not run them again.
	Changed []string `json:"changed"`
	// Gone are the old release's that the new one lacks.
	Gone []string `json:"gone"`
}

// JobChanges are the job classes that only one of two releases has.
type JobChanges struct {
	Added   []Job `json:"added"`
	Removed []Job `json:"removed"`
}

// QueueChanges are the queues that only one of two releases has: those of
// config/sidekiq.yml and those that code names.
type QueueChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	// Unknown are places of the new release, and not of the old one, that name a
	// queue which only running code knows, as "file: line".
	Unknown []string `json:"unknown"`
}

// ScheduleChanges are entries of :schedule: in config/sidekiq.yml, by name.
type ScheduleChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
}

// Nginx is how upstream's example of nginx's configuration differs.
type Nginx struct {
	Files []string `json:"files"`
	Diff  string   `json:"diff"`
}

// EnvChanges are the environment names that only one of two releases reads.
type EnvChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	// Comments are those of Added and Removed that no code reads, only comments mention.
	Comments []string `json:"only_in_comments"`
	// Unknown are places of the new release, and not of the old one, that read a
	// name which only running code knows, as "file: line".
	Unknown []string `json:"unknown"`
}

// Search names the files of app/chewy that differ. That is a hint to look, no
// proof that a mapping differs: what an index holds is asked of the running code.
type Search struct {
	Files []string `json:"files"`
	// Blanks: the files differ in nothing but blanks and line ends.
	Blanks bool `json:"only_blanks"`
}

// Understanding is what two releases' sources say of the way from one to the other.
type Understanding struct {
	From Release `json:"from"`
	To   Release `json:"to"`
	// Requirements are the oldest versions that To accepts, by what they are of:
	// "ruby", "node", "postgresql", "redis", "libvips", "elasticsearch", "schema".
	Requirements map[string]Minimum `json:"requirements"`
	Changes      Changes            `json:"changes"`
	// MigrationFree: there is no new migration of either kind.
	MigrationFree bool `json:"migration_free"`
	// Reversible: the old release can run again after the last step, since no
	// post-migration takes away what it reads.
	Reversible bool `json:"reversible"`
	// Order is the tier that is rolled first: "sidekiq" or "web".
	Order string `json:"order"`
}
