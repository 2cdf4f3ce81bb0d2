package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestTheExampleIsAValidConfigurationThatShowsTheDefaults(t *testing.T) {
	c, err := parseConfig("example.yml", exampleYML)
	if err != nil {
		t.Fatal(err)
	}
	d := defaults()
	if c.Waits != d.Waits || c.Holds != d.Holds || c.Limits != d.Limits || c.Keep != d.Keep || c.Build != d.Build ||
		c.KeepAssets != d.KeepAssets || c.Store != d.Store || c.Proxies != d.Proxies {
		t.Errorf("the example shows other defaults than the code has:\n%+v\n%+v", c, d)
	}
	if len(c.Hosts) != 7 {
		t.Errorf("%d hosts", len(c.Hosts))
	}
}

// wrongFields change one thing in the example; want is what the refusal says.
var wrongFields = map[string]struct{ old, new, want string }{
	"unknown key":                       {"fleet: vmst.io", "fleet: vmst.io\nflet: x", "unknown field \"flet\""},
	"wrong type":                        {"keep: 2", "keep: two", "keep: two"},
	"key twice":                         {"fleet: vmst.io", "fleet: vmst.io\nfleet: b", "already defined"},
	"two documents":                     {"fleet: vmst.io", "fleet: vmst.io\n---\na: b", "2 documents"},
	"no fleet":                          {"fleet: vmst.io", "fleet: \"\"", "fleet: is missing"},
	"no domain":                         {"domain: vmst.io", "domain: \"\"", "example.yml:7: domain: is missing"},
	"no known hosts":                    {"known_hosts: ./known_hosts", "known_hosts: \"\"", "ssh.known_hosts: is missing"},
	"port out of range":                 {"port: 22", "port: 70000", "ssh.port: 70000 is no port"},
	"relative path":                     {"web: /etc/nginx/refit/web.conf", "web: refit/web.conf", "proxies.web: \"refit/web.conf\" is not a clean absolute path"},
	"no such role":                      {"roles: [builder, keeper]", "roles: [builder, keeper, king]", "\"king\" is no role"},
	"no keeper":                         {"roles: [builder, keeper]", "roles: [builder]", "role keeper"},
	"no builder":                        {"roles: [builder, keeper]", "roles: [keeper]", "hosts: 0 with the role builder"},
	"two keepers":                       {"roles: [proxy]", "roles: [proxy, keeper]", "hosts: 2 with the role keeper (sulu, uhura)"},
	"a role twice":                      {"roles: [builder, keeper]", "roles: [builder, keeper, keeper]", "hosts[6].roles: \"keeper\" stands there twice"},
	"web and sidekiq on one host":       {"roles: [web]", "roles: [web, sidekiq]", "example.yml:40: hosts[2].roles: web and sidekiq on one host"},
	"web without ports":                 {"    web: {port: 3000, streaming: [4000]}\n  - name: spock", "  - name: spock", "hosts[2].web: is missing"},
	"ports on a proxy":                  {"roles: [proxy]", "roles: [proxy]\n    web: {port: 1, streaming: [2]}", "without the role web"},
	"same name twice":                   {"name: spock", "name: kirk", "hosts[3].name: \"kirk\" stands at hosts[2] already"},
	"same address twice":                {"10.10.0.22", "10.10.0.21", "hosts[3].address"},
	"scheduler twice":                   {"queues: [push, pull]}", "queues: [push, pull, scheduler]}", "scheduler is served 2 times"},
	"scheduler never":                   {"queues: [scheduler]", "queues: [mailers]", "scheduler is served 0 times"},
	"no unit name":                      {"unit: mastodon-sidekiq-scheduler.service", "unit: sidekiq", "\"sidekiq\" is no unit name"},
	"empty queues":                      {"queues: [scheduler]", "queues: []", "queues: is empty"},
	"a wait of nothing":                 {"drain: 60s", "drain: 0s", "waits.drain: 0s is less than a second"},
	"a negative hold":                   {"soak: 15m", "soak: -1m", "holds.soak: -1m0s is negative"},
	"a latency that always fails":       {"latency: 2.0", "latency: 0.5", "limits.latency"},
	"errors above one":                  {"errors: 0.01", "errors: 3", "limits.errors"},
	"a limit without its unit":          {"# transfer: 10MB", "transfer: 10", "limits.transfer: 10 bytes a second"},
	"assets for a negative time":        {"keep_assets: 30", "keep_assets: -1", "keep_assets: -1 days is negative"},
	"a store that keeps nothing":        {"  keep: 5 ", "  keep: 0 ", "store.keep: 0: at least one"},
	"a store in two places":             {"  # dir: ~/.local/share/refit/artifacts", "  dir: x\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}}", "store: names a dir and an s3"},
	"an S3 without a key":               {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}}", "store.s3.secret_key: is missing"},
	"an S3 key written down":            {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: \"x/y+z\"}}", "store.s3.secret_key.env: is no variable's name"},
	"an endpoint that is none":          {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: s3.example, bucket: abc, access_key: {env: A}, secret_key: {env: B}}", "store.s3.endpoint: \"s3.example\" is no URL"},
	"a bucket that is none":             {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: A_B, access_key: {env: A}, secret_key: {env: B}}", "store.s3.bucket: \"A_B\" is no bucket"},
	"a prefix that leads out":           {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, prefix: ../x, access_key: {env: A}, secret_key: {env: B}}", "store.s3.prefix: \"../x\""},
	"a CDN without a bucket":            {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io", "cdn.s3: is missing"},
	"a CDN that is no URL":              {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: assets.vmst.io", "cdn.host: \"assets.vmst.io\" is no CDN_HOST"},
	"a store's time that is negative":   {"  days: 30 ", "  days: -1 ", "store.days: -1 is negative"},
	"a store's key with a space":        {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: \"a b\"}, secret_key: {env: B}}", "store.s3.access_key.env: is no variable's name"},
	"a store's key that is a URL":       {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {file: \"https://x\"}, secret_key: {env: B}}", "store.s3.access_key.file: is no path"},
	"a store's secret that is a URL":    {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {file: \"https://x\"}}", "store.s3.secret_key.file: is no path"},
	"a CDN's key with a space":          {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: \"a b\"}, secret_key: {env: B}}", "cdn.s3.access_key.env: is no variable's name"},
	"a CDN's key that is a URL":         {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {file: \"https://x\"}, secret_key: {env: B}}", "cdn.s3.access_key.file: is no path"},
	"a CDN's secret that is a URL":      {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {file: \"https://x\"}}", "cdn.s3.secret_key.file: is no path"},
	"a CDN's secret written down":       {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: \"x/y+z\"}}", "cdn.s3.secret_key.env: is no variable's name"},
	"a CDN's endpoint that is none":     {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: s3.example, bucket: abc, access_key: {env: A}, secret_key: {env: B}}", "cdn.s3.endpoint: \"s3.example\" is no URL"},
	"a CDN's bucket that is none":       {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: A_B, access_key: {env: A}, secret_key: {env: B}}", "cdn.s3.bucket: \"A_B\" is no bucket"},
	"a CDN's prefix that leads out":     {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}, prefix: ../x}", "cdn.s3.prefix: \"../x\""},
	"an ACL that is none":               {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}}\n  acl: public read", "cdn.acl: \"public read\" is no ACL"},
	"no size":                           {"disk_free: 3GiB", "disk_free: much", "is not a size"},
	"nothing to go back to":             {"keep: 2", "keep: 0", "keep: 0: at least one"},
	"an override without a reason":      {"# toolchain:\n#   ruby: {version: 3.3.8, prefix: /usr, why: \"Debian's own Ruby until a bug of 3.4 is mended\"}", "toolchain:\n  ruby: {version: 3.3.8, prefix: /usr}", "toolchain.ruby.why"},
	"database port missing":             {"port: 25060                      # required", "port: 0 # required", "database.port: 0 is no port"},
	"a fleet that is no folder":         {"fleet: vmst.io", "fleet: vm st/io", "fleet: \"vm st/io\": letters"},
	"a domain with a scheme":            {"domain: vmst.io", "domain: https://vmst.io", "domain: \"https://vmst.io\" is no domain"},
	"no upstream":                       {"https://github.com/mastodon/mastodon.git", "\"\"", "upstream.repository: \"\" is neither"},
	"an upstream without a scheme":      {"https://github.com/mastodon/mastodon.git", "github.com/mastodon/mastodon", "upstream.repository: \"github.com/mastodon/mastodon\" is neither"},
	"an upstream without a host":        {"https://github.com/mastodon/mastodon.git", "https:///mastodon.git", "upstream.repository: \"https:///mastodon.git\" is neither"},
	"no ssh user":                       {"user: refit ", "user: \"\" ", "ssh.user: is missing"},
	"no time to connect":                {"connect: 10s", "connect: 0s", "ssh.connect: 0s is less than a second"},
	"no silence allowed":                {"silence: 20s", "silence: 10ms", "ssh.silence: 10ms is less than a second"},
	"no Mastodon user":                  {"user: mastodon", "user: \"\"", "mastodon.user: is missing"},
	"a relative home":                   {"home: /home/mastodon", "home: mastodon", "mastodon.home: \"mastodon\" is not a clean absolute path"},
	"a relative token":                  {"probe_token: /etc/refit/probe.token", "probe_token: probe.token", "mastodon.probe_token: \"probe.token\" is not"},
	"a host name with a space":          {"name: sulu", "name: su lu", "hosts[0].name: \"su lu\" is no host name"},
	"no address":                        {"address: 10.10.0.11", "address: \"!\"", "hosts[0].address: \"!\" is no address"},
	"no roles":                          {"roles: [proxy]", "roles: []", "hosts[0].roles: is missing"},
	"a web port out of range":           {"port: 3000", "port: 0", "hosts[2].web.port: 0 is no port"},
	"no streaming port":                 {"streaming: [4000]", "streaming: []", "hosts[2].web.streaming: names no port"},
	"a streaming port out of range":     {"streaming: [4000]", "streaming: [4000, 65536]", "hosts[2].web.streaming: 65536 is no port"},
	"a streaming port twice":            {"streaming: [4000]", "streaming: [4000, 4000]", "hosts[2].web.streaming: 4000 is taken already"},
	"a streaming port that is Puma's":   {"streaming: [4000]", "streaming: [3000]", "hosts[2].web.streaming: 3000 is taken already"},
	"a unit that is none":               {"unit: mastodon-sidekiq-push-pull.service", "unit: a b.service", "hosts[4].sidekiq[0].unit"},
	"a queue that is none":              {"queues: [push, pull]", "queues: [push, \"a b\"]", "hosts[4].sidekiq[0].queues: \"a b\" is no queue name"},
	"no database host":                  {"host: majel.internal", "host: \"\"", "database.host: is missing"},
	"no database name":                  {"name: mastodon ", "name: \"\" ", "database.name: is missing"},
	"a path that climbs":                {"streaming: /etc/nginx/refit/streaming.conf", "streaming: /etc/../streaming.conf", "proxies.streaming: \"/etc/../streaming.conf\" is not"},
	"no access log":                     {"access_log: /var/log/nginx/access.log", "access_log: \"\"", "proxies.access_log: \"\" is not"},
	"ruby without a version":            {"# toolchain:", "toolchain: {ruby: {prefix: /usr, why: \"a reason for it\"}}\n#", "toolchain.ruby.version: is missing"},
	"ruby under a relative prefix":      {"# toolchain:", "toolchain: {ruby: {version: 1.2.3, prefix: usr, why: \"a reason for it\"}}\n#", "toolchain.ruby.prefix: \"usr\" is not"},
	"ruby for no reason":                {"# toolchain:", "toolchain: {ruby: {version: 1.2.3, prefix: /usr, why: no}}\n#", "toolchain.ruby.why: must tell"},
	"node without a version":            {"# toolchain:", "toolchain: {node: {prefix: /usr, why: \"a reason for it\"}}\n#", "toolchain.node.version: is missing"},
	"node under a relative prefix":      {"# toolchain:", "toolchain: {node: {version: 1.2.3, prefix: usr, why: \"a reason for it\"}}\n#", "toolchain.node.prefix: \"usr\" is not"},
	"node for no reason":                {"# toolchain:", "toolchain: {node: {version: 1.2.3, prefix: /usr, why: no}}\n#", "toolchain.node.why: must tell"},
	"a Ruby of no version's name":       {"# toolchain:", "toolchain: {ruby: {version: ../x, why: \"a reason for it\"}}\n#", "toolchain.ruby.version: \"../x\" is no version"},
	"ruby-build from nowhere":           {"# toolchain:", "toolchain: {ruby_build: {repository: ruby-build}}\n#", "toolchain.ruby_build.repository: \"ruby-build\" is neither"},
	"ruby-build at a branch":            {"# toolchain:", "toolchain: {ruby_build: {revision: master}}\n#", "toolchain.ruby_build.revision: \"master\" is no whole commit hash"},
	"ruby-build at a short hash":        {"# toolchain:", "toolchain: {ruby_build: {revision: 9207ff8}}\n#", "toolchain.ruby_build.revision: \"9207ff8\" is no whole commit hash"},
	"two options in one":                {"# toolchain:", "toolchain: {ruby_build: {configure: [\"--a --b\"]}}\n#", "toolchain.ruby_build.configure: \"--a --b\" is no option"},
	"an option that sets the prefix":    {"# toolchain:", "toolchain: {ruby_build: {configure: [\"--prefix=/usr\"]}}\n#", "toolchain.ruby_build.configure: \"--prefix=/usr\" is refit's own"},
	"a checksum of another length":      {"# toolchain:", "toolchain: {checksums: {a.tar.gz: abc}}\n#", "toolchain.checksums: a.tar.gz: \"abc\" is no SHA-256"},
	"a checksum of a path":              {"# toolchain:", "toolchain: {checksums: {a/b.tar.gz: 23815a6d095696f7919090fdc3e2f9459b2c83d57224b2e446ce1f5f7333ef36}}\n#", "toolchain.checksums: \"a/b.tar.gz\" is no file's name"},
	"a Ruby mirror without a scheme":    {"# mirrors:", "mirrors: {ruby: \"mirror.internal:8083\"}\n#", "mirrors.ruby: \"mirror.internal:8083\" is no http"},
	"a Node mirror by ftp":              {"# mirrors:", "mirrors: {node: \"ftp://mirror.internal\"}\n#", "mirrors.node: \"ftp://mirror.internal\" is no http"},
	"a gem mirror without a scheme":     {"# mirrors:", "mirrors: {gems: \"mirror.internal:8081\"}\n#", "mirrors.gems: \"mirror.internal:8081\" is no http"},
	"an npm mirror by ftp":              {"# mirrors:", "mirrors: {npm: \"ftp://mirror.internal\"}\n#", "mirrors.npm: \"ftp://mirror.internal\" is no http"},
	"a git mirror that is none":         {"# mirrors:", "mirrors: {git: {\"https://github.com/\": mirror}}\n#", "mirrors.git: \"mirror\" is neither"},
	"a git mirror of everything":        {"# mirrors:", "mirrors: {git: {\"\": \"https://mirror.internal/\"}}\n#", "mirrors.git: \"\" stands for every address"},
	"a build without memory":            {"memory: 3GiB", "memory: 3", "build.memory: 3 bytes: no build"},
	"a build without room":              {"disk: 4GiB", "disk: 4", "build.disk: 4 bytes: no build"},
	"nothing kept on the builder":       {"keep_size: 10GiB", "keep_size: 10", "build.keep_size: 10 bytes: no build"},
	"kept for no time":                  {"keep_for: 1440h", "keep_for: 1m", "build.keep_for: 1m0s is less than an hour"},
	"no patience with a registry":       {"silence: 5m", "silence: 5s", "build.silence: 5s is less than a minute"},
	"yarn unchecked for no reason":      {"# mirrors:", "mirrors: {yarn_checksums: ignore}\n#", "mirrors.yarn_checksums_why: must tell"},
	"signing without a key":             {"# signing:", "signing: {identity: refit}\n#", "signing.key: is missing"},
	"signing with the key itself":       {"# signing:", "signing: {key: \"ssh-ed25519 AAAA\"}\n#", "signing.key: is no path"},
	"a signer's name with a wildcard":   {"# signing:", "signing: {key: k, identity: \"*\"}\n#", "signing.identity: \"*\" is no name for a signer"},
	"allowed signers that are near":     {"# signing:", "signing: {key: k, allowed: allowed_signers}\n#", "signing.allowed: \"allowed_signers\" is not"},
	"no wait for idle":                  {"idle: 5m", "idle: 1ms", "waits.idle: 1ms is less than a second"},
	"no wait for stop":                  {"stop: 120s", "stop: 1ms", "waits.stop: 1ms is less than a second"},
	"no wait for boot":                  {"boot: 180s", "boot: 1ms", "waits.boot: 1ms is less than a second"},
	"no wait for migrate_report":        {"migrate_report: 15s", "migrate_report: 1ms", "waits.migrate_report: 1ms is less than a second"},
	"no wait for migrate_stall":         {"migrate_stall: 15m", "migrate_stall: 1ms", "waits.migrate_stall: 1ms is less than a second"},
	"no wait for what is away":          {"unreachable: 10m", "unreachable: 1ms", "waits.unreachable: 1ms is less than a second"},
	"a negative hold of sidekiq":        {"sidekiq: 60s", "sidekiq: -1s", "holds.sidekiq: -1s is negative"},
	"a negative hold of web":            {"web: 5m", "web: -1s", "holds.web: -1s is negative"},
	"a negative hold of migrated":       {"migrated: 5m", "migrated: -1s", "holds.migrated: -1s is negative"},
	"errors below nothing":              {"errors: 0.01", "errors: -0.1", "limits.errors: -0.1 is not a share"},
	"a negative floor":                  {"latency_floor: 300ms", "latency_floor: -1ms", "limits.latency_floor: -1ms is negative"},
	"negative NameErrors":               {"name_errors: 5", "name_errors: -1", "limits.name_errors: -1 is negative"},
	"a load of nothing":                 {"load: 0.8", "load: 0", "limits.load: 0 is not a share above 0"},
	"a channel's name":                  {"# notify:", "notify: {slack: {channel: \"#ops\", token: {env: A}}}\n#", "notify.slack.channel: \"#ops\" is no channel's ID"},
	"a webhook with a channel":          {"# notify:", "notify: {slack: {channel: C0123456789, webhook: {env: A}}}\n#", "notify.slack.channel: \"C0123456789\": a webhook has its own"},
	"a Slack without a way":             {"# notify:", "notify: {slack: {channel: C0123456789}}\n#", "notify.slack: names neither"},
	"a Slack with two ways":             {"# notify:", "notify: {slack: {token: {env: A}, webhook: {env: B}}}\n#", "notify.slack: names a token and a webhook"},
	"a token from two places":           {"# notify:", "notify: {slack: {channel: C0123456789, token: {env: A, file: B}}}\n#", "notify.slack.token: names a file and an env"},
	"a token from nowhere":              {"# notify:", "notify: {slack: {channel: C0123456789, token: {}}}\n#", "notify.slack.token: names neither"},
	"a token's variable":                {"# notify:", "notify: {slack: {channel: C0123456789, token: {env: a-b}}}\n#", "notify.slack.token.env: is no variable"},
	"a token as a path":                 {"# notify:", "notify: {slack: {channel: C0123456789, token: {file: xoxb-1}}}\n#", "notify.slack.token.file: is no path"},
	"a webhook's variable":              {"# notify:", "notify: {slack: {webhook: {env: a-b}}}\n#", "notify.slack.webhook.env: is no variable"},
	"a webhook as a path":               {"# notify:", "notify: {slack: {webhook: {file: \"https://a/b\"}}}\n#", "notify.slack.webhook.file: is no path"},
	"a deadline of seconds":             {"# notify:", "notify: {slack: {channel: C0123456789, token: {env: A}, deadline: 1s}}\n#", "notify.slack.deadline: 1s is less than a minute"},
	"a Slack at no address":             {"# notify:", "notify: {slack: {channel: C0123456789, token: {env: A}, api: slack.com}}\n#", "notify.slack.api: \"slack.com\" is no URL"},
	"a Kuma without a URL":              {"# notify:", "notify: {kuma: {}}\n#", "notify.kuma.url: is missing"},
	"a Kuma's variable":                 {"# notify:", "notify: {kuma: {url: {env: a-b}}}\n#", "notify.kuma.url.env: is no variable"},
	"a Kuma's path":                     {"# notify:", "notify: {kuma: {url: {file: \"https://a/b\"}}}\n#", "notify.kuma.url.file: is no path"},
	"a textfile by another name":        {"# metrics:", "metrics: {textfile: /var/lib/refit.txt}\n#", "metrics.textfile: \"/var/lib/refit.txt\" is not a clean"},
	"an unknown way to tell":            {"# notify:", "notify: {pager: {}}\n#", "unknown field \"pager\""},
	"a GitHub that is none":             {"  # github: mastodon/mastodon ", "  github: mastodon #", "upstream.github: \"mastodon\" names no repository"},
	"an API without a scheme":           {"  # api: https://api.github.com/", "  api: api.github.com", "upstream.api: \"api.github.com\" is no URL"},
	"GitHub's token as a path":          {"  # token: {env: GITHUB_TOKEN} ", "  token: {file: \"https://a/b\"} #", "upstream.token.file: is no path"},
	"GitHub's token's variable":         {"  # token: {env: GITHUB_TOKEN} ", "  token: {env: a-b} #", "upstream.token.env: is no variable"},
	"a look every second":               {"every: 5m", "every: 1s", "watch.every: 1s is less than a minute"},
	"a feed that is none":               {"feed: https://api.joinmastodon.org/update-check", "feed: joinmastodon", "watch.feed: \"joinmastodon\" is neither"},
	"a line without its minor":          {"# stay: \"4.6\" ", "stay: \"4\" #", "watch.stay: \"4\" is no series"},
	"an alarm at every look":            {"alarm: 1h", "alarm: 1m", "watch.alarm: 1m0s is less than watch.every"},
	"metrics at no address":             {"# listen: 127.0.0.1:9465", "listen: 127.0.0.1", "watch.listen: \"127.0.0.1\" is no address"},
	"a page for everybody, by a slip":   {"# listen: 127.0.0.1:9465", "listen: 0.0.0.0:9465", "watch.listen: \"0.0.0.0:9465\" can be reached from other machines"},
	"a page for everybody, by default":  {"# listen: 127.0.0.1:9465", "listen: \":9465\"", "watch.listen: \":9465\" can be reached from other machines"},
	"no page, and it for everybody":     {"expose: false", "expose: true", "watch.expose: is true, and there is no watch.listen"},
	"nobody to approve":                 {"# approvals:", "approvals: {required: 1}\n#", "approvals.signers: names nobody"},
	"more than there are to approve":    {"# approvals:", "approvals: {required: 2, signers: [{name: a, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPu0lXYbpJUOYgNDfWXRjqsXsJVlYuHgDwyfOGYA8ctJ}]}\n#", "approvals.required: 2 of 1 signers"},
	"a signer without a name":           {"# approvals:", "approvals: {signers: [{key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPu0lXYbpJUOYgNDfWXRjqsXsJVlYuHgDwyfOGYA8ctJ}]}\n#", "approvals.signers[0].name: \"\" is no name"},
	"a signer twice":                    {"# approvals:", "approvals: {signers: [{name: a, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPu0lXYbpJUOYgNDfWXRjqsXsJVlYuHgDwyfOGYA8ctJ}, {name: b, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPu0lXYbpJUOYgNDfWXRjqsXsJVlYuHgDwyfOGYA8ctJ x}]}\n#", "approvals.signers[1].key: is that of a too"},
	"a signer without a key":            {"# approvals:", "approvals: {signers: [{name: a, key: ~/.ssh/a.pub}]}\n#", "approvals.signers[0].key: it is no public ssh key"},
	"a signer's private key":            {"# approvals:", "approvals: {signers: [{name: a, key: -----BEGIN OPENSSH PRIVATE KEY-----}]}\n#", "approvals.signers[0].key: is a private key"},
	"deployments of no repository":      {"# github:\n", "github: {deployments: refit}\n#\n", "github.deployments: \"refit\" names no repository"},
	"an environment with a space":       {"# github:\n", "github: {deployments: a/b, environment: \"a \"}\n#\n", "github.environment: \"a \" is no name"},
	"a ref that is none":                {"# github:\n", "github: {deployments: a/b, ref: \"a b\"}\n#\n", "github.ref: \"a b\" is no branch"},
	"deployments' API without a scheme": {"# github:\n", "github: {deployments: a/b, api: api.github.com}\n#\n", "github.api: \"api.github.com\" is no URL"},
	"deployments' token as a path":      {"# github:\n", "github: {deployments: a/b, token: {file: \"https://a/b\"}}\n#\n", "github.token.file: is no path"},
	"deployments' token as a variable":  {"# github:\n", "github: {deployments: a/b, token: {env: a-b}}\n#\n", "github.token.env: is no variable"},
	"an act that is none, security":     {"security: ask", "security: yes", "policy.security: \"yes\" is none of"},
	"an act that is none, patch":        {"patch: ask", "patch: Auto", "policy.patch: \"Auto\" is none of"},
	"an act that is none, minor":        {"minor: notify", "minor: tell", "policy.minor: \"tell\" is none of"},
	"an act that is none, early":        {"pre_release: ignore", "pre_release: \"\"", "policy.pre_release: \"\" is none of"},
	"a day that is none":                {"  # windows:", "  windows: [{days: [caturday], from: \"02:00\", to: \"03:00\"}]\n  #", "policy.windows[0].days: \"caturday\" is no day"},
	"an hour that is none":              {"  # windows:", "  windows: [{from: \"2am\", to: \"03:00\"}]\n  #", "policy.windows[0].from: \"2am\" is no time"},
	"a window of nothing":               {"  # windows:", "  windows: [{from: \"02:00\", to: \"02:00\"}]\n  #", "policy.windows[0].to: it opens and closes at 02:00"},
	"a zone that is none":               {"zone: UTC ", "zone: Mars ", "policy.zone: \"Mars\" is no time zone"},
	"settling before it is out":         {"settle: 6h", "settle: -1h", "policy.settle: -1h0m0s is negative"},
	"a deadline before it is out":       {"deadline: 48h", "deadline: -1h", "policy.deadline: -1h0m0s is negative"},
	"a fling without a name":            {"# flings:", "flings: [{repository: a/b}]\n#", "flings[0].name: \"\" is missing"},
	"a fling without a repository":      {"# flings:", "flings: [{name: Elk}]\n#", "flings[0].repository: \"\" names no repository"},
	"a fling that is Mastodon":          {"# flings:", "flings: [{name: Mastodon, repository: a/b}]\n#", "flings[0].name: \"Mastodon\" is missing, or stands there twice"},
	"a Valkey of no size":               {"# cloud:", "cloud: {token: {env: A}, rehearse: {valkey: ''}}\n#", "cloud.rehearse.valkey: is empty"},
	"nothing that must be closed":       {"# cloud:", "cloud: {token: {env: A}, rehearse: {closed: []}}\n#", "cloud.rehearse.closed: is empty"},
	"a closed address without a port":   {"# cloud:", "cloud: {token: {env: A}, rehearse: {closed: [1.1.1.1]}}\n#", "cloud.rehearse.closed[0]: \"1.1.1.1\" is no address with a port"},
	"a birth from nowhere":              {"# cloud:", "cloud: {token: {env: A}, born: {ssh_keys: []}}\n#", "cloud.born.from: is missing"},
	"a birth from a name":               {"# cloud:", "cloud: {token: {env: A}, born: {from: [uhura]}}\n#", "cloud.born.from[0]: \"uhura\" is no address in CIDR form"},
	"a birth from everywhere":           {"# cloud:", "cloud: {token: {env: A}, born: {from: [0.0.0.0/0]}}\n#", "cloud.born.from[0]: \"0.0.0.0/0\" is everybody"},
	"a birth from a host's bits":        {"# cloud:", "cloud: {token: {env: A}, born: {from: [10.1.1.1/8]}}\n#", "has bits beyond its length: 10.0.0.0/8"},
	"a birth with a key":                {"# cloud:", "cloud: {token: {env: A}, born: {from: [10.1.1.1/32], ssh_keys: [ssh-rsa]}}\n#", "cloud.born.ssh_keys[0]: \"ssh-rsa\" is neither"},
	"a birth with a slip":               {"# cloud:", "cloud: {token: {env: A}, born: {form: []}}\n#", "unknown field \"form\""},
	"a cloud without a token":           {"# cloud:", "cloud: {balancer: a}\n#", "cloud.token: is missing"},
	"a cloud's token written down":      {"# cloud:", "cloud: {token: {env: dop_v1-0}}\n#", "cloud.token.env: is no variable"},
	"a cloud's token as a path":         {"# cloud:", "cloud: {token: {file: \"https://a/b\"}}\n#", "cloud.token.file: is no path"},
	"a cloud at no address":             {"# cloud:", "cloud: {token: {env: A}, api: digitalocean}\n#", "cloud.api: \"digitalocean\" is no URL"},
	"a cloud with a slip":               {"# cloud:", "cloud: {token: {env: A}, snapshot: {keep: 1}}\n#", "unknown field \"snapshot\""},
	"a snapshot with a slip":            {"# cloud:", "cloud: {token: {env: A}, snapshots: {kep: 1}}\n#", "unknown field \"kep\""},
	"a snapshot of no tier":             {"# cloud:", "cloud: {token: {env: A}, snapshots: {tiers: [proxy]}}\n#", "cloud.snapshots.tiers: \"proxy\": web or sidekiq"},
	"no tier is switched off":           {"# cloud:", "cloud: {token: {env: A}, snapshots: {power_off: [all]}}\n#", "cloud.snapshots.power_off: \"all\": web or sidekiq"},
	"switched off for nothing":          {"# cloud:", "cloud: {token: {env: A}, snapshots: {tiers: [web], power_off: [sidekiq]}}\n#", "cloud.snapshots.power_off: \"sidekiq\" is none of cloud.snapshots.tiers"},
	"no snapshot stays":                 {"# cloud:", "cloud: {token: {env: A}, snapshots: {keep: 0}}\n#", "cloud.snapshots.keep: 0: at least one"},
	"snapshots for a negative time":     {"# cloud:", "cloud: {token: {env: A}, snapshots: {days: -1}}\n#", "cloud.snapshots.days: -1 is negative"},
	"no golden image stays":             {"# cloud:", "cloud: {token: {env: A}, golden: {keep: 0}}\n#", "cloud.golden.keep: 0: at least one"},
	"golden for a negative time":        {"# cloud:", "cloud: {token: {env: A}, golden: {days: -1}}\n#", "cloud.golden.days: -1 is negative"},
	"a droplet that is none":            {"    address: 10.10.0.21", "    address: 10.10.0.21\n    droplet: -4", "hosts[2].droplet: -4 is no droplet's ID"},
	"a size without its unit":           {"disk_free: 3GiB", "disk_free: 3", "limits.disk_free: 3 bytes"},
	"backups that ask for nothing":      {"# backups:", "backups: {keep: 2}\n#", "backups: asks for nothing"},
	"an age of seconds":                 {"# backups:", "backups: {own: {max_age: 5s, command: {host: uhura, argv: [/x]}}}\n#", "backups.own.max_age: 5s is less than a minute"},
	"a provider's backup of nothing":    {"# backups:", "backups: {max_age: 26h}\n#", "backups.max_age: is of the provider's backups, and cloud.database names no database"},
	"a provider's age of seconds":       {"# backups:", "backups: {max_age: 26s}\n#", "backups.max_age: 26s is less than a minute"},
	"an own backup without a limit":     {"# backups:", "backups: {own: {command: {host: uhura, argv: [/x]}}}\n#", "backups.own.max_age: 0s is less than a minute"},
	"an own backup from nowhere":        {"# backups:", "backups: {own: {max_age: 5h}}\n#", "backups.own: needs either a command or an s3"},
	"a backup's command on no host":     {"# backups:", "backups: {own: {max_age: 5h, command: {host: khan, argv: [/x]}}}\n#", "backups.own.command.host: \"khan\" is none of hosts"},
	"a backup's command by its name":    {"# backups:", "backups: {own: {max_age: 5h, command: {host: uhura, argv: [last-backup]}}}\n#", "backups.own.command.argv: [\"last-backup\"]: begins with"},
	"a backup's command that climbs":    {"# backups:", "backups: {own: {max_age: 5h, command: {host: uhura, argv: [/usr/../x]}}}\n#", "backups.own.command.argv"},
	"a backup's bucket that is none":    {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: A_B, access_key: {env: A}, secret_key: {env: B}}}}\n#", "backups.own.s3.bucket: \"A_B\" is no bucket"},
	"a dump that is none":               {"# backups:", "backups: {dump: sometimes}\n#", "backups.dump: \"sometimes\" is none of never, one-way and always"},
	"a dump without a store":            {"# backups:", "backups: {dump: always}\n#", "backups.dump: always: there is no store to dump to"},
	"no dump that stays":                {"# backups:", "backups: {keep: 0, own: {max_age: 5h, command: {host: uhura, argv: [/x]}}}\n#", "backups.keep: 0: at least one dump must stay"},
	"a backup's endpoint that is none":  {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: s3.example, bucket: abc, access_key: {env: A}, secret_key: {env: B}}}}\n#", "backups.own.s3.endpoint: \"s3.example\" is no URL"},
	"a backup's prefix that leads out":  {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}, prefix: ../x}}}\n#", "backups.own.s3.prefix: \"../x\""},
	"a backup's key with a space":       {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: \"a b\"}, secret_key: {env: B}}}}\n#", "backups.own.s3.access_key.env: is no variable's name"},
	"a backup's key that is a URL":      {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {file: \"https://x\"}, secret_key: {env: B}}}}\n#", "backups.own.s3.access_key.file: is no path"},
	"a backup's secret written down":    {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: \"x/y+z\"}}}}\n#", "backups.own.s3.secret_key.env: is no variable's name"},
	"a backup's secret that is a URL":   {"# backups:", "backups: {own: {max_age: 5h, s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {file: \"https://x\"}}}}\n#", "backups.own.s3.secret_key.file: is no path"},
	"configs without a repository":      {"# configs:", "configs: {branch: main}\n#", "configs.repository: is missing"},
	"a password in the repository":      {"# configs:", "configs: {repository: \"https://me:secret@git.example/config\"}\n#", "configs.repository: has a name or a password in it"},
	"a token for ssh":                   {"# configs:", "configs: {repository: \"git@git.example:config\", token: {env: T}}\n#", "configs.token: is for https"},
	"a branch that is none":             {"# configs:", "configs: {repository: \"https://git.example/config\", branch: \"a b\"}\n#", "configs.branch: \"a b\" is no branch"},
	"an author that breaks commits":     {"# configs:", "configs: {repository: \"https://git.example/config\", author: {name: \"a <b\"}}\n#", "configs.author: a name and an address"},
	"a pull request off GitHub":         {"# configs:", "configs: {repository: \"https://git.example/config\", token: {env: T}, pull_request: {wait: 1h}}\n#", "configs.pull_request.repository: \"https://git.example/config\" names no repository on GitHub"},
	"a pull request without a token":    {"# configs:", "configs: {repository: \"git@github.com:a/b\", pull_request: {repository: a/b}}\n#", "configs.pull_request.token: is missing"},
	"a merge within no time":            {"# configs:", "configs: {repository: \"https://github.com/a/b\", token: {env: T}, pull_request: {wait: 5s}}\n#", "configs.pull_request.wait: 5s is less than a minute"},
	"a pull request's API that is none": {"# configs:", "configs: {repository: \"https://github.com/a/b\", token: {env: T}, pull_request: {api: here}}\n#", "configs.pull_request.api: \"here\" is no URL"},
	"a configured path that climbs":     {"# configs:", "configs: {repository: \"https://git.example/config\", paths: [/srv/../x]}\n#", "configs.paths: \"/srv/../x\" is no clean"},
}

