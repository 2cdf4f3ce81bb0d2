# frozen_string_literal: true

# SearchIndex is a search index as this release defines it.
class SearchIndex
  # Specification compares the definition (current) with what the search engine
  # has (locked), part by part.
  Specification = Struct.new(:index) do
    def current
      { 'mappings' => index.mapping }
    end

    def locked
      there = SearchClient.new.mapping(index.index_name)
      there ? { 'mappings' => { 'properties' => there['properties'] } } : {}
    end

    def changed?
      SearchClient.enabled? && current != locked
    end
  end

  class << self
    def all
      [InstancesIndex, AccountsIndex, TagsIndex, PublicStatusesIndex, StatusesIndex]
    end

    def index_name
      name.delete_suffix('Index').underscore
    end

    def exists?
      !SearchClient.new.mapping(index_name).nil?
    end

    def specification
      Specification.new(self)
    end

    # properties maps field names to their mappings, with string keys.
    def properties
      raise NotImplementedError, "#{name} defines no properties"
    end

    # documents maps ids to what is indexed of them.
    def documents
      {}
    end

    def mapping
      { 'properties' => properties }
    end

    def update_mapping!
      client = SearchClient.new
      client.mapping(index_name) ? client.update_mapping(index_name, mapping) : client.create(index_name, mapping)
    end

    # reset! makes the index anew from the database and returns the count of documents.
    def reset!
      client = SearchClient.new
      client.delete(index_name)
      client.create(index_name, mapping)
      documents.each { |id, document| client.put(index_name, id, document) }.size
    end
  end
end
