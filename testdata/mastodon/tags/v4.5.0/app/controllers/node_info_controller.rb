# frozen_string_literal: true

class NodeInfoController < ActionController::API
  def show
    info = Rails.cache.fetch('nodeinfo/2.0', expires_in: 30.minutes) do
      { version: '2.0', software: { name: 'mastodon', version: Mastodon::Version.to_s }, usage: { users: { total: Account.count } } }
    end
    render json: info
  end
end