// wrongTypes are for fields of which any text is right: a list in its place is not.
var wrongTypes = map[string]struct{ old, new string }{
	"backups.own.s3.region":            {"# backups:", "backups: {own: {s3: {region: [a]}}}\n#"},
	"ssh.key":                          {"key: ~/.ssh/refit", "key: [a, b]"},
	"toolchain.ruby_build.definitions": {"# toolchain:", "toolchain: {ruby_build: {definitions: [a]}}\n#"},
	"mirrors.yarn_checksums":           {"# mirrors:", "mirrors: {yarn_checksums: [a]}\n#"},
	"upstream.notes":                   {"  # notes: ./release-notes ", "  notes: [a] #"},
	"cloud.balancer":                   {"# cloud:", "cloud: {token: {env: A}, balancer: [a]}\n#"},
	"cloud.database":                   {"# cloud:", "cloud: {token: {env: A}, database: [a]}\n#"},
	"watch.pre_releases":               {"pre_releases: false ", "pre_releases: [a] "},
	"watch.state":                      {"# state: /var/lib/refit-watch/state", "state: [a]"},
	"policy.security_overtakes":        {"security_overtakes: true", "security_overtakes: [a]"},
	"flings.pre_releases":              {"# flings:", "flings: [{name: Elk, repository: a/b, pre_releases: [a]}]\n#"},
	"build.precompile":                 {"  precompile: false ", "  precompile: [a] "},
	"configs.token.file":               {"# configs:", "configs: {repository: \"https://git.example/c\", token: {file: [a]}}\n#"},
	"configs.token.env":                {"# configs:", "configs: {repository: \"https://git.example/c\", token: {env: [a]}}\n#"},
	"configs.key":                      {"# configs:", "configs: {repository: \"https://git.example/c\", key: [a]}\n#"},
	"configs.known_hosts":              {"# configs:", "configs: {repository: \"https://git.example/c\", known_hosts: [a]}\n#"},
	"configs.sign":                     {"# configs:", "configs: {repository: \"https://git.example/c\", sign: [a]}\n#"},
	"configs.cache":                    {"# configs:", "configs: {repository: \"https://git.example/c\", cache: [a]}\n#"},
	"configs.author.name":              {"# configs:", "configs: {repository: \"https://git.example/c\", author: {name: [a]}}\n#"},
	"configs.pull_request.token.file":  {"# configs:", "configs: {repository: \"https://github.com/a/b\", pull_request: {token: {file: [a]}}}\n#"},
	"configs.pull_request.token.env":   {"# configs:", "configs: {repository: \"https://github.com/a/b\", pull_request: {token: {env: [a]}}}\n#"},
	"configs.author.email":             {"# configs:", "configs: {repository: \"https://git.example/c\", author: {email: [a]}}\n#"},
	"store.dir":                        {"  # dir: ~/.local/share/refit/artifacts", "  dir: [a]"},
	"store.s3.region":                  {"  # dir: ~/.local/share/refit/artifacts", "  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}, region: [a]}"},
	"cdn.s3.region":                    {"# cdn:\n#   host: https://assets.vmst.io", "cdn:\n  host: https://assets.vmst.io\n  s3: {endpoint: \"https://s3.example\", bucket: abc, access_key: {env: A}, secret_key: {env: B}, region: [a]}"},
}

