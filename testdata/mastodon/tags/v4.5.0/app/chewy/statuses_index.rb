# frozen_string_literal: true

class StatusesIndex < SearchIndex
  def self.properties
    { 'account_id' => { 'type' => 'long' }, 'text' => { 'type' => 'text' }, 'searchable_by' => { 'type' => 'long' } }
  end

  def self.documents
    Status.pluck(:id, :account_id, :text).to_h { |id, account, text| [id, { account_id: account, text: text, searchable_by: [account] }] }
  end
end
