# frozen_string_literal: true

module Fasp
  class AnnounceWorker < ApplicationWorker
    sidekiq_options queue: 'fasp'

    def work
      Sidekiq.redis { |redis| redis.call('INCR', 'fasp:announced') }
    end
  end
end
