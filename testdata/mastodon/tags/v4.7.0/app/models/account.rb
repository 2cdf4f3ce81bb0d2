# frozen_string_literal: true

class Account < ApplicationRecord
  # Moved to account_settings; a post-deployment migration removes it.
  self.ignored_columns += ['settings']

  has_one :user
  has_one :account_setting
  has_many :statuses

  validates :username, presence: true
end
