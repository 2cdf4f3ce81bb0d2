# frozen_string_literal: true

class CreateJobRuns < ActiveRecord::Migration[7.1]
  def change
    create_table :job_runs do |t|
      t.string :job_class, null: false
      t.string :queue, null: false
      t.string :origin, null: false
      t.integer :runs, null: false, default: 0
      t.string :jid
      t.string :release
      t.datetime :created_at, null: false
      t.datetime :last_run_at
    end
  end
end
