# frozen_string_literal: true

# Says that this process has booted; asks neither database nor Redis.
class HealthController < ActionController::API
  def show
    render plain: 'OK'
  end
end
