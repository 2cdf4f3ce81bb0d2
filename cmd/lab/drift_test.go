package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/stages/drift"
)

// drifted asks refit drift, and gives "kind what: hosts" of each finding.
func (f *fleet) drifted(t *testing.T, config string) ([]drift.Finding, []string) {
	t.Helper()
	a := f.run(t, config, "drift", "--json")
	var out struct{ Findings []drift.Finding }
	if err := json.Unmarshal([]byte(a.out), &out); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	if (a.code == 3) != (len(out.Findings) > 0) || a.code != 0 && a.code != 3 {
		t.Errorf("%d findings and %s", len(out.Findings), a)
	}
	var short []string
	for _, x := range out.Findings {
		short = append(short, fmt.Sprintf("%s %s: %s", x.Kind, x.What, strings.Join(x.Hosts, " ")))
	}
	return out.Findings, short
}

// withFirewalls puts the machine's nft on the managed hosts, with its libraries: the lab's
// image has none.
func (f *fleet) withFirewalls(t *testing.T) (remove func()) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", "/usr/sbin/nft").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`/\S+\.so\S*`).FindAllString(string(out), -1)
	if len(files) < 3 {
		t.Fatalf("nft has only these libraries: %s", out)
	}
	loader := files[slices.IndexFunc(files, func(s string) bool { return strings.Contains(s, "/ld-linux") })]
	hosts := []string{"sulu", "chekov", "kirk", "spock", "scotty", "decker", "uhura"}
	for _, host := range hosts {
		f.onHost(t, host, "mkdir", "-p", "/opt/lab-nft")
		for _, file := range append(files, "/usr/sbin/nft") {
			b, err := os.ReadFile(file)
			if err == nil {
				err = install(f.Lab, host, "/opt/lab-nft/"+filepath.Base(file), b, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		script := "#!/bin/sh\nexec /opt/lab-nft/" + filepath.Base(loader) + " --library-path /opt/lab-nft /opt/lab-nft/nft \"$@\"\n"
		if err := install(f.Lab, host, "/usr/sbin/nft", []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		f.onHost(t, host, "nft", "add table inet lab { chain in { type filter hook input priority 0; tcp dport 4444 drop; }; }")
	}
	return func() {
		for _, host := range hosts {
			f.onHost(t, host, "sh", "-c", "nft delete table inet lab; rm -rf /usr/sbin/nft /opt/lab-nft")
		}
	}
}

// TestLabEachKindOfDriftIsFoundAndNamedAndACleanFleetShowsNone plants one drift after the
// other, each alone, and takes it back.
func TestLabEachKindOfDriftIsFoundAndNamedAndACleanFleetShowsNone(t *testing.T) {
	f := on(t, "v4.5.2")
	clean := func(when string) {
		t.Helper()
		if _, found := f.drifted(t, ""); len(found) > 0 {
			t.Errorf("%s: %q", when, found)
		}
	}
	clean("on a fleet that nobody touched")
	defer f.withFirewalls(t)()
	clean("with a firewall on each host")
	const (
		env    = "/home/mastodon/.env.production"
		units  = "/etc/systemd/system/"
		worker = "mastodon-sidekiq-default.service"
		secret = "a-value-that-nobody-may-see-77c1"
	)
	for _, test := range []struct {
		name, host, plant, back string
		want                    []string
	}{
		{
			"a drop-in", "spock", "mkdir -p " + units + "mastodon-web.service.d && printf '[Service]\\nNice=1\\n' > " + units + "mastodon-web.service.d/zz-lab.conf && systemctl daemon-reload",
			"rm " + units + "mastodon-web.service.d/zz-lab.conf; systemctl daemon-reload",
			[]string{"unit mastodon-web.service: kirk spock"},
		},
		{
			"a unit's file that systemd has not read", "kirk", "touch -d '+1 hour' " + units + "mastodon-web.service", "touch " + units + "mastodon-web.service; systemctl daemon-reload",
			[]string{"unit mastodon-web.service: kirk"},
		},
		{
			"a unit that is not enabled", "decker", "systemctl disable mastodon-sidekiq-scheduler.service", "systemctl enable mastodon-sidekiq-scheduler.service",
			[]string{"unit mastodon-sidekiq-scheduler.service: decker"},
		},
		{
			"a unit that does not run", "scotty", "systemctl stop " + worker, "systemctl start " + worker,
			[]string{"unit " + worker + ": scotty"},
		},
		{
			"a unit that refit.yml does not name", "scotty", "printf '[Service]\\nExecStart=/bin/sleep 900\\n' > /run/systemd/system/mastodon-sidekiq-lab.service; systemctl daemon-reload; systemctl start mastodon-sidekiq-lab",
			"systemctl stop mastodon-sidekiq-lab; rm /run/systemd/system/mastodon-sidekiq-lab.service; systemctl daemon-reload",
			[]string{"unit mastodon-sidekiq-lab.service: scotty"},
		},
		{
			"other queues", "scotty", "mkdir -p " + units + worker + ".d && printf '[Service]\\nExecStart=\\nExecStart=/home/mastodon/live/.refit/bin/bundle exec sidekiq -q default\\n' > " + units + worker + ".d/zz-lab.conf && systemctl daemon-reload",
			"rm " + units + worker + ".d/zz-lab.conf; systemctl daemon-reload",
			[]string{"unit " + worker + ": scotty decker", "queues " + worker + ": scotty"},
		},
		{
			"a setting that no other node has", "spock", "cp -p " + env + " /root/lab-env; echo LAB_API_PASSWORD=" + secret + " >> " + env, "cat /root/lab-env > " + env + "; rm /root/lab-env",
			[]string{"env LAB_API_PASSWORD: kirk spock"},
		},
		{
			"a setting with another value", "spock", "cp -p " + env + " /root/lab-env; sed -i 's/^DB_PASS=.*/DB_PASS=" + secret + "/' " + env, "cat /root/lab-env > " + env + "; rm /root/lab-env",
			[]string{"env DB_PASS: spock"},
		},
		{
			"a package", "chekov", "mkdir -p /root/p/DEBIAN && printf 'Package: fail2ban\\nVersion: 9.9-lab\\nArchitecture: all\\nMaintainer: lab\\nDescription: none\\n' > /root/p/DEBIAN/control && dpkg-deb -b /root/p /root/p.deb && dpkg -i /root/p.deb",
			"dpkg --purge fail2ban; rm -rf /root/p /root/p.deb",
			[]string{"package fail2ban: sulu chekov"},
		},
		{
			"a port", "decker", "systemd-run --unit=lab-drift systemd-socket-activate -l 0.0.0.0:4444 /bin/cat && sleep 1", "systemctl stop lab-drift",
			[]string{"port tcp 4444: scotty decker"},
		},
		{
			"a hole in the firewall", "kirk", "nft flush chain inet lab in", "nft add rule inet lab in tcp dport 4444 drop",
			[]string{"firewall rules: kirk spock"},
		},
	} {
		f.onHost(t, test.host, "sh", "-c", "set -e; "+test.plant)
		all, found := f.drifted(t, "")
		text := f.run(t, "", "drift")
		f.onHost(t, test.host, "sh", "-c", test.back)
		if !slices.Equal(found, test.want) {
			t.Errorf("%s on %s: %q, want %q", test.name, test.host, found, test.want)
		}
		for _, x := range all {
			if !strings.Contains(text.out, x.Remedy) || !strings.Contains(x.String(), test.host) {
				t.Errorf("%s: the text lacks the remedy, or the finding the host: %s\n%s", test.name, x, text)
			}
			t.Log(x)
		}
		if words := fmt.Sprint(all, text); strings.Contains(words, secret) {
			t.Errorf("%s: the value is shown: %s", test.name, words)
		}
	}
	f.well(t)
	clean("after all was taken back")
	// The keeper's key is root's alone, and stays there.
	key := strings.TrimSpace(f.onHost(t, "uhura", "sh", "-c", "stat -c '%U %a' /var/lib/refit/keeper/comparison.key"))
	if key != "root 600" {
		t.Errorf("the keeper's key: %s", key)
	}
	for _, host := range []string{"kirk", "scotty"} {
		if out := f.onHost(t, host, "sh", "-c", "journalctl --no-pager | grep -c "+secret+" || true"); strings.TrimSpace(out) != "0" {
			t.Errorf("%s: the value is in the journal", host)
		}
	}
}
