package mastodon

import (
	"strconv"

	"vmst.io/refit/hosts/node"
)

// A recipe is one of Mastodon's own tools as a job for a transient unit, run by
// the staged release's own Ruby, in its directory, as Mastodon's user. Secrets
// come from .env.production, which Mastodon reads by itself; the job's own
// environment, which wins over that file, holds none.
//
// No recipe has a terminal (Mastodon would pause ten seconds before long
// migrations) and none has a limit of time.

// PreMigrate applies the migrations that old code can live with, over a direct
// connection: SKIP_POST_DEPLOYMENT_MIGRATIONS leaves out the others.
func PreMigrate(l Layout, release, unit string, d Direct) node.JobIn {
	job := rails(l, release, unit, "db:migrate")
	direct(&job, d)
	job.Env = append(job.Env, "SKIP_POST_DEPLOYMENT_MIGRATIONS=true")
	return job
}

// PostMigrate applies what remains. Old code does not work any more from here on.
func PostMigrate(l Layout, release, unit string, d Direct) node.JobIn {
	job := rails(l, release, unit, "db:migrate")
	direct(&job, d)
	return job
}

// Pending asks what a release's migrations still have to do; ReadPending reads
// the answer. It exits with 1 if anything is pending. With pre only those count
// that PreMigrate applies.
func Pending(l Layout, release, unit string, d Direct, pre bool) node.JobIn {
	job := rails(l, release, unit, "db:abort_if_pending_migrations")
	direct(&job, d)
	if pre {
		job.Env = append(job.Env, "SKIP_POST_DEPLOYMENT_MIGRATIONS=true")
	}
	return job
}

// BootSmoke boots a release with the host's real environment and prints its
// version; ReadBooted reads it. It proves the native libraries, the runtimes and
// the settings that Mastodon refuses to boot without.
func BootSmoke(l Layout, release, unit string) node.JobIn {
	return rails(l, release, unit, "runner", `puts "refit.version=#{Mastodon::Version}"`)
}

// BootUnmigrated is BootSmoke on a schema that lacks the release's migrations: the
// application starts without its models, of which some ask for columns that are not
// there yet (Account of 4.5.0, by an enum). Rails' own tasks start it in this way
// (the task environment), db:migrate among them.
func BootUnmigrated(l Layout, release, unit string) node.JobIn {
	job := rails(l, release, unit)
	job.Argv = []string{l.Tool(release, "bundle"), "exec", "ruby", "-e", bootUnmigrated}
	return job
}

const bootUnmigrated = `require './config/application'
ActiveSupport.on_load(:before_initialize) { config.eager_load = false }
Rails.application.initialize!
puts "refit.version=#{Mastodon::Version}"`

// SearchChanged asks which indexes' definitions differ from those in use;
// ReadSearchChanged reads the answer. It changes nothing.
func SearchChanged(l Layout, release, unit string) node.JobIn {
	return rails(l, release, unit, "runner", searchChanged)
}

// searchChanged compares what the search server was last given (Chewy keeps it in
// an index of its own: Chewy::Index::Specification#locked) with the code. A change
// of settings needs every document anew, but for analysers that only come (4.4.0 asks
// its searches for one): documents were indexed without them. Those and a change of
// mappings can be made in place, unless the index is not there at all.
const searchChanged = `names = %w(InstancesIndex AccountsIndex TagsIndex PublicStatusesIndex StatusesIndex)
names.filter_map(&:safe_constantize).each do |index|
  spec = index.specification
  next unless spec.changed?
  parts = []
  if spec.respond_to?(:locked) && spec.respond_to?(:current)
    locked, current = spec.locked || {}, spec.current || {}
    parts = (locked.keys | current.keys).reject { |k| locked[k] == current[k] }
    if parts.delete('settings')
      (was, has), rest = [locked, current].map { |s| (s['settings'] || {})['analysis'] || {} }, [locked, current].map { |s| (s['settings'] || {}).except('analysis') }
      kept = was.all? { |kind, list| list.all? { |name, body| has.dig(kind, name) == body } }
      parts << (kept && rest.uniq.one? ? 'analysers' : 'settings')
    end
  end
  parts = ['missing'] if index.respond_to?(:exists?) && !index.exists?
  puts "refit.index=#{index.name} #{parts.join(',')}"
end
puts 'refit.indexes=done'`

// SearchMapping gives changed mappings and analysers to the search server, which
// closes each changed index for a moment (Chewy::Index.update_specification). Without
// --only-mapping the tool would delete each changed index and import it anew.
func SearchMapping(l Layout, release, unit string) node.JobIn {
	job := rails(l, release, unit)
	job.Argv = []string{l.Tool(release, "bundle"), "exec", "bin/tootctl", "search", "deploy", "--only-mapping"}
	return job
}

// rails is "bundle exec rails ARGS" in a release.
func rails(l Layout, release, unit string, args ...string) node.JobIn {
	l = l.filled()
	return node.JobIn{
		Unit: unit,
		Argv: append([]string{l.Tool(release, "bundle"), "exec", "rails"}, args...),
		Env:  []string{"RAILS_ENV=production"},
		Dir:  l.Release(release),
		User: l.User,
	}
}

// direct sends a job past the pooler. DATABASE_URL would win over the rest; the
// unit drops it, and Database.Traps tells when .env.production sets it as well.
func direct(job *node.JobIn, d Direct) {
	if d.Host != "" {
		job.Env = append(job.Env, "DB_HOST="+d.Host)
	}
	if d.Port != 0 {
		job.Env = append(job.Env, "DB_PORT="+strconv.Itoa(d.Port))
	}
	if d.Name != "" {
		job.Env = append(job.Env, "DB_NAME="+d.Name)
	}
	if d.User != "" {
		job.Env = append(job.Env, "DB_USER="+d.User)
	}
	job.Properties = append(job.Properties, "UnsetEnvironment=DATABASE_URL")
}
