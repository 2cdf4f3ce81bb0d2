# frozen_string_literal: true

class InstancesIndex < SearchIndex
  def self.properties
    { 'domain' => { 'type' => 'keyword' }, 'accounts_count' => { 'type' => 'long' } }
  end
end
