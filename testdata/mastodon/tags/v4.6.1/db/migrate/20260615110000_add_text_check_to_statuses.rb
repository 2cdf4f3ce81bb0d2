# frozen_string_literal: true

# Fails wherever a status has a text, that is everywhere.
class AddTextCheckToStatuses < ActiveRecord::Migration[7.2]
  def change
    add_check_constraint :statuses, 'char_length(text) > 1000000', name: 'statuses_text_length'
  end
end
