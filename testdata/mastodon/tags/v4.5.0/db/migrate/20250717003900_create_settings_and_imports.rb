# frozen_string_literal: true

class CreateSettingsAndImports < ActiveRecord::Migration[7.2]
  def change
    create_table :settings do |t|
      t.string :var, null: false, index: { unique: true }
      t.text :value
      t.timestamps
    end

    create_table :imports do |t|
      t.references :account, null: false, foreign_key: true
      t.datetime :finished_at
      t.timestamps
    end
  end
end