func TestEachWrongFieldIsRefusedWithItsLineAndName(t *testing.T) {
	for name, test := range wrongFields {
		t.Run(name, func(t *testing.T) { refuses(t, test.old, test.new, test.want) })
	}
	for field, test := range wrongTypes {
		t.Run(field, func(t *testing.T) { refuses(t, test.old, test.new, "example.yml:") })
	}
}

// refuses changes one thing in the example and expects a refusal that says want.
func refuses(t *testing.T, before, after, want string) {
	t.Helper()
	text := strings.Replace(string(exampleYML), before, after, 1)
	if text == string(exampleYML) {
		t.Fatalf("the example holds no %q", before)
	}
	_, err := parseConfig("example.yml", []byte(text))
	if err == nil {
		t.Fatal("accepted")
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%v\ndoes not say %q", err, want)
	}
	if exitCode(err) != exitUsage {
		t.Errorf("exit code %d", exitCode(err))
	}
}

func TestEveryFieldHasAWrongValueInTheTables(t *testing.T) {
	index := regexp.MustCompile(`\[\d+\]`)
	named := map[string]bool{}
	for field := range wrongTypes {
		named[field] = true
	}
	for _, test := range wrongFields {
		field, _, _ := strings.Cut(strings.TrimPrefix(index.ReplaceAllString(test.want, ""), "example.yml:7: "), ":")
		named[field] = true
	}
	fields := fieldsOf(reflect.TypeFor[config](), "")
	if len(fields) < 40 {
		t.Fatalf("only %d fields found: %v", len(fields), fields)
	}
	for _, field := range fields {
		if !named[field] {
			t.Errorf("no wrong value of %s is tried", field)
		}
	}
}

