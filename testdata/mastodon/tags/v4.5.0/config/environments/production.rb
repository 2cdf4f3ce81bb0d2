# frozen_string_literal: true

Rails.application.configure do
  config.enable_reloading = false
  config.eager_load = true
  config.consider_all_requests_local = false
  config.action_controller.perform_caching = true

  # Files are served by Rails only where the proxies hold none of them.
  config.public_file_server.enabled = ENV['RAILS_SERVE_STATIC_FILES'] == 'true'
  config.public_file_server.headers = { 'cache-control' => 'public, max-age=2419200, must-revalidate' }

  config.force_ssl = true
  config.ssl_options = { redirect: { exclude: ->(request) { request.path.start_with?('/health') } } }

  config.logger = ActiveSupport::Logger.new($stdout).tap { |logger| logger.formatter = ::Logger::Formatter.new }
  config.log_tags = [:request_id]
  config.log_level = ENV.fetch('RAILS_LOG_LEVEL', 'info').to_sym
  $stdout.sync = true

  config.cache_store = :redis_cache_store, {
    url: Mastodon::RedisSettings.url, namespace: 'cache', expires_in: 10.minutes, pool: { size: Integer(ENV.fetch('MAX_THREADS', 5)) }
  }

  config.active_record.dump_schema_after_migration = false
  config.active_support.report_deprecations = false
end
