# frozen_string_literal: true

# ApplicationWorker is a job whose first argument is its number in the ledger.
# It is counted when its work is done, so a job cut off before that runs again
# without being counted twice.
class ApplicationWorker
  include Sidekiq::Job

  def perform(number, *)
    work(*)
    JobRun.finish!(number, jid)
  end
end
