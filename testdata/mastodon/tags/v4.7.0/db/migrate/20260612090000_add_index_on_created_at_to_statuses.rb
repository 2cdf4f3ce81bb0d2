# frozen_string_literal: true

class AddIndexOnCreatedAtToStatuses < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def change
    add_index :statuses, :created_at, algorithm: :concurrently, if_not_exists: true
  end
end
