# frozen_string_literal: true

module ActivityPub
  class DeliveryWorker < ApplicationWorker
    sidekiq_options queue: 'push', retry: 16

    def work(status_id)
      Status.where(id: status_id).update_all('deliveries = deliveries + 1')
    end
  end
end
