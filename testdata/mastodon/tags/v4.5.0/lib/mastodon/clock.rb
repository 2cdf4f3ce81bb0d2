# frozen_string_literal: true

module Mastodon
  # Clock enqueues the scheduled work at a fixed interval. It runs inside the one
  # Sidekiq process that listens on the queue "scheduler".
  class Clock
    def initialize(seconds)
      @seconds = seconds
      @stop = Queue.new
    end

    def start
      @thread = Thread.new do
        Thread.current.name = 'clock'
        tick until @stop.pop(timeout: @seconds)
      end
    end

    def stop
      return unless @thread

      @stop << true
      @thread.join
      @thread = nil
    end

    private

    def tick
      Rails.application.executor.wrap { Scheduler::PeriodicScheduler.plan }
    rescue StandardError => e
      Sidekiq.logger.error("the clock missed a tick: #{e.class}: #{e.message}")
    end
  end
end
