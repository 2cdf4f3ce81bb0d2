# frozen_string_literal: true

# PostStatus writes a status, hands out its jobs and tells the streaming server.
class PostStatus
  def initialize(account, text:, job_ms: 0)
    @account = account
    @text = text
    @job_ms = job_ms
  end

  def call
    status = nil
    JobRun.enqueue(origin: 'web') do |jobs|
      status = Status.create!(attributes)
      plan(jobs, status)
    end
    publish(status)
    status
  end

  private

  def attributes
    { account_id: @account.id, text: @text, language: 'en' }
  end

  def plan(jobs, status)
    jobs.plan(DistributionWorker, status.id, @job_ms)
    jobs.plan(ActivityPub::DeliveryWorker, status.id)
    jobs.plan(LinkCrawlWorker, status.id)
    jobs.plan(CollectionIndexWorker, status.id)
  end

  def publish(status)
    event = JSON.generate(event: 'update', payload: StatusSerializer.call([status]).first, queued_at: (Time.now.to_f * 1000).to_i)
    Sidekiq.redis do |redis|
      redis.call('PUBLISH', 'timeline:public', event)
      redis.call('PUBLISH', "timeline:#{@account.id}", event)
    end
  end
end
