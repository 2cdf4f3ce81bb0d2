# frozen_string_literal: true

module Mastodon
  module RedisSettings
    module_function

    def url
      return ENV.fetch('REDIS_URL') if ENV['REDIS_URL'].to_s != ''

      password = ENV['REDIS_PASSWORD'].to_s
      login = password.empty? ? '' : ":#{URI.encode_www_form_component(password)}@"
      "redis://#{login}#{ENV.fetch('REDIS_HOST', 'localhost')}:#{ENV.fetch('REDIS_PORT', 6379)}/#{ENV.fetch('REDIS_DB', 0)}"
    end
  end
end
