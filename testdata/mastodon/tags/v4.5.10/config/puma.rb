# frozen_string_literal: true

persistent_timeout Integer(ENV.fetch('PERSISTENT_TIMEOUT', 20))

max_threads = Integer(ENV.fetch('MAX_THREADS', 5))
threads Integer(ENV.fetch('MIN_THREADS', max_threads)), max_threads

if ENV['SOCKET']
  bind "unix://#{ENV.fetch('SOCKET')}"
else
  bind "tcp://#{ENV.fetch('BIND', '127.0.0.1')}:#{ENV.fetch('PORT', 3000)}"
end

environment ENV.fetch('RAILS_ENV')
workers Integer(ENV.fetch('WEB_CONCURRENCY', 2))

preload_app!

set_remote_address proxy_protocol: :v1 if ENV['PROXY_PROTO_V1'] == 'true'

plugin :tmp_restart
plugin :systemd_notify
