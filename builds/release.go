// Package builds turns a tag of upstream's repository into a release that nodes
// can run: it reads what the tag asks for, and builds it on the builder host.
//
// The rules it holds:
//
//   - everything about a release is read from its tag, every time; nothing is
//     assumed from its number;
//   - a build takes nothing from the operator's or the builder's environment:
//     what it needs stands in the Recipe;
//   - nothing half-made is ever taken for whole: a build in work carries a mark
//     that is removed last;
//   - the tracked files after the build are the tag's, byte for byte.
package builds

import "vmst.io/refit/hosts/git"

// Release is a tag and what it stands for.
type Release struct {
	Version Version `json:"version"`
	// Tag is the tag resolved to commit and tree.
	Tag git.Tag `json:"tag"`
	// Contents is what the tree says about itself.
	Contents Contents `json:"contents"`
}

// Contents is what a release's tree says about itself: all that refit reads
// from a tag. It survives JSON there and back.
type Contents struct {
	// Version is lib/mastodon/version.rb's; it must be the tag's.
	Version Version `json:"version"`
	Pins    Pins    `json:"pins"`
	// Migrations in order of their version, both kinds.
	Migrations []Migration `json:"migrations"`
	// Jobs is the job classes of app/workers, sorted.
	Jobs []string `json:"jobs"`
	// Queues of config/sidekiq.yml, in its order.
	Queues []Queue `json:"queues"`
	// GitSources of Gemfile.lock.
	GitSources []GitSource `json:"git_sources,omitempty"`
	// Locks says how far the lock files hold what registries serve.
	Locks Locks `json:"locks,omitzero"`
	// StreamingWorkspace is package.json's name under streaming/
	// ("@mastodon/streaming"); empty if the tree has no such workspace.
	StreamingWorkspace string `json:"streaming_workspace,omitempty"`
	// Units are the unit files of dist/, by file name.
	Units []string `json:"units"`
}

// Pins is what a tag says about the tools that build and run it.
type Pins struct {
	// Ruby is .ruby-version: "3.4.7".
	Ruby string `json:"ruby"`
	// RubyAllowed is the Gemfile's requirement: [">= 3.2.0", "< 3.5.0"]; empty for none.
	RubyAllowed Requirement `json:"ruby_allowed"`
	// Node is .nvmrc: "24.10", often without a patch number.
	Node string `json:"node"`
	// NodeAllowed is engines.node of package.json: ">=20"; empty for none.
	NodeAllowed string `json:"node_allowed"`
	// Bundler is BUNDLED WITH of Gemfile.lock: "2.7.2".
	Bundler string `json:"bundler"`
	// Yarn is packageManager's version: "4.10.3".
	Yarn string `json:"yarn"`
	// YarnHash is the hash that packageManager may carry, "sha512.<hex>": of yarn.js.
	YarnHash string `json:"yarn_hash,omitempty"`
}

// Migration is a file of db/migrate or db/post_migrate.
type Migration struct {
	// Version is the timestamp that schema_migrations holds.
	Version string `json:"version"`
	// Name as in the file's name: "create_username_blocks".
	Name string `json:"name"`
	Path string `json:"path"`
	// Post: it lies in db/post_migrate and runs after every process runs the new code.
	Post bool `json:"post"`
}

// Queue is a Sidekiq queue with its weight.
type Queue struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// GitSource is a gem that Gemfile.lock takes from a git repository.
type GitSource struct {
	Remote   string   `json:"remote"`
	Revision string   `json:"revision"`
	Gems     []string `json:"gems"`
}

// Facets is how two releases differ, as far as the procedure cares.
type Facets struct {
	From Contents `json:"from"`
	To   Contents `json:"to"`
	// MigrationsAdded are To's migrations that From lacks, by version.
	MigrationsAdded []Migration `json:"migrations_added"`
	// MigrationsChanged are migrations that both have, with other text: their
	// versions are the same, so a database that ran them will not run them again.
	MigrationsChanged []Migration `json:"migrations_changed"`
	// MigrationsGone are From's that To lacks.
	MigrationsGone []Migration `json:"migrations_gone"`
	JobsAdded      []string    `json:"jobs_added"`
	JobsRemoved    []string    `json:"jobs_removed"`
	QueuesAdded    []string    `json:"queues_added"`
	QueuesRemoved  []string    `json:"queues_removed"`
	// ChewyChanged are files of app/chewy that differ. They are a hint to look,
	// no proof that a mapping differs.
	ChewyChanged []string `json:"chewy_changed"`
	// DistChanged are files of dist/ that differ: units, the nginx example.
	DistChanged []string `json:"dist_changed"`
	// StreamingChanged: streaming/ or what it is installed from differs.
	StreamingChanged bool `json:"streaming_changed"`
	GemsChanged      bool `json:"gems_changed"`    // Gemfile.lock
	NodeModules      bool `json:"node_modules"`    // yarn.lock, package.json, .yarn*
	FrontendChanged  bool `json:"frontend"`        // app/javascript, vite config, yarn.lock
	RubyChanged      bool `json:"ruby_changed"`    // .ruby-version
	NodeChanged      bool `json:"node_changed"`    // .nvmrc
	EnvSampleChanged bool `json:"env_sample"`      // .env.production.sample
	SidekiqChanged   bool `json:"sidekiq_changed"` // config/sidekiq.yml
	// Files is how many tracked files differ in all.
	Files int `json:"files"`
}

// Pre returns the added migrations that run while the old code serves.
func (f Facets) Pre() []Migration { return kind(f.MigrationsAdded, false) }

// Post returns the added migrations that run when every process runs the new code.
func (f Facets) Post() []Migration { return kind(f.MigrationsAdded, true) }

func kind(all []Migration, post bool) []Migration {
	var out []Migration
	for _, m := range all {
		if m.Post == post {
			out = append(out, m)
		}
	}
	return out
}
