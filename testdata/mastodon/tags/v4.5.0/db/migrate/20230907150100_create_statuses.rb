# frozen_string_literal: true

class CreateStatuses < ActiveRecord::Migration[7.1]
  def change
    create_table :statuses do |t|
      t.references :account, null: false, foreign_key: true
      t.text :text, null: false
      t.integer :deliveries, null: false, default: 0
      t.timestamps
    end
  end
end
