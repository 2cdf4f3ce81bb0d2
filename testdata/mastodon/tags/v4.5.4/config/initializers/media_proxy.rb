# frozen_string_literal: true

unless ENV['SECRET_KEY_BASE_DUMMY']
  key = ENV.fetch('MEDIA_PROXY_SIGNING_KEY') { abort 'MEDIA_PROXY_SIGNING_KEY not set: this release does not start without it.' }
  Rails.application.config.x.media_proxy_key = key
end
