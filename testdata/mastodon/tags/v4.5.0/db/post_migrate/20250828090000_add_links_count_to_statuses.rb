# frozen_string_literal: true

class AddLinksCountToStatuses < ActiveRecord::Migration[7.2]
  def change
    add_column :statuses, :links_count, :integer, null: false, default: 0
  end
end
