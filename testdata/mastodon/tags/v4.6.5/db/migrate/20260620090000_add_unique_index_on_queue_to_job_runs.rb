# frozen_string_literal: true

# Fails and leaves its index behind, INVALID. It plants the duplicate itself, so
# that it fails on an empty ledger too: two jobs of one queue, finished, since a
# ledger with runs = 0 would tell of lost ones.
class AddUniqueIndexOnQueueToJobRuns < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def up
    execute <<~SQL.squish
      INSERT INTO job_runs (job_class, queue, origin, runs, created_at, last_run_at)
      SELECT 'MailerWorker', 'mailers', 'migration', 1, now(), now() FROM generate_series(1, 2)
    SQL
    add_index :job_runs, :queue, unique: true, algorithm: :concurrently
  end

  def down
    remove_index :job_runs, :queue, algorithm: :concurrently
  end
end
