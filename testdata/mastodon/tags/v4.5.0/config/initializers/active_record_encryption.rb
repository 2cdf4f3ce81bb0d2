# frozen_string_literal: true

require 'securerandom'

names = %w(
  ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY
  ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT
  ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY
)

# A build has no secrets: SECRET_KEY_BASE_DUMMY asks for throw-away ones.
names.each { |name| ENV[name] ||= SecureRandom.hex } if ENV['SECRET_KEY_BASE_DUMMY']

missing = names.reject { |name| ENV.fetch(name, '').strip.length.positive? }
abort "#{missing.join(', ')} not set: run bin/rails db:encryption:init and put the same values on every node." unless missing.empty?

Rails.application.configure do
  config.active_record.encryption.deterministic_key = ENV.fetch(names[0])
  config.active_record.encryption.key_derivation_salt = ENV.fetch(names[1])
  config.active_record.encryption.primary_key = ENV.fetch(names[2])
end
