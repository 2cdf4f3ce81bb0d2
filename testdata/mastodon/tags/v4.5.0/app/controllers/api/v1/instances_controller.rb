# frozen_string_literal: true

module Api
  module V1
    class InstancesController < BaseController
      def show
        render json: InstanceDocument.new(Rails.configuration.x).v1
      end
    end
  end
end
