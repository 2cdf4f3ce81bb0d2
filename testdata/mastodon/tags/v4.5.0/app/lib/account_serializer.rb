# frozen_string_literal: true

# Maps account ids to what the API says of them.
class AccountSerializer
  def self.call(ids)
    Account.where(id: ids).pluck(:id, :username, :display_name, :settings).to_h do |id, username, name, settings|
      [id, { id: id.to_s, username: username, acct: username, display_name: name, locked: settings.fetch('locked', false) }]
    end
  end
end
