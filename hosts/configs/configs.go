// Package configs knows what the config repository of a fleet holds and how its
// files come to be: templates of the team's, rendered for each host, and the lock
// that says which bytes those are. It is pure: it reads no clock, no network and
// no environment, so the same inputs always give the same bytes.
//
// No secret is ever in its hands. A template names one, {{secret "DB_PASS"}}; what
// is rendered holds the reference @refit-secret(DB_PASS)@ in its place, and the
// node alone puts the value in when it applies the file.
package configs

import (
	"io/fs"
	"time"
)

// Host is a host of the fleet as templates see it.
type Host struct {
	Name, Address string
	// Roles are as refit.yml has them: web, sidekiq, proxy, scheduler, keeper, builder.
	Roles   []string
	Web     Web
	Sidekiq []Unit
	// Droplet is the cloud's id of the machine; 0 where there is none.
	Droplet int
}

// Web is what a web node listens on.
type Web struct {
	Port      int
	Streaming []int
}

// Unit is one Sidekiq unit and the queues that it serves.
type Unit struct {
	Unit   string
	Queues []string
}

// Fleet is the hosts in the order in which refit.yml names them.
type Fleet struct {
	Name, Domain string
	Hosts        []Host
}

// Release is what the fleet is to run.
type Release struct {
	// Version is the tag, "v4.5.1"; Commit and Tree are git's hashes of it.
	Version, Commit, Tree string
	// Artifact is the digest of what was built of it.
	Artifact string
	// Toolchains are versions by name: ruby, bundler, node.
	Toolchains map[string]string
	// Images are the golden images' ids by tier.
	Images map[string]int
}

// File is one file as a host is to have it.
type File struct {
	// Path is absolute on the host, slash-separated and clean.
	Path string
	// Content holds references in the place of secrets.
	Content      []byte
	Owner, Group string
	// Mode is the permission bits.
	Mode fs.FileMode
	// Check is the program that must accept the file: nginx, systemd, stunnel or none.
	Check string
	// Restart and Reload are the units to restart or reload after a change, sorted.
	Restart, Reload []string
	// Secrets are the names that Content refers to, sorted.
	Secrets []string
}

// Names of what lies in a config repository. All but Templates are refit's own.
const (
	// Templates is the folder of the team's files.
	Templates = "templates"
	// FilesYML says owner, mode and units of templates, below Templates.
	FilesYML = "files.yml"
	// Rendered is the folder of what was rendered, by host.
	Rendered = "rendered"
	// LockFile is the lock's path.
	LockFile = "refit.lock"
	// HistoryDir is the folder of the runs' pages.
	HistoryDir = "history"
)

// Schema is the lock's version that this code writes and reads.
const Schema = 1

// Lock is refit.lock: which release the repository stands for, and each rendered
// file's hash and rights.
type Lock struct {
	Schema     int                          `yaml:"schema"`
	Version    string                       `yaml:"version"`
	Commit     string                       `yaml:"commit"`
	Tree       string                       `yaml:"tree"`
	Artifact   string                       `yaml:"artifact,omitempty"`
	Toolchains map[string]string            `yaml:"toolchains,omitempty"`
	Images     map[string]int               `yaml:"images,omitempty"`
	Rendered   map[string]map[string]Locked `yaml:"rendered,omitempty"`
}

// Locked is what the lock says of one rendered file.
type Locked struct {
	// SHA256 is of the content with its references, in hexadecimal digits.
	SHA256 string `yaml:"sha256"`
	Owner  string `yaml:"owner"`
	Group  string `yaml:"group"`
	// Mode is octal, four digits: "0644".
	Mode    string   `yaml:"mode"`
	Check   string   `yaml:"check,omitempty"`
	Restart []string `yaml:"restart,omitempty"`
	Reload  []string `yaml:"reload,omitempty"`
	Secrets []string `yaml:"secrets,omitempty"`
}

// Finding is a place that looks like a secret. It never holds the value.
type Finding struct {
	// Path is the file's, as it was given to Scan; Line counts from 1.
	Path string
	Line int
	// Rule says what it looks like, in words; Name is the variable's, if it has one.
	Rule, Name string
}

// Conflict is a place that two sides changed differently.
type Conflict struct {
	// Line is where it begins in theirs, from 1.
	Line int
	// Old, New and Theirs are the lines of the old release, of the new one, and of the team.
	Old, New, Theirs string
}

// Proposal is what one file of a release means for the team's templates.
type Proposal struct {
	// Source is the file's path in the release, such as dist/nginx.conf.
	Source string
	// Template is the team's file below templates/; empty for a file that no template is
	// known to be of.
	Template string
	// Kind is merged, conflict, new, removed or unmatched.
	Kind string
	// Merged is the template with upstream's changes, of a merged one; of a new file
	// its content. Empty otherwise: refit proposes nothing where it would have to guess.
	Merged []byte
	// Conflicts are the places that a person must decide.
	Conflicts []Conflict
	// Why is one sentence for the plan.
	Why string
}

// Kinds of proposals.
const (
	// ProposalMerged: upstream's changes and the team's do not touch; Merged is both.
	ProposalMerged = "merged"
	// ProposalConflict: they touch; a person decides.
	ProposalConflict = "conflict"
	// ProposalNew: the release has a file that it did not have and that no template is of.
	ProposalNew = "new"
	// ProposalUnmatched: the release changes a file, and no template is known to be of it.
	ProposalUnmatched = "unmatched"
	// ProposalRemoved: the release no longer has a file that a template is of.
	ProposalRemoved = "removed"
)

// Entry is a run as its page of history tells it.
type Entry struct {
	// Run is the run's id; Deed is upgrade, rollback, apply, mend, adopt, replace.
	Run, Deed, Fleet string
	// From and To are versions; equal where a run changes none.
	From, To string
	// Commit and Tree are the release's, Artifact the digest of what was built.
	Commit, Tree, Artifact string
	// Plan is the hash of the plan that was carried out.
	Plan string
	// By are the people who ran it, the first first.
	By             []string
	Started, Ended time.Time
	// Outcome is one word or a few: done, rolled back, failed, stopped.
	Outcome string
	// Why is the reason of the outcome, or of the run, in sentences.
	Why       string
	Approvals []Approval
	// Decisions are what was decided on the way, one sentence each.
	Decisions []string
	Steps     []Step
}

// Approval is a person's word for a plan.
type Approval struct {
	By string
	// Key is the fingerprint of the key that signed, empty where none did.
	Key string
	At  time.Time
	// Where says by what way: Slack, refit approve, GitHub.
	Where string
}

// Step is a step of a run.
type Step struct {
	Name    string
	Started time.Time
	// Took is how long it took; 0 for a step that was not run.
	Took    time.Duration
	Outcome string
	// Note is what was said of it, one sentence; may be empty.
	Note string
}
