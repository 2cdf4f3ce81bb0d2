# frozen_string_literal: true

class AccountsIndex < SearchIndex
  def self.properties
    {
      'username' => { 'type' => 'keyword' },
      'display_name' => { 'type' => 'text' },
      'last_status_at' => { 'type' => 'date' },
      'discoverable' => { 'type' => 'boolean' },
    }
  end

  def self.documents
    Account.pluck(:id, :username, :display_name).to_h { |id, username, name| [id, { username: username, display_name: name, discoverable: true }] }
  end
end
