# frozen_string_literal: true

module ActivityPub
  class InboxesController < ActionController::API
    def create
      JobRun.enqueue(origin: 'web') { |jobs| jobs.plan(ProcessingWorker, request.raw_post.bytesize) }
      head :accepted
    end
  end
end
