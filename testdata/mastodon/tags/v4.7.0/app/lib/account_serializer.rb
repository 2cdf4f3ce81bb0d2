# frozen_string_literal: true

# Maps account ids to what the API says of them.
class AccountSerializer
  def self.call(ids)
    accounts = Account.where(id: ids).left_joins(:account_setting)
    accounts.pluck(:id, :username, :display_name, 'account_settings.locked').to_h do |id, username, name, locked|
      [id, { id: id.to_s, username: username, acct: username, display_name: name, locked: locked || false }]
    end
  end
end
