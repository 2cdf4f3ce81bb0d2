# frozen_string_literal: true

module Api
  module V1
    class AccountsController < BaseController
      before_action :require_account!

      def verify_credentials
        render json: AccountSerializer.call([@current_account.id]).values.first
      end
    end
  end
end
