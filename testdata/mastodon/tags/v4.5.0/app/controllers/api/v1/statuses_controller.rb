# frozen_string_literal: true

module Api
  module V1
    class StatusesController < BaseController
      before_action :require_account!, only: :create

      def show
        render json: StatusSerializer.call([Status.find(params[:id])]).first
      end

      # job_ms makes the job that distributes the status take that long.
      def create
        status = PostStatus.new(@current_account, text: params[:status], job_ms: params[:job_ms].to_i).call
        render json: StatusSerializer.call([status]).first
      end
    end
  end
end
