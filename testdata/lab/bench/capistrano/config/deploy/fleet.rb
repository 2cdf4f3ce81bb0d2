# frozen_string_literal: true

ENV.fetch('WEBS').split.each { |address| server address, roles: %w(web) }
ENV.fetch('SIDEKIQS').split.each { |address| server address, roles: address == ENV.fetch('MIGRATOR') ? %w(sidekiq db) : %w(sidekiq) }
