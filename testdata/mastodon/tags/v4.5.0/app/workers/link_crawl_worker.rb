# frozen_string_literal: true

class LinkCrawlWorker < ApplicationWorker
  sidekiq_options queue: 'pull', retry: 3

  def work(status_id)
    links = Status.find(status_id).text.scan(%r{https?://\S+}).size
    Status.where(id: status_id).update_all(links_count: links)
  end
end
