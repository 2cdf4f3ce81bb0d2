# frozen_string_literal: true

require 'json'
require_relative '../mastodon/filler'

# A release with config/filler.json is as large as a real one. Gems belong to root by
# then, so what stands for their files lies beside them.
if (filler = Rails.root.join('config/filler.json')).exist?
  Rake::Task['assets:precompile'].enhance do
    sets = JSON.parse(filler.read).fetch('sets')
    files = Mastodon::Filler.new(sets, root: Rails.root, gems: Rails.root.join('filler')).write
    puts "#{files} files of filler"
  end
end