// fieldsOf lists the keys of a configuration that hold values.
func fieldsOf(of reflect.Type, at string) []string {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return []string{at}
	}
	var out []string
	for f := range of.Fields() {
		if key := f.Tag.Get("yaml"); key != "" {
			out = append(out, fieldsOf(f.Type, strings.TrimPrefix(at+"."+key, "."))...)
		}
	}
	return out
}

func TestUpstreamMayBeAnyAddressThatGitKnows(t *testing.T) {
	for _, address := range []string{
		"https://github.com/mastodon/mastodon.git", "http://10.0.0.1/git/mastodon.git", "ssh://git@host:2222/mastodon.git",
		"git@github.com:mastodon/mastodon.git", "file:///srv/mastodon.git",
	} {
		text := strings.Replace(string(exampleYML), "https://github.com/mastodon/mastodon.git", address, 1)
		if _, err := parseConfig("example.yml", []byte(text)); err != nil {
			t.Error(err)
		}
	}
}

func TestAMissingFileIsRefusedWithARemedy(t *testing.T) {
	_, err := loadConfig(filepath.Join(t.TempDir(), "refit.yml"))
	if err == nil || !strings.Contains(err.Error(), "refit example") {
		t.Error(err)
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(file, exampleYML, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.path(c.SSH.KnownHosts)
	if err != nil || got != filepath.Join(filepath.Dir(file), "known_hosts") {
		t.Error(got, err)
	}
}
