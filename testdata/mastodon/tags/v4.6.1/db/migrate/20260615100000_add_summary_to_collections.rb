# frozen_string_literal: true

class AddSummaryToCollections < ActiveRecord::Migration[7.2]
  def change
    add_column :collections, :summary, :text
  end
end
