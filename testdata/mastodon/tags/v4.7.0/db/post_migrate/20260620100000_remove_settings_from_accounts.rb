# frozen_string_literal: true

class RemoveSettingsFromAccounts < ActiveRecord::Migration[7.2]
  def change
    remove_column :accounts, :settings, :jsonb, null: false, default: {}
  end
end
