# frozen_string_literal: true

module Api
  module V1
    class ImportsController < BaseController
      before_action :require_account!

      # delay: seconds after which the import starts.
      def create
        import = Import.create!(account_id: @current_account.id)
        JobRun.enqueue(origin: 'web', delay: params[:delay].to_i) { |jobs| jobs.plan(ImportWorker, import.id) }
        render json: { id: import.id.to_s }
      end
    end
  end
end
