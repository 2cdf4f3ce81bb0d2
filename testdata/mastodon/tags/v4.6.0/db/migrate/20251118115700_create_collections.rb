# frozen_string_literal: true

class CreateCollections < ActiveRecord::Migration[7.2]
  def change
    create_table :collections do |t|
      t.references :account, null: false, foreign_key: true
      t.string :language, null: false, default: 'en'
      t.integer :items_count, null: false, default: 0
      t.timestamps
      t.index %i(account_id language), unique: true
    end
  end
end
