# frozen_string_literal: true

class CreateAccountSettings < ActiveRecord::Migration[7.2]
  def up
    create_table :account_settings do |t|
      t.references :account, null: false, foreign_key: true, index: { unique: true }
      t.boolean :locked, null: false, default: false
      t.datetime :keypair_checked_at
      t.timestamps default: -> { 'CURRENT_TIMESTAMP' }
    end

    execute <<~SQL.squish
      INSERT INTO account_settings (account_id, locked)
      SELECT id, coalesce((settings->>'locked')::boolean, false) FROM accounts
    SQL
  end

  def down
    drop_table :account_settings
  end
end
