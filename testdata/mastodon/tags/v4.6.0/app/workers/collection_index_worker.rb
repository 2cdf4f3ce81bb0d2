# frozen_string_literal: true

class CollectionIndexWorker < ApplicationWorker
  sidekiq_options queue: 'collections'

  def work(status_id)
    status = Status.find(status_id)
    collection = Collection.find_by(account_id: status.account_id, language: status.language) || Collection.of(status.account_id, status.language)
    Collection.where(id: collection.id).update_all('items_count = items_count + 1')
  end
end
