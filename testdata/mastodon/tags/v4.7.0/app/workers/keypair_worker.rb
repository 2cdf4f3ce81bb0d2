# frozen_string_literal: true

class KeypairWorker < ApplicationWorker
  sidekiq_options queue: 'default'

  def work(account_id)
    AccountSetting.where(account_id: account_id).update_all(keypair_checked_at: Time.current)
  end
end
