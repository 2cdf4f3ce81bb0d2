# frozen_string_literal: true

require 'fileutils'
require_relative '../../lib/mastodon/clock'

# With MASTODON_SIDEKIQ_READY_FILENAME a file of that name stands in tmp/ while
# this process takes jobs.
ready_file = ENV['MASTODON_SIDEKIQ_READY_FILENAME'].to_s.then do |name|
  abort 'MASTODON_SIDEKIQ_READY_FILENAME is a bare file name without a path' if name != File.basename(name) && name != ''
  Rails.root.join('tmp', name) unless name == ''
end

Sidekiq.configure_server do |config|
  config.redis = { url: Mastodon::RedisSettings.url }
  config.logger.level = Logger.const_get(ENV.fetch('RAILS_LOG_LEVEL', 'info').upcase)

  # Only for a lab: a sign of life every so many seconds instead of ten.
  if (beat = ENV['SIDEKIQ_BEAT'])
    require 'sidekiq/launcher'
    Sidekiq::Launcher.send(:remove_const, :BEAT_PAUSE)
    Sidekiq::Launcher.const_set(:BEAT_PAUSE, Integer(beat))
  end

  clock = Mastodon::Clock.new(Float(ENV.fetch('SCHEDULER_INTERVAL', 5)))
  listens = -> { config.capsules.values.any? { |capsule| capsule.queues.include?('scheduler') } }

  config.on(:startup) do
    clock.start if listens.call
    if ready_file
      FileUtils.mkdir_p(ready_file.dirname)
      FileUtils.touch(ready_file)
    end
  end
  config.on(:quiet) { clock.stop }
  config.on(:shutdown) do
    clock.stop
    FileUtils.rm_f(ready_file) if ready_file
  end
end

Sidekiq.configure_client do |config|
  config.redis = { url: Mastodon::RedisSettings.url }
end
