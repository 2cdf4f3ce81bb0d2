# frozen_string_literal: true

module Api
  class BaseController < ActionController::API
    rescue_from ActiveRecord::RecordNotFound, with: -> { render json: { error: 'Record not found' }, status: 404 }
    rescue_from ActiveRecord::RecordInvalid, with: ->(e) { render json: { error: e.message }, status: 422 }

    private

    def require_account!
      token = request.authorization.to_s[/\ABearer (\S+)\z/, 1]
      @current_account = AccessToken.account_for(token) if token
      render json: { error: 'The access token is invalid' }, status: 401 unless @current_account
    end
  end
end
