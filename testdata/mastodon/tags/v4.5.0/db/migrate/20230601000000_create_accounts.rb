# frozen_string_literal: true

class CreateAccounts < ActiveRecord::Migration[7.1]
  def change
    create_table :accounts do |t|
      t.string :username, null: false, index: { unique: true }
      t.string :display_name, null: false, default: ''
      t.jsonb :settings, null: false, default: {}
      t.timestamps
    end

    create_table :users do |t|
      t.references :account, null: false, foreign_key: true
      t.string :email, null: false, index: { unique: true }
      t.string :otp_secret
      t.timestamps
    end

    create_table :oauth_access_tokens do |t|
      t.string :token, null: false, index: { unique: true }
      t.bigint :resource_owner_id, null: false
      t.string :scopes, null: false, default: 'read write'
      t.datetime :revoked_at
      t.datetime :created_at, null: false
    end
    add_foreign_key :oauth_access_tokens, :users, column: :resource_owner_id
  end
end
