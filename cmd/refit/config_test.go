package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheExampleIsAValidConfigurationThatShowsTheDefaults(t *testing.T) {
	c, err := parseConfig("example.yml", exampleYML)
	if err != nil {
		t.Fatal(err)
	}
	d := defaults()
	if c.Waits != d.Waits || c.Holds != d.Holds || c.Limits != d.Limits || c.Keep != d.Keep || c.Proxies != d.Proxies {
		t.Errorf("the example shows other defaults than the code has:\n%+v\n%+v", c, d)
	}
	if len(c.Hosts) != 7 {
		t.Errorf("%d hosts", len(c.Hosts))
	}
}

func TestEachWrongFieldIsRefusedWithItsLineAndName(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"unknown key":                  {"fleet: vmst.io", "fleet: vmst.io\nflet: x", "unknown field \"flet\""},
		"wrong type":                   {"keep: 2", "keep: two", "keep: two"},
		"key twice":                    {"fleet: vmst.io", "fleet: vmst.io\nfleet: b", "already defined"},
		"two documents":                {"fleet: vmst.io", "fleet: vmst.io\n---\na: b", "2 documents"},
		"no fleet":                     {"fleet: vmst.io", "fleet: \"\"", "fleet: is missing"},
		"no domain":                    {"domain: vmst.io", "domain: \"\"", "example.yml:7: domain: is missing"},
		"no known hosts":               {"known_hosts: ./known_hosts", "known_hosts: \"\"", "ssh.known_hosts: is missing"},
		"port out of range":            {"port: 22", "port: 70000", "ssh.port: 70000 is no port"},
		"relative path":                {"web: /etc/nginx/refit/web.conf", "web: refit/web.conf", "proxies.web: \"refit/web.conf\" is not a clean absolute path"},
		"no such role":                 {"roles: [builder, keeper]", "roles: [builder, keeper, king]", "\"king\" is no role"},
		"two builders":                 {"roles: [proxy]", "roles: [proxy, builder]", "role builder"},
		"no keeper":                    {"roles: [builder, keeper]", "roles: [builder]", "role keeper"},
		"web without ports":            {"    web: {port: 3000, streaming: [4000]}\n  - name: spock", "  - name: spock", "hosts[2].web: is missing"},
		"ports on a proxy":             {"roles: [proxy]", "roles: [proxy]\n    web: {port: 1, streaming: [2]}", "without the role web"},
		"same name twice":              {"name: spock", "name: kirk", "hosts[3].name: \"kirk\" stands at hosts[2] already"},
		"same address twice":           {"10.10.0.22", "10.10.0.21", "hosts[3].address"},
		"scheduler twice":              {"queues: [push, pull]}", "queues: [push, pull, scheduler]}", "scheduler is served 2 times"},
		"scheduler never":              {"queues: [scheduler]", "queues: [mailers]", "scheduler is served 0 times"},
		"no unit name":                 {"unit: mastodon-sidekiq-scheduler.service", "unit: sidekiq", "\"sidekiq\" is no unit name"},
		"empty queues":                 {"queues: [scheduler]", "queues: []", "queues: is empty"},
		"a wait of nothing":            {"drain: 60s", "drain: 0s", "waits.drain: 0s is less than a second"},
		"a negative hold":              {"soak: 15m", "soak: -1m", "holds.soak: -1m0s is negative"},
		"a latency that always fails":  {"latency: 2.0", "latency: 0.5", "limits.latency"},
		"errors above one":             {"errors: 0.01", "errors: 3", "limits.errors"},
		"no size":                      {"disk_free: 3GiB", "disk_free: much", "is not a size"},
		"nothing to go back to":        {"keep: 2", "keep: 0", "keep: 0: at least one"},
		"an override without a reason": {"# toolchain:\n#   ruby: {version: 3.3.8, prefix: /usr, why: \"Debian's own Ruby until 3.4.7 is built\"}", "toolchain:\n  ruby: {version: 3.3.8, prefix: /usr}", "toolchain.ruby.why"},
		"database port missing":        {"port: 25060                      # required", "port: 0 # required", "database.port: 0 is no port"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(exampleYML), test.old, test.new, 1)
			if text == string(exampleYML) {
				t.Fatalf("the example holds no %q", test.old)
			}
			_, err := parseConfig("example.yml", []byte(text))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\ndoes not say %q", err, test.want)
			}
			if exitCode(err) != exitUsage {
				t.Errorf("exit code %d", exitCode(err))
			}
		})
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
