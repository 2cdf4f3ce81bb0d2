# frozen_string_literal: true

# A request must name one of the site's own hosts; a health check from a load
# balancer names none, so exactly /health is exempt.
Rails.application.configure do
  unless Rails.env.development?
    config.hosts.push(config.x.local_domain, config.x.web_domain, *config.x.alternate_domains)
    config.host_authorization = { exclude: ->(request) { request.path == '/health' } }
  end
end
