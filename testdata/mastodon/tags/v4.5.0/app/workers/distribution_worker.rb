# frozen_string_literal: true

class DistributionWorker < ApplicationWorker
  sidekiq_options queue: 'default'

  # job_ms: how long the distribution takes.
  def work(status_id, job_ms = 0)
    status = Status.find(status_id)
    sleep(job_ms.clamp(0, 120_000) / 1000.0)
    Sidekiq.redis do |redis|
      redis.call('LPUSH', "feed:home:#{status.account_id}", status.id)
      redis.call('LTRIM', "feed:home:#{status.account_id}", 0, 399)
    end
  end
end
