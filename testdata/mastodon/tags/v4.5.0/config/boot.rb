# frozen_string_literal: true

# The environment's name must be real: .env files are read after it is needed.
abort 'RAILS_ENV is not set. Set it in the environment of the process, not in a .env file.' unless ENV.key?('RAILS_ENV')

ENV['BUNDLE_GEMFILE'] ||= File.expand_path('../Gemfile', __dir__)

require 'bundler/setup'
require 'bootsnap/setup'
