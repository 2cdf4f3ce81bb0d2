# frozen_string_literal: true

class AddIndexOnLanguageToStatuses < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def change
    add_index :statuses, :language, algorithm: :concurrently, if_not_exists: true
  end
end
