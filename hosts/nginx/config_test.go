package nginx

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var files = []string{"/etc/nginx/refit/web.conf", "/etc/nginx/refit/streaming.conf"}

const dump = `# configuration file /etc/nginx/nginx.conf:
user www-data;
http {
	log_format up '$remote_addr "$request" {not a block; }';
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
	include /etc/nginx/conf.d/*.conf;
}

# configuration file /etc/nginx/conf.d/mastodon.conf:
upstream backend { zone backend 64k; include /etc/nginx/refit/web.conf; keepalive 16; }
upstream streaming {
  least_conn; # a comment with { and ;
  include refit/streaming.conf;
}
server { listen 80; location ~ ^/a{2}$ { proxy_pass http://backend; } set $x "${host}"; }

# configuration file /etc/nginx/refit/web.conf:
server 10.77.0.21:3000 max_fails=0;
server 10.77.0.22:3000 max_fails=0 down;

# configuration file /etc/nginx/refit/streaming.conf:
server 10.77.0.21:4000 max_fails=0;
server 10.77.0.22:4000;
`

func TestTheUpstreamsThatIncludeTheOwnedFilesAreFound(t *testing.T) {
	f, err := ReadConfig(dump, files)
	if err != nil {
		t.Fatal(err)
	}
	want := []Upstream{
		{Name: "backend", Include: files[0], Keepalive: "16", Servers: []Server{
			{Address: "10.77.0.21:3000", Params: []string{"max_fails=0"}, Line: 1},
			{Address: "10.77.0.22:3000", Params: []string{"max_fails=0"}, Down: true, Line: 2},
		}},
		{Name: "streaming", Include: files[1], Servers: []Server{
			{Address: "10.77.0.21:4000", Params: []string{"max_fails=0"}, Line: 1},
			{Address: "10.77.0.22:4000", Line: 2},
		}},
	}
	if diff := cmp.Diff(want, f.Upstreams); diff != "" {
		t.Error(diff)
	}
	if len(f.Missing) != 0 || len(f.ShutdownTimeouts) != 0 {
		t.Errorf("missing %v, timeouts %v", f.Missing, f.ShutdownTimeouts)
	}
	if diff := cmp.Diff([]string{"streaming.conf:2 10.77.0.22:4000"}, f.MaxFails()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatSpeaksAgainstDrainingIsFoundWithItsRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(string) string
		fatal  bool
		say    string
	}{
		"an include that is missing": {func(s string) string {
			return strings.Replace(s, "include /etc/nginx/refit/web.conf;", "server 10.77.0.21:3000;", 1)
		}, true, "no upstream block includes /etc/nginx/refit/web.conf"},
		"an include that is a comment": {func(s string) string {
			return strings.Replace(s, "  include refit/streaming.conf;", "  # include refit/streaming.conf;", 1)
		}, true, "no upstream block includes /etc/nginx/refit/streaming.conf"},
		"an include outside of any upstream": {func(s string) string {
			return strings.Replace(strings.Replace(s, "include /etc/nginx/refit/web.conf;", "", 1), "server { listen", "include /etc/nginx/refit/web.conf; server { listen", 1)
		}, true, "no upstream block includes /etc/nginx/refit/web.conf"},
		"a server beside the include": {func(s string) string {
			return strings.Replace(s, "least_conn;", "least_conn; server 10.77.0.9:4000;", 1)
		}, true, "10.77.0.9:4000"},
		"a shutdown timeout": {func(s string) string {
			return strings.Replace(s, "user www-data;", "user www-data;\nworker_shutdown_timeout 8s;", 1)
		}, false, "worker_shutdown_timeout 8s"},
		"a server that may be shunned": {func(s string) string { return s }, true, "streaming.conf:2 10.77.0.22:4000"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ReadConfig(c.change(dump), files)
			if err != nil {
				t.Fatal(err)
			}
			f.Active = true
			for _, finding := range f.Findings() {
				if finding.Fatal == c.fatal && strings.Contains(finding.Text, c.say) {
					return
				}
			}
			t.Errorf("not among %v", f.Findings())
		})
	}
}

func TestADumpThatIsNoneIsAnError(t *testing.T) {
	if _, err := ReadConfig("nginx: [emerg] open() failed", files); err == nil {
		t.Error("no error")
	}
}
