# frozen_string_literal: true

# Packs reads what the build wrote about public/packs. Without a build there is
# no page: every reader of the manifest fails.
class Packs
  class Missing < StandardError; end

  PATH = Rails.public_path.join('packs/.vite/manifest.json')

  class << self
    def manifest
      @manifest ||= new(JSON.parse(PATH.read))
    rescue Errno::ENOENT
      raise Missing, "#{PATH} is missing: run rails assets:precompile"
    end
  end

  def initialize(entries)
    @entries = entries
  end

  def entry(name)
    @entries.fetch(name) { raise Missing, "#{name} is not in the packs manifest" }
  end

  def static_imports(chunk)
    chunk.fetch('imports', []).map { |name| entry(name) }.flat_map { |import| [import, *static_imports(import)] }.uniq
  end

  def path(name)
    "/packs/#{entry(name)['file']}"
  end
end
