# frozen_string_literal: true

# The old release goes on reading "accounts", now a view that is a fifth of a
# second slower for each query.
class RenameAccountsToActors < ActiveRecord::Migration[7.2]
  def up
    rename_table :accounts, :actors
    execute 'CREATE VIEW accounts AS SELECT actors.* FROM actors, (SELECT pg_sleep(0.2)) AS audit'
  end

  def down
    execute 'DROP VIEW accounts'
    rename_table :actors, :accounts
  end
end
