# frozen_string_literal: true

require 'zlib'

module Mastodon
  # Filler brings a release to the size of a real one: thousands of files of made-up
  # text that compress as real ones do. They follow from config/filler.json alone,
  # so that every machine makes the same ones and the repository need not hold them.
  #
  # Each set of the file names where its files go, how many, of what mean size, and
  # in "rewritten" the share of them that each release since the first has rewritten.
  # With "hashed" a file's name changes with its content, as a bundler's chunks do.
  class Filler
    # Of all lines this share is new, the others come from a pool that all files draw
    # on: zstd -3 --long=27 then packs 4 bytes into one, as it does with a real release.
    NEW_LINES = 0.25
    POOL = 4_000
    LINE = 64
    # Files of one folder, and folders of one gem.
    FOLDER = 10
    GEM = 4
    # A file has at most so many times the size of the smallest.
    LARGEST = 120

    def initialize(sets, root:, gems:)
      @sets = sets
      @places = { 'gems' => gems, 'packs' => root.join('public/packs/assets') }
      random = Random.new(1)
      @pool = Array.new(POOL) { line(random) }
    end

    # Writes all files and gives their number.
    def write
      @sets.sum do |set|
        set.fetch('files').times { |n| put(set, n) }
        set.fetch('files')
      end
    end

    private

    def put(set, number)
      seed = Zlib.crc32("#{set.fetch('to')} #{number} #{rewritten(set, number)}")
      random = Random.new(seed)
      file = @places.fetch(set.fetch('to')).join(set['hashed'] ? format('chunk-%05d-%08x.js', number, seed) : path(number))
      file.dirname.mkpath
      file.binwrite(text(size(set.fetch('mean'), random), random))
    end

    # The release that last rewrote a file, empty for the first.
    def rewritten(set, number)
      set.fetch('rewritten', {}).select { |release, share| Zlib.crc32("#{release} #{number}") % 10_000 < share * 10_000 }.keys.last
    end

    def path(number)
      folder, file = number.divmod(FOLDER)
      gem, part = folder.divmod(GEM)
      format('filler-%04d-1.0.0/lib/part%d/file%d.rb', gem, part, file)
    end

    # Many small files and few large ones, as in any tree of source.
    def size(mean, random)
      spread = [1 / (1 - random.rand), LARGEST].min
      (mean * spread / (1 + Math.log(LARGEST))).to_i
    end

    def text(bytes, random)
      lines = Array.new((bytes / (LINE + 1)) + 1) { random.rand < NEW_LINES ? line(random) : @pool[random.rand(POOL)] }
      lines.join("\n").byteslice(0, bytes)
    end

    def line(random)
      random.bytes(LINE / 2).unpack1('H*')
    end
  end
end
