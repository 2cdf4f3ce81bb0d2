# frozen_string_literal: true

class StatusSerializer
  def self.call(statuses)
    accounts = AccountSerializer.call(statuses.map(&:account_id).uniq)
    statuses.map do |status|
      { id: status.id.to_s, created_at: status.created_at.iso8601(3), visibility: 'public', language: status.language, content: status.text, account: accounts[status.account_id] }
    end
  end
end
