# frozen_string_literal: true

class FillLanguageOfStatuses < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  class Status < ActiveRecord::Base; end

  def up
    Status.where(language: nil).in_batches(of: 1000) { |batch| batch.update_all(language: 'en') }
  end

  # The old release does not know the column: there is nothing to take back.
  def down; end
end
