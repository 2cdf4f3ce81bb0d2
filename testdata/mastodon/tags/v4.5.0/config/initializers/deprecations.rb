# frozen_string_literal: true

abort 'REDIS_NAMESPACE is no longer supported: remove it from the environment.' if ENV['REDIS_NAMESPACE']
