# frozen_string_literal: true

class ImportWorker < ApplicationWorker
  sidekiq_options queue: 'pull', retry: 25

  def work(import_id)
    Import.where(id: import_id).update_all(finished_at: Time.current)
  end
end
