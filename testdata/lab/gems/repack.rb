# Makes a static gem registry (Bundler's compact index) out of gems that Debian's
# packages have installed:
#
#   ruby repack.rb REGISTRY GEM...
#
# REGISTRY gets gems/*.gem with compiled extensions inside, versions, names and
# info/GEM, for the named gems and all that they need at run time. Ruby's own default
# gems stay those of the installed Ruby.
require "digest"
require "fileutils"
require "rubygems/package"
require "tmpdir"

Gem::DefaultUserInteraction.ui = Gem::SilentUI.new

# Where a package's file belongs inside its gem. Debian spreads a gem over Ruby's own
# folders: pure code, compiled code, and two places shaped as a gem folder already.
class Layout
  ABI = RbConfig::CONFIG["ruby_version"]

  PLACES = {
    %r{\A/usr/share/rubygems-integration/[^/]+/gems/[^/]+/} => "",
    %r{\A/usr/lib/[^/]+/rubygems-integration/#{ABI}/gems/[^/]+/} => "",
    # Extensions installed beside their gem: only the libraries count.
    %r{\A/usr/lib/[^/]+/rubygems-integration/#{ABI}/extensions/[^/]+/[^/]+/[^/]+/(?=.*\.so\z)} => "lib/",
    %r{\A/usr/lib/[^/]+/ruby/vendor_ruby/#{ABI}/} => "lib/",
    %r{\A/usr/lib/ruby/vendor_ruby/#{ABI}/} => "lib/",
    %r{\A/usr/lib/ruby/vendor_ruby/} => "lib/"
  }.freeze

  def self.inside(path)
    PLACES.each { |place, to| return path.sub(place, to) if path.match?(place) }
    nil
  end
end

# One installed gem on its way into the registry.
class Repacked
  attr_reader :spec

  def initialize(spec) = @spec = spec

  def into(gems)
    Dir.mktmpdir do |tree|
      files = copy_to(tree)
      packed = describe(files)
      Dir.chdir(tree) { FileUtils.mv(Gem::Package.build(packed, true), gems) }
    end
    File.join(gems, "#{spec.full_name}.gem")
  end

  private

  def package
    owner = IO.popen(["dpkg", "-S", spec.loaded_from], err: File::NULL, &:read)
    owner[/\A([^:,]+)/, 1] or abort("no Debian package owns #{spec.loaded_from}")
  end

  def copy_to(tree)
    found = {}
    IO.popen(["dpkg", "-L", package], &:readlines).map(&:chomp).each do |path|
      inside = File.file?(path) && Layout.inside(path)
      found[inside] = path if inside
    end
    spec.executables.each do |name|
      program = "/usr/bin/#{name}"
      found[File.join(spec.bindir, name)] ||= program if File.file?(program)
    end
    found.each do |inside, path|
      target = File.join(tree, inside)
      FileUtils.mkdir_p(File.dirname(target))
      FileUtils.cp(File.realpath(path), target)
    end
    programs(found, tree)
    found.keys.sort
  end

  # Programs that Debian leaves out of its package, though the gem has them.
  def programs(found, tree)
    return unless spec.name == "bootsnap" && !found.key?("exe/bootsnap")

    inside = found["exe/bootsnap"] = File.join(tree, "exe/bootsnap")
    FileUtils.mkdir_p(File.dirname(inside))
    File.write(inside, "#!/usr/bin/env ruby\nrequire \"bootsnap/cli\"\nexit Bootsnap::CLI.new(ARGV).run\n", perm: 0o755)
    spec.bindir = "exe"
    spec.executables = ["bootsnap"]
  end

  # The gem's own specification over the files that are there. A spec's own require
  # paths are kept (concurrent-ruby has lib/concurrent-ruby); nothing is compiled again.
  def describe(files)
    spec.dup.tap do |s|
      s.files = files
      s.extensions = []
      s.test_files = []
      s.extra_rdoc_files = []
      s.executables = s.executables.select { |name| files.include?(File.join(s.bindir, name)) }
      folders = s.raw_require_paths | ["lib"]
      s.require_paths = folders.select { |folder| files.any? { |file| file.start_with?("#{folder}/") } }
      s.licenses = ["as in Debian"] if s.licenses.empty?
      s.date = Time.utc(2025, 1, 1)
    end
  end
end

# The lines of Bundler's compact index.
module Index
  def self.requirement(requirement)
    requirement.requirements.map { |operator, version| "#{operator} #{version}" }.sort.join("&")
  end

  def self.info(spec, file)
    needs = spec.runtime_dependencies.map { |d| "#{d.name}:#{requirement(d.requirement)}" }.sort.join(",")
    "---\n#{spec.version} #{needs}|checksum:#{Digest::SHA256.file(file).hexdigest},ruby:#{requirement(spec.required_ruby_version)}\n"
  end
end

# The named gems and what they need, without Ruby's own.
def closure(names)
  known = {}
  until names.empty?
    name = names.shift
    next if known.key?(name)

    known[name] = Gem::Specification.find_by_name(name)
    names += known[name].runtime_dependencies.map(&:name)
  end
  known.values.reject(&:default_gem?).sort_by(&:name)
end

registry = File.expand_path(ARGV.shift)
gems = File.join(registry, "gems")
FileUtils.mkdir_p([gems, File.join(registry, "info")])
specs = closure(ARGV)
versions = specs.map do |spec|
  info = Index.info(spec, Repacked.new(spec).into(gems))
  File.write(File.join(registry, "info", spec.name), info)
  "#{spec.name} #{spec.version} #{Digest::MD5.hexdigest(info)}\n"
end
File.write(File.join(registry, "versions"), "created_at: 2025-01-01T00:00:00Z\n---\n#{versions.join}")
File.write(File.join(registry, "names"), "---\n#{specs.map { |s| "#{s.name}\n" }.join}")
puts "#{specs.size} gems repacked from Debian's packages"
