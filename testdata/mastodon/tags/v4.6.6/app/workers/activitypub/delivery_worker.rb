# frozen_string_literal: true

require 'push_signer'

module ActivityPub
  class DeliveryWorker < ApplicationWorker
    sidekiq_options queue: 'push', retry: 16

    def work(status_id)
      signature = PushSigner.sign(Rails.application.secret_key_base, Status.find(status_id).text)
      Sidekiq.redis { |redis| redis.call('SET', "delivery:#{status_id}", signature, 'EX', 3600) }
      Status.where(id: status_id).update_all('deliveries = deliveries + 1')
    end
  end
end
