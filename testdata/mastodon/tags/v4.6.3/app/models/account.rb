# frozen_string_literal: true

class Account < ApplicationRecord
  self.table_name = 'actors'

  has_one :user
  has_many :statuses

  validates :username, presence: true
end
