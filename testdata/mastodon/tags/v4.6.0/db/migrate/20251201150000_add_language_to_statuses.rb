# frozen_string_literal: true

class AddLanguageToStatuses < ActiveRecord::Migration[7.2]
  def change
    add_column :statuses, :language, :string
  end
end
