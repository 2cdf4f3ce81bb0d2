package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/stages"
)

// spocksPlace is a node that took spock's place.
func spocksPlace() stages.Birth {
	return stages.Birth{
		Kind: stages.Replacing, Host: "spock", Tier: "web", Like: "spock", Droplet: 4712, Address: "10.10.0.99",
		Model: stages.Model{Roles: []hosts.Role{hosts.Web}, Port: 3000, Streaming: []int{4000}},
		Old:   &stages.Old{Address: "10.10.0.22", Droplet: 4711, State: stages.OldUp},
	}
}

// differs are the lines of two texts that the other lacks.
func differs(a, b string) (gone, come []string) {
	has := func(text, line string) bool { return strings.Contains("\n"+text, "\n"+line+"\n") }
	for _, line := range strings.Split(a, "\n") {
		if !has(b, line) {
			gone = append(gone, line)
		}
	}
	for _, line := range strings.Split(b, "\n") {
		if !has(a, line) {
			come = append(come, line)
		}
	}
	return gone, come
}

func TestAnAddressIsRewrittenInItsPlaceAndBack(t *testing.T) {
	for name, line := range map[string]string{
		"plain":          "    address: 10.10.0.22",
		"with a comment": "    address: 10.10.0.22   # tor1, “private”",
		"in quotes":      `    address: "10.10.0.22"`,
		"in others":      "    address: '10.10.0.22' # x",
		"with an ID":     "    droplet: 4711 # by hand\n    address: 10.10.0.22",
		"an ID after it": "    address: 10.10.0.22\n    droplet:   4711",
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(exampleYML), "    address: 10.10.0.22", line, 1)
			now, err := rewritten("refit.yml", text, spocksPlace(), false)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(strings.Replace(text, "10.10.0.22", "10.10.0.99", 1), "4711", "4712"); now != want {
				gone, come := differs(want, now)
				t.Errorf("lacks %q, has %q", gone, come)
			}
			if again, err := rewritten("refit.yml", now, spocksPlace(), false); err != nil || again != now {
				t.Errorf("it is changed twice: %v", err)
			}
			if back, err := rewritten("refit.yml", now, spocksPlace(), true); err != nil || back != text {
				t.Errorf("it is not as it was: %v", err)
			}
		})
	}
}

func TestAHostThatIsWrittenOnOneLineIsRewrittenToo(t *testing.T) {
	text := strings.Replace(string(exampleYML), `  - name: spock
    address: 10.10.0.22
    roles: [web]
    web: {port: 3000, streaming: [4000]}
`, "  - {name: spock, address: 10.10.0.22, roles: [web], web: {port: 3000, streaming: [4000]}} # the other\n", 1)
	now, err := rewritten("refit.yml", text, spocksPlace(), false)
	if want := strings.Replace(text, "10.10.0.22", "10.10.0.99", 1); err != nil || now != want {
		t.Errorf("%v", err)
	}
}

func TestANewHostIsWrittenAfterTheLastOfItsTierAndTakenOutAgain(t *testing.T) {
	for tier, c := range map[string]struct {
		model stages.Model
		after string
		lines string
	}{
		"web": {
			stages.Model{Roles: []hosts.Role{hosts.Web}, Port: 3000, Streaming: []int{4000, 4001}},
			"    address: 10.10.0.22\n    roles: [web]\n    web: {port: 3000, streaming: [4000]}\n",
			"  - name: sulak\n    address: 10.10.0.99\n    droplet: 4712\n    roles: [web]\n    web: {port: 3000, streaming: [4000, 4001]}\n",
		},
		"sidekiq": {
			stages.Model{Roles: []hosts.Role{hosts.Sidekiq}, Workers: []stages.Worker{{Unit: "mastodon-sidekiq-a.service", Queues: []string{"push", "pull"}}}},
			"queues: [scheduler]}   # on one node only\n",
			"  - name: sulak\n    address: 10.10.0.99\n    droplet: 4712\n    roles: [sidekiq]\n    sidekiq:\n      - {unit: mastodon-sidekiq-a.service, queues: [push, pull]}\n",
		},
	} {
		t.Run(tier, func(t *testing.T) {
			b := stages.Birth{Kind: stages.Adding, Host: "sulak", Tier: tier, Droplet: 4712, Address: "10.10.0.99", Model: c.model}
			text := string(exampleYML)
			now, err := rewritten("refit.yml", text, b, false)
			if want := strings.Replace(text, c.after, c.after+c.lines, 1); err != nil || now != want {
				gone, come := differs(want, now)
				t.Fatalf("%v: lacks %q, has %q", err, gone, come)
			}
			if again, err := rewritten("refit.yml", now, b, false); err != nil || again != now {
				t.Errorf("it is written twice: %v", err)
			}
			if back, err := rewritten("refit.yml", now, b, true); err != nil || back != text {
				t.Errorf("it is not as it was: %v", err)
			}
		})
	}
}

func TestAFileThatCannotBeChangedSafelyStaysAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		b    func(*stages.Birth)
	}{
		"an alias stands there":     {strings.Replace(strings.Replace(string(exampleYML), "    address: 10.10.0.21", "    address: &a 10.10.0.22", 1), "    address: 10.10.0.22", "    address: 10.10.0.21", 1), func(b *stages.Birth) { b.Host = "kirk" }},
		"another has that address":  {string(exampleYML), func(b *stages.Birth) { b.Address = "10.10.0.21" }},
		"the host is not there":     {string(exampleYML), func(b *stages.Birth) { b.Host = "bones" }},
		"a host of that name is":    {string(exampleYML), func(b *stages.Birth) { b.Kind, b.Host = stages.Adding, "kirk" }},
		"it does not load any more": {"hosts: [", func(*stages.Birth) {}},
	} {
		t.Run(name, func(t *testing.T) {
			b := spocksPlace()
			c.b(&b)
			file := filepath.Join(t.TempDir(), "refit.yml")
			if err := os.WriteFile(file, []byte(c.text), 0o640); err != nil {
				t.Fatal(err)
			}
			change, err := rewriteFile(file, b, false)
			if err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if name == "an alias stands there" && change == "" {
				if want := strings.Replace(c.text, "&a 10.10.0.22", "&a 10.10.0.99", 1); string(now) != want {
					t.Errorf("%s", now)
				}
				return
			}
			if string(now) != c.text || !strings.Contains(change, b.Address) {
				t.Errorf("change %q", change)
			}
		})
	}
}

func TestARewrittenFileKeepsItsModeAndItsLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "production.yml"), filepath.Join(dir, "refit.yml")
	if err := os.WriteFile(file, exampleYML, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if change, err := rewriteFile(link, spocksPlace(), false); err != nil || change != "" {
		t.Fatalf("%q, %v", change, err)
	}
	info, err := os.Lstat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if c, err := loadConfig(link); err != nil || c.Hosts[3].Address != "10.10.0.99" {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
