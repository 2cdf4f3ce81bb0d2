# frozen_string_literal: true

require 'thor'

module Mastodon
  module CLI
    class Search < Thor
      def self.exit_on_failure? = true

      desc 'deploy', 'Bring the search indexes to this release\'s definitions'
      option :only_mapping, type: :boolean, default: false, desc: 'Update mappings in place, import nothing'
      option :only, type: :array, enum: SearchIndex.all.map(&:index_name), desc: 'Only these indexes'
      def deploy
        raise Thor::Error, 'Search is not enabled (ES_ENABLED)' unless SearchClient.enabled?

        indices = SearchIndex.all
        indices = indices.select { |index| options[:only].include?(index.index_name) } if options[:only]
        indices = indices.select { |index| index.specification.changed? }
        say('Nothing changed') if indices.empty?
        indices.each { |index| options[:only_mapping] ? update(index) : rebuild(index) }
      end

      private

      def update(index)
        index.update_mapping!
        say("Updated mapping of #{index.index_name}")
      end

      def rebuild(index)
        count = index.reset!
        say("Rebuilt #{index.index_name}, #{count} documents")
      end
    end

    class Main < Thor
      def self.exit_on_failure? = true

      desc 'version', 'Show the version'
      def version
        say(Mastodon::Version.to_s)
      end

      desc 'search SUBCOMMAND ...ARGS', 'Manage the search engine'
      subcommand 'search', Search
    end
  end
end
