# frozen_string_literal: true

# Fails wherever two jobs were of one queue, and leaves its index behind, INVALID.
class AddUniqueIndexOnQueueToJobRuns < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def change
    add_index :job_runs, :queue, unique: true, algorithm: :concurrently
  end
end
