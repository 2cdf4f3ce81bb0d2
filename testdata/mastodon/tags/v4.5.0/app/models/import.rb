# frozen_string_literal: true

class Import < ApplicationRecord
  belongs_to :account
end
