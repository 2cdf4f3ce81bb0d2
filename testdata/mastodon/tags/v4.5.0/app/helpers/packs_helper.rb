# frozen_string_literal: true

# Tags for the files of public/packs, with their integrity.
module PacksHelper
  def pack_tags(entrypoint)
    entry = Packs.manifest.entry("entrypoints/#{entrypoint}.js")
    preloads = Packs.manifest.static_imports(entry).map do |chunk|
      tag.link(rel: 'modulepreload', href: "/packs/#{chunk['file']}", integrity: chunk['integrity'], crossorigin: 'anonymous')
    end
    script = tag.script(nil, type: 'module', src: "/packs/#{entry['file']}", integrity: entry['integrity'], crossorigin: 'anonymous')
    safe_join(preloads + [script], "\n")
  end

  def style_tag(name)
    style = Packs.manifest.entry("styles/#{name}.css")
    tag.link(rel: 'stylesheet', href: "/packs/#{style['file']}", integrity: style['integrity'], crossorigin: 'anonymous')
  end
end
