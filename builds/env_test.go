package builds

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentNamesAreReadInEveryForm(t *testing.T) {
	for name, c := range map[string]struct {
		text                    string
		code, comments, unknown []string
	}{
		"an index":                  {"x = ENV['LOCAL_DOMAIN']", []string{"LOCAL_DOMAIN"}, nil, nil},
		"double quotes":             {`x = ENV["LOCAL_DOMAIN"]`, []string{"LOCAL_DOMAIN"}, nil, nil},
		"blanks":                    {"x = ENV [ 'A' ]", []string{"A"}, nil, nil},
		"a default":                 {"port = ENV.fetch('PORT', 3000)", []string{"PORT"}, nil, nil},
		"a default that is a name":  {"ENV.fetch('WEB_DOMAIN', ENV.fetch('LOCAL_DOMAIN', 'x'))", []string{"WEB_DOMAIN", "LOCAL_DOMAIN"}, nil, nil},
		"a block":                   {"ENV.fetch('MIN_THREADS') { max }", []string{"MIN_THREADS"}, nil, nil},
		"no brackets":               {"ENV.fetch 'PORT', 3000", []string{"PORT"}, nil, nil},
		"over two lines":            {"ENV.fetch(\n  'PORT',\n  3000\n)", []string{"PORT"}, nil, nil},
		"a question":                {"if ENV.key?('WHITELIST_MODE')", []string{"WHITELIST_MODE"}, nil, nil},
		"other questions":           {"ENV.include?('A') || ENV.has_key?(\"B\") || ENV.dig('C')", []string{"A", "B", "C"}, nil, nil},
		"several":                   {"ENV.values_at('A', \"B\",\n 'C').compact", []string{"A", "B", "C"}, nil, nil},
		"a default beside is none":  {"ENV.fetch('A', 'B')", []string{"A"}, nil, nil},
		"a small name":              {"ENV['http_proxy']", []string{"http_proxy"}, nil, nil},
		"YAML with ERB":             {"host: <%= ENV['DB_HOST'] || 'localhost' %>", []string{"DB_HOST"}, nil, nil},
		"set unless it is":          {"ENV['RAILS_ENV'] ||= 'production'", []string{"RAILS_ENV"}, nil, nil},
		"set by a name that varies": {"ENV[key] = value.to_s", nil, nil, nil},
		"asked by one that varies":  {"  if ENV[key] == 'true'", nil, nil, []string{"if ENV[key] == 'true'"}},
		"a name put together":       {"url = ENV.fetch(\"#{prefix}URL\", nil)", nil, nil, []string{"url = ENV.fetch(\"#{prefix}URL\", nil)"}},
		"a name in a variable":      {"ENV.fetch(key, '')", nil, nil, []string{"ENV.fetch(key, '')"}},
		"a name and a varying one":  {"ENV['A'] + ENV[b]", []string{"A"}, nil, []string{"ENV['A'] + ENV[b]"}},
		"all of them":               {"ENV.keys.any? { |n| n.match?(/OTEL/) }", nil, nil, []string{"ENV.keys.any? { |n| n.match?(/OTEL/) }"}},
		"handed on whole":           {"configure(ENV)", nil, nil, []string{"configure(ENV)"}},
		"another constant":          {"RACK_ENV['A']; ENVIRONMENT['B']; MY_ENV.fetch('C')", nil, nil, nil},
		"prose":                     {"# Get around our boot.rb ENV check", nil, nil, nil},
		"prose in no comment":       {"  some ENV check", nil, nil, nil},
		"a Dockerfile":              {"ENV \\\n  A=1", nil, nil, nil},
		"a comment":                 {"  # made available in ENV[\"RAILS_MASTER_KEY\"], or not", nil, []string{"RAILS_MASTER_KEY"}, nil},
		"a comment that varies":     {"# ENV[key] is set", nil, nil, nil},
		"code before a comment":     {"x = ENV['A'] # ENV['A'] is odd", []string{"A", "A"}, nil, nil},

		"node":                       {"const p = process.env.PORT || 4000;", []string{"PORT"}, nil, nil},
		"node, perhaps":              {"process.env?.PORT", []string{"PORT"}, nil, nil},
		"node by index":              {"process.env['PORT']; process.env[\"BIND\"]", []string{"PORT", "BIND"}, nil, nil},
		"node by a name that varies": {"process.env[name]", nil, nil, []string{"process.env[name]"}},
		"node handed on":             {"const c = configFromEnv(process.env, e);", nil, nil, []string{"const c = configFromEnv(process.env, e);"}},
		"node unpacked":              {"const { A, B: b, C = 'x' } = process.env;", []string{"A", "B", "C"}, nil, nil},
		"node unpacked with a rest":  {"const { A, ...rest } = process.env;", []string{"A"}, nil, []string{"const { A, ...rest } = process.env;"}},
		"node asked":                 {"if ('CI' in process.env) {}", []string{"CI"}, nil, nil},
		"node in a comment":          {" * @param env the `process.env` value", nil, nil, nil},
		"node named in a comment":    {"// process.env.DEBUG", nil, []string{"DEBUG"}, nil},
		"the browser's own":          {"import.meta.env.DEV", nil, nil, nil},
		"nothing":                    {"", nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := readEnv(c.text)
			for what, pair := range map[string][2][]string{"code": {c.code, r.code}, "comments": {c.comments, r.comments}, "unknown": {c.unknown, r.unknown}} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
			}
		})
	}
}

func TestANameThatCodeReadsSomewhereIsNotOneOfCommentsAlone(t *testing.T) {
	got := gatherEnv(map[string]envRead{
		"app/a.rb": {code: []string{"B", "A"}, unknown: []string{"ENV[k]"}},
		"lib/b.rb": {comments: []string{"A", "C"}, code: []string{"B"}},
	})
	want := Env{Names: []string{"A", "B", "C"}, Comments: []string{"C"}, Unknown: []string{"app/a.rb: ENV[k]"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
