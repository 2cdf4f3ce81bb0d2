# frozen_string_literal: true

class Status < ApplicationRecord
  belongs_to :account

  validates :text, presence: true, length: { maximum: 500 }
end
