# frozen_string_literal: true

class ManifestsController < ActionController::API
  def show
    render json: { name: Rails.configuration.x.local_domain, display: 'standalone', start_url: '/' }
  end
end
