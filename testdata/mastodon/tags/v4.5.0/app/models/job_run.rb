# frozen_string_literal: true

# JobRun is the ledger of jobs. A row is written when a job is planned, before
# Sidekiq is told of it, and counts the runs that were finished: after all is
# worked off, runs = 0 is a lost job and runs > 1 a doubled one.
class JobRun < ApplicationRecord
  class << self
    # enqueue runs the block in a transaction; the jobs it plans are pushed after
    # that is committed. delay is in seconds.
    def enqueue(origin:, delay: 0)
      planner = Planner.new(origin)
      transaction { yield planner }
      planner.push(delay)
    end

    def finish!(number, jid)
      where(id: number).update_all(['runs = runs + 1, jid = ?, release = ?, last_run_at = now()', jid, Mastodon::Version.to_s])
    end
  end

  class Planner
    def initialize(origin)
      @origin = "#{origin}:#{Socket.gethostname}"
      @planned = []
    end

    def plan(worker, *args)
      queue = worker.get_sidekiq_options['queue']
      run = JobRun.create!(job_class: worker.name, queue: queue, origin: @origin)
      @planned << [worker, [run.id, *args]]
    end

    def push(delay)
      @planned.each { |worker, args| delay.positive? ? worker.perform_in(delay, *args) : worker.perform_async(*args) }
    end
  end
end
