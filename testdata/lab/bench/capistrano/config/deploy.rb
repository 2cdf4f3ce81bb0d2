# frozen_string_literal: true

LIB = '/usr/local/lib/bench'

set :application, 'mastodon'
set :release, ENV.fetch('TO')
set :deploy_to, '/home/mastodon'
set :current_directory, 'live'
set :keep_releases, 3
set :format_options, log_file: '/dev/null', color: false, truncate: false
set :ssh_options, user: 'root', keys: ['/bench/keys/admin'], keys_only: true, auth_methods: %w(publickey),
                  user_known_hosts_file: '/bench/keys/known_hosts', verify_host_key: :always, config: false

def phase(name)
  puts "== bench: #{name}"
end

def proxies(state, node)
  on(ENV.fetch('PROXIES').split.map { |address| "root@#{address}" }, in: :parallel) { execute "#{LIB}/upstream", state, node.hostname }
end

before('deploy:starting', :begin_place) { phase 'place' }

after 'deploy:updated', :prepare do
  phase 'bridge'
  on(roles(:web), in: :parallel) { execute "#{LIB}/bridge", ENV.fetch('FROM'), fetch(:release) }
  phase 'pre-migrate'
  on(primary(:db)) { execute "#{LIB}/migrate", 'pre', fetch(:release) }
  phase 'roll'
end

# Capistrano moves the link on all hosts at once; a roll has to follow that.
after 'deploy:publishing', :roll do
  release = fetch(:release)
  roles(:sidekiq).each do |node|
    on(node) { execute "#{LIB}/quiet && #{LIB}/units stop && #{LIB}/units start && #{LIB}/gate-sidekiq #{release}" }
  end
  roles(:web).each do |node|
    proxies 'down', node
    on(node) { execute "#{LIB}/in-flight && #{LIB}/units stop && #{LIB}/units start && #{LIB}/gate-web #{release}" }
    proxies 'up', node
  end
  phase 'finish'
end

after 'deploy:finished', :finish do
  on(primary(:db)) { execute "#{LIB}/migrate post #{fetch(:release)} && #{LIB}/search #{ENV.fetch('FROM')} #{fetch(:release)}" }
end
