# frozen_string_literal: true

# InstanceDocument is kept for three minutes in the Redis that all nodes share,
# under a key that does not name the version: it says nothing of the node asked.
class InstanceDocument
  def initialize(site)
    @site = site
  end

  def v1
    Rails.cache.fetch('instance/v1', expires_in: 3.minutes) do
      { uri: @site.local_domain, version: Mastodon::Version.to_s, thumbnail: thumbnail, urls: { streaming_api: @site.streaming_api_base_url }, stats: stats }
    end
  end

  def v2
    Rails.cache.fetch('instance/v2', expires_in: 3.minutes) do
      {
        domain: @site.local_domain,
        version: Mastodon::Version.to_s,
        thumbnail: { url: thumbnail },
        configuration: { urls: { streaming: @site.streaming_api_base_url } },
        usage: { users: stats },
      }
    end
  end

  private

  def thumbnail
    "https://#{@site.web_domain}#{Packs.manifest.path('images/preview.svg')}"
  end

  def stats
    { user_count: Account.count, status_count: Status.count }
  end
end
