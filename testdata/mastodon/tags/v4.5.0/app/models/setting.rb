# frozen_string_literal: true

class Setting < ApplicationRecord
  # read is nil for a name that was never set.
  def self.read(name)
    where(var: name).pick(:value)
  end
end
