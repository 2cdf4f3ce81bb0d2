# frozen_string_literal: true

require 'openssl'

module PushSigner
  module_function

  def sign(key, text)
    OpenSSL::HMAC.hexdigest('SHA256', key, text)
  end
end
