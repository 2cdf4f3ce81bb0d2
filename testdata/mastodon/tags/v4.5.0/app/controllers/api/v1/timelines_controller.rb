# frozen_string_literal: true

module Api
  module V1
    class TimelinesController < BaseController
      def public_timeline
        limit = params.fetch(:limit, 20).to_i.clamp(1, 40)
        render json: StatusSerializer.call(Status.order(id: :desc).limit(limit))
      end
    end
  end
end
