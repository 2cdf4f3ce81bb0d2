# frozen_string_literal: true

module ActivityPub
  class ProcessingWorker < ApplicationWorker
    sidekiq_options queue: 'ingress', retry: 8

    def work(bytes)
      raise ArgumentError, 'an activity has no negative length' if bytes.negative?

      Sidekiq.redis { |redis| redis.call('INCRBY', 'inbox:bytes', bytes) }
    end
  end
end
