# frozen_string_literal: true

# InitialState is what a page tells the web app. It is not cached: its version is
# that of the process that answered.
class InitialState
  def initialize(site)
    @site = site
  end

  def to_h
    {
      meta: {
        domain: @site.local_domain,
        version: Mastodon::Version.to_s,
        streaming_api_base_url: @site.streaming_api_base_url,
        locale: 'en',
      },
      contact: AccountSerializer.call(Account.order(:id).limit(1).pluck(:id)).values.first,
    }
  end
end
