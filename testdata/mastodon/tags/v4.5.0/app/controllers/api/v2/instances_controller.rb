# frozen_string_literal: true

module Api
  module V2
    class InstancesController < BaseController
      def show
        render json: InstanceDocument.new(Rails.configuration.x).v2
      end
    end
  end
end
