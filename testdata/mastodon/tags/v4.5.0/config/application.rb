# frozen_string_literal: true

require_relative 'boot'

require 'rails'
require 'active_support/core_ext/numeric/time'
require 'active_model/railtie'
require 'active_record/railtie'
require 'action_controller/railtie'
require 'action_view/railtie'

require 'dotenv'
require 'redis'
require 'sidekiq'

require_relative '../lib/mastodon/version'
require_relative '../lib/mastodon/database'
require_relative '../lib/mastodon/redis_settings'

# Real environment wins: Dotenv.load never overwrites what is already set.
Dotenv.load(File.expand_path("../.env.#{ENV.fetch('RAILS_ENV')}", __dir__))

module Mastodon
  class Application < Rails::Application
    config.load_defaults 7.2

    config.autoload_lib(ignore: %w(tasks mastodon))
    config.api_only = false
    config.generators.system_tests = nil
    config.time_zone = 'UTC'
    config.active_record.schema_format = :ruby

    config.x.local_domain = ENV.fetch('LOCAL_DOMAIN', 'localhost')
    config.x.web_domain = ENV.fetch('WEB_DOMAIN', config.x.local_domain)
    config.x.alternate_domains = ENV.fetch('ALTERNATE_DOMAINS', '').split(/\s*,\s*/)
    config.x.streaming_api_base_url = ENV.fetch('STREAMING_API_BASE_URL', "wss://#{config.x.web_domain}")

    Mastodon::Database.add_post_migrate_path(self)
  end
end
