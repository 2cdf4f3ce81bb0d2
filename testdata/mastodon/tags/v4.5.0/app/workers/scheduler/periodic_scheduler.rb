# frozen_string_literal: true

module Scheduler
  # PeriodicScheduler is enqueued by the clock; it hands out the work that recurs.
  class PeriodicScheduler < ApplicationWorker
    sidekiq_options queue: 'scheduler', retry: 0

    def self.plan
      JobRun.enqueue(origin: 'clock') { |jobs| jobs.plan(self) }
    end

    def work
      JobRun.enqueue(origin: 'scheduler') do |jobs|
        jobs.plan(MailerWorker)
        jobs.plan(Fasp::AnnounceWorker)
      end
    end
  end
end
