# frozen_string_literal: true

Gem::Specification.new do |spec|
  spec.name = 'push_signer'
  spec.version = '1.0.0'
  spec.summary = 'Signs what a stand-in delivers'
  spec.authors = ['Stand-in Upstream']
  spec.license = 'Apache-2.0'
  spec.required_ruby_version = '>= 3.1'
  spec.files = ['lib/push_signer.rb']
end
