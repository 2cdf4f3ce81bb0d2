# frozen_string_literal: true

require 'digest'
require 'json'

module Mastodon
  # StaticAssets copies files under names that hold their digest and writes the
  # manifest .manifest.json from plain names to those.
  class StaticAssets
    def initialize(from, to)
      @from = from
      @to = to
    end

    def write
      @to.mkpath
      names = @from.children.sort.to_h do |file|
        bytes = file.binread
        name = "#{file.basename(file.extname)}-#{Digest::SHA256.hexdigest(bytes)[0, 8]}#{file.extname}"
        @to.join(name).binwrite(bytes)
        [file.basename.to_s, name]
      end
      @to.join('.manifest.json').write("#{JSON.pretty_generate(names)}\n")
    end
  end
end
