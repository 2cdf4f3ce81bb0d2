# frozen_string_literal: true

class PublicStatusesIndex < SearchIndex
  def self.properties
    { 'account_id' => { 'type' => 'long' }, 'text' => { 'type' => 'text' }, 'created_at' => { 'type' => 'date' } }
  end
end
