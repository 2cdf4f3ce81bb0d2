# frozen_string_literal: true

class TagsIndex < SearchIndex
  def self.properties
    { 'name' => { 'type' => 'text' }, 'usage' => { 'type' => 'long' } }
  end
end
