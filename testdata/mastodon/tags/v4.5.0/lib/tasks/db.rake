# frozen_string_literal: true

namespace :db do
  desc 'Refuse what this release cannot migrate'
  task pre_migration_check: :environment do
    pool = ActiveRecord::Base.connection_pool
    version = pool.with_connection(&:database_version)
    minimum = Mastodon::Database::MINIMUM_POSTGRESQL
    abort "This release needs PostgreSQL #{minimum / 10_000} or newer, the server is #{version / 10_000}." if version < minimum

    if Mastodon::Database.skip_post_migrations?
      schema = pool.migration_context.current_version
      oldest = Mastodon::Database::MINIMUM_ZERO_DOWNTIME_VERSION
      abort 'Zero-downtime migrations from releases earlier than 4.2.0 are not supported.' if schema.positive? && schema < oldest
    end
  end

  Rake::Task['db:migrate'].enhance(['db:pre_migration_check'])

  namespace :encryption do
    # Own output: Rails' task prints YAML for its credentials file.
    Rake::Task['db:encryption:init'].clear if Rake::Task.task_defined?('db:encryption:init')

    desc 'Print a fresh set of encryption keys for the environment'
    task :init do
      %w(DETERMINISTIC_KEY KEY_DERIVATION_SALT PRIMARY_KEY).each do |name|
        puts "ACTIVE_RECORD_ENCRYPTION_#{name}=#{SecureRandom.alphanumeric(32)}"
      end
    end
  end
end
