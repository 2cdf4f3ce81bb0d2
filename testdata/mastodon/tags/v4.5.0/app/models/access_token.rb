# frozen_string_literal: true

class AccessToken < ApplicationRecord
  self.table_name = 'oauth_access_tokens'

  belongs_to :user, foreign_key: :resource_owner_id, inverse_of: false

  # account_for is nil for a token that is unknown or revoked.
  def self.account_for(token)
    Account.joins(user: []).where(users: { id: where(token: token, revoked_at: nil).select(:resource_owner_id) }).select(:id, :username).first
  end
end
