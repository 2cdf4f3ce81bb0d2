# frozen_string_literal: true

module Mastodon
  module Version
    module_function

    def major
      4
    end

    def minor
      5
    end

    def patch
      0
    end

    def prerelease
      ENV['MASTODON_VERSION_PRERELEASE'].to_s
    end

    def metadata
      ENV['MASTODON_VERSION_METADATA'].to_s
    end

    def to_s
      version = [major, minor, patch].join('.')
      version += "-#{prerelease}" unless prerelease.empty?
      version += "+#{metadata}" unless metadata.empty?
      version
    end
  end
end
