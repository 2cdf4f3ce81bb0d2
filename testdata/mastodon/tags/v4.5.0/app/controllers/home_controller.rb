# frozen_string_literal: true

class HomeController < ApplicationController
  def index
    page 'application'
  end

  def sign_in
    page 'public'
  end

  private

  def page(entrypoint)
    @entrypoint = entrypoint
    @initial_state = InitialState.new(Rails.configuration.x).to_h
    response.headers['Cache-Control'] = 'public, max-age=15, stale-while-revalidate=30, stale-if-error=86400'
    render :index
  end
end
