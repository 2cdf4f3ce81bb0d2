# frozen_string_literal: true

module Mastodon
  # Migrations come in two lots. db/migrate runs before a release, while the old
  # one still serves; db/post_migrate runs after every process has the new one.
  module Database
    SKIP_POST = 'SKIP_POST_DEPLOYMENT_MIGRATIONS'

    # The oldest schema whose code can serve while this release's migrations run.
    MINIMUM_ZERO_DOWNTIME_VERSION = 20_230_907_150_100

    MINIMUM_POSTGRESQL = 140_000

    module_function

    # Whether the variable is there decides, not what it says: "false" skips too.
    def skip_post_migrations?
      ENV.key?(SKIP_POST)
    end

    def add_post_migrate_path(app)
      app.config.paths['db/migrate'] << 'db/post_migrate' unless skip_post_migrations?
    end
  end
end
