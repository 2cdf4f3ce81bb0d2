# frozen_string_literal: true

class AccountSetting < ApplicationRecord
  belongs_to :account
end
