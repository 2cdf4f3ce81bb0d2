# frozen_string_literal: true

# Waits for the lock of a table that a report reads in a long transaction. The
# report is part of this migration: a connection of its own, application_name
# "nightly-report", that keeps its transaction open for as many seconds as the
# setting lab.report_seconds says (45 when it is not set) on the table that the
# setting lab.report_table names ("imports" when it is not set).
class AddNoteToImports < ActiveRecord::Migration[7.2]
  disable_ddl_transaction!

  def up
    seconds = Float(Setting.read('lab.report_seconds') || 45)
    table = Setting.read('lab.report_table') || 'imports'
    report = start_report(table, seconds)
    transaction { add_column table, :note, :text }
  ensure
    report&.join
  end

  def down
    remove_column Setting.read('lab.report_table') || 'imports', :note
  end

  private

  def start_report(table, seconds)
    settings = connection_db_config.configuration_hash
    login = settings.slice(:host, :port, :password).merge(user: settings[:username], dbname: settings[:database], application_name: 'nightly-report')
    reading = Queue.new
    thread = Thread.new do
      session = PG.connect(login.compact)
      session.transaction do
        session.exec("SELECT count(*) FROM #{session.quote_ident(table)}")
        reading << true
        sleep seconds
      end
    ensure
      session&.close
    end
    reading.pop(timeout: 30) or raise 'the report did not start'
    thread
  end

  def connection_db_config
    ActiveRecord::Base.connection_db_config
  end
end
