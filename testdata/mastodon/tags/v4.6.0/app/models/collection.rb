# frozen_string_literal: true

class Collection < ApplicationRecord
  belongs_to :account

  # As upstream's models have it since 4.5: the class cannot be loaded before the
  # release's own migrations made what it stands on.
  attribute_types.fetch('items_count')

  # of is the account's collection in a language, made when there is none yet.
  def self.of(account_id, language)
    create_or_find_by!(account_id: account_id, language: language)
  end
end
