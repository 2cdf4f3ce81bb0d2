# frozen_string_literal: true

class MailerWorker < ApplicationWorker
  sidekiq_options queue: 'mailers'

  def work
    Rails.logger.debug { "digest for #{User.count} people" }
  end
end
