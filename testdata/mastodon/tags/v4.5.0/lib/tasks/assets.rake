# frozen_string_literal: true

require_relative '../mastodon/static_assets'

namespace :assets do
  desc 'Build public/packs and public/assets'
  task precompile: :environment do
    abort 'node_modules is missing: run yarn install first.' unless Rails.root.join('node_modules').directory?
    sh({ 'NODE_ENV' => 'production' }, 'node', 'config/packs.mjs', verbose: false)
    Rake::Task['assets:icons'].invoke
    Rake::Task['assets:generate_static_pages'].invoke
  end

  task icons: :environment do
    Mastodon::StaticAssets.new(Rails.root.join('app/javascript/icons'), Rails.public_path.join('assets')).write
  end

  task generate_static_pages: :environment do
    html = ApplicationController.render(template: 'errors/500', layout: false)
    Rails.public_path.join('assets').mkpath
    Rails.public_path.join('assets/500.html').write(html)
  end

  desc 'Remove what precompile made'
  task clobber: :environment do
    rm_rf [Rails.public_path.join('packs'), Rails.public_path.join('assets')]
  end
end
