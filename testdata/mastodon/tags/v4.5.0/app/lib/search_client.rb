# frozen_string_literal: true

require 'net/http'

# SearchClient speaks to Elasticsearch or OpenSearch, as far as indexes need it.
class SearchClient
  class Error < StandardError; end

  def self.enabled?
    ENV['ES_ENABLED'] == 'true'
  end

  def initialize(host: ENV.fetch('ES_HOST', 'localhost'), port: Integer(ENV.fetch('ES_PORT', 9200)))
    host = "http://#{host}" unless host.start_with?('http://', 'https://')
    @base = URI("#{host}:#{port}")
  end

  # mapping is nil for an index that is not there.
  def mapping(index)
    response = request(Net::HTTP::Get, "/#{index}/_mapping")
    return if response.is_a?(Net::HTTPNotFound)

    parsed(response).fetch(index).fetch('mappings')
  end

  def create(index, mapping)
    parsed(request(Net::HTTP::Put, "/#{index}", { mappings: mapping }))
  end

  def update_mapping(index, mapping)
    parsed(request(Net::HTTP::Put, "/#{index}/_mapping", mapping))
  end

  def delete(index)
    response = request(Net::HTTP::Delete, "/#{index}")
    parsed(response) unless response.is_a?(Net::HTTPNotFound)
  end

  def put(index, id, document)
    parsed(request(Net::HTTP::Put, "/#{index}/_doc/#{id}", document))
  end

  private

  def request(kind, path, body = nil)
    request = kind.new(path, 'Content-Type' => 'application/json', 'Accept' => 'application/json')
    request.basic_auth(ENV.fetch('ES_USER'), ENV.fetch('ES_PASS', '')) if ENV['ES_USER']
    request.body = JSON.generate(body) if body
    Net::HTTP.start(@base.host, @base.port, use_ssl: @base.scheme == 'https', open_timeout: 5, read_timeout: 30) { |http| http.request(request) }
  end

  def parsed(response)
    raise Error, "the search engine answered #{response.code}: #{response.body}" unless response.is_a?(Net::HTTPSuccess)

    JSON.parse(response.body)
  end
end
