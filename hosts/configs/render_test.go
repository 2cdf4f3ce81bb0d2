package configs_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/hosts/configs"
)

func fleet() configs.Fleet {
	return configs.Fleet{Name: "vmst.io", Domain: "vmst.io", Hosts: []configs.Host{
		{Name: "sulu", Address: "10.10.0.11", Roles: []string{"proxy"}},
		{Name: "kirk", Address: "10.10.0.21", Roles: []string{"web"}, Web: configs.Web{Port: 3000, Streaming: []int{4000, 4001}}},
		{Name: "spock", Address: "10.10.0.22", Roles: []string{"web"}, Web: configs.Web{Port: 3001, Streaming: []int{4000}}},
		{Name: "decker", Address: "10.10.0.32", Roles: []string{"sidekiq", "scheduler"}, Sidekiq: []configs.Unit{{Unit: "sq.service", Queues: []string{"default", "push"}}}},
	}}
}

func release() configs.Release {
	return configs.Release{
		Version: "v4.5.1", Commit: strings.Repeat("c", 40), Tree: strings.Repeat("d", 40), Artifact: "sha256:" + strings.Repeat("a", 64),
		Toolchains: map[string]string{"ruby": "3.4.7", "node": "24.11.1", "bundler": "2.7.2"}, Images: map[string]int{"web": 12, "sidekiq": 13, "proxy": 14},
	}
}

// folder makes templates of name and content, in turn.
func folder(pairs ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return out
}

func whole() fstest.MapFS {
	return folder(
		"all/etc/motd", "of all\n",
		"web/etc/motd", "of web\n",
		"host/kirk/etc/motd", "of kirk\n",
		"all/etc/issue.tmpl", "{{.Host.Name}} of {{.Fleet.Domain}} runs {{.Release.Version}} on ruby {{.Release.Toolchains.ruby}}\n",
		"proxy/etc/nginx/sites-available/mastodon.conf.tmpl", "upstream web {\n{{range hosts \"web\"}}  server {{.Address}}:{{.Web.Port}};\n{{end}}}\n",
		"web/home/mastodon/.env.production.tmpl", "LOCAL_DOMAIN={{.Fleet.Domain}}\nDB_PASS={{secret \"DB_PASS\"}}\nSECRET_KEY_BASE={{secret \"SECRET_KEY_BASE\"}}\nPORTS={{join \",\" host.Web.Streaming}}\nPEER={{(host \"spock\").Address}}\nNAME={{quote \"a \\\"b\\\"\"}}\n",
		"files.yml", "files:\n- path: /home/mastodon/.env.production\n  owner: mastodon\n  group: mastodon\n  mode: \"0640\"\n  restart: [mastodon-web.service]\n- path: /etc/nginx/**\n  reload: [nginx.service]\n",
		"README.md", "for people", "web/.gitkeep", "",
	)
}

func render(t *testing.T, from fstest.MapFS) map[string][]configs.File {
	t.Helper()
	out, err := configs.Render(from, fleet(), release())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func find(t *testing.T, files []configs.File, path string) configs.File {
	t.Helper()
	i := slices.IndexFunc(files, func(f configs.File) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("there is no %s", path)
	}
	return files[i]
}

func TestTheMoreSpecialTemplateWins(t *testing.T) {
	got := render(t, whole())
	for host, want := range map[string]string{"sulu": "of all\n", "spock": "of web\n", "kirk": "of kirk\n", "decker": "of all\n"} {
		if f := find(t, got[host], "/etc/motd"); string(f.Content) != want {
			t.Errorf("%s has %q, want %q", host, f.Content, want)
		}
	}
}

func TestTemplatesSeeTheirHostTheFleetAndTheRelease(t *testing.T) {
	got := render(t, whole())
	for _, c := range []struct{ host, path, want string }{
		{"sulu", "/etc/issue", "sulu of vmst.io runs v4.5.1 on ruby 3.4.7\n"},
		{"sulu", "/etc/nginx/sites-available/mastodon.conf", "upstream web {\n  server 10.10.0.21:3000;\n  server 10.10.0.22:3001;\n}\n"},
		{"kirk", "/home/mastodon/.env.production", "LOCAL_DOMAIN=vmst.io\nDB_PASS=@refit-secret(DB_PASS)@\nSECRET_KEY_BASE=@refit-secret(SECRET_KEY_BASE)@\nPORTS=4000,4001\nPEER=10.10.0.22\nNAME=\"a \\\"b\\\"\"\n"},
	} {
		if f := find(t, got[c.host], c.path); string(f.Content) != c.want {
			t.Errorf("%s on %s is %q, want %q", c.path, c.host, f.Content, c.want)
		}
	}
}

func TestRightsComeFromFilesYMLAndChecksFromThePlace(t *testing.T) {
	got := render(t, whole())
	env := find(t, got["kirk"], "/home/mastodon/.env.production")
	if env.Owner != "mastodon" || env.Group != "mastodon" || env.Mode != 0o640 || env.Check != "none" ||
		!slices.Equal(env.Restart, []string{"mastodon-web.service"}) || !slices.Equal(env.Secrets, []string{"DB_PASS", "SECRET_KEY_BASE"}) {
		t.Errorf("%+v", env)
	}
	site := find(t, got["sulu"], "/etc/nginx/sites-available/mastodon.conf")
	if site.Owner != "root" || site.Mode != 0o644 || site.Check != "nginx" || !slices.Equal(site.Reload, []string{"nginx.service"}) {
		t.Errorf("%+v", site)
	}
	for path, check := range map[string]string{"etc/systemd/system/a.service": "systemd", "etc/stunnel/redis.conf": "stunnel", "etc/hosts": "none"} {
		if f := find(t, render(t, folder("all/"+path, "x\n"))["kirk"], "/"+path); f.Check != check {
			t.Errorf("%s is checked by %s, want %s", path, f.Check, check)
		}
	}
}

func TestWhatCannotBeRenderedIsRefusedWithFileAndLine(t *testing.T) {
	long := strings.Repeat("x", 1<<20+1)
	link := folder("all/etc/real", "x")
	link["all/etc/link"] = &fstest.MapFile{Data: []byte("real"), Mode: 0o777 | 1<<27}
	for name, c := range map[string]struct {
		from fstest.MapFS
		want []string
	}{
		"a slip of the template":        {folder("web/etc/a.tmpl", "one\n{{if}}\n"), []string{"templates/web/etc/a.tmpl:2", "missing value"}},
		"an unknown function":           {folder("web/etc/a.tmpl", "\n\n{{env \"HOME\"}}"), []string{"templates/web/etc/a.tmpl:3", "env"}},
		"a missing key":                 {folder("web/etc/a.tmpl", "\n{{.Release.Toolchains.python}}"), []string{"templates/web/etc/a.tmpl:2", "python", "kirk"}},
		"a missing field":               {folder("web/etc/a.tmpl", "{{.Host.Nom}}"), []string{"templates/web/etc/a.tmpl:1", "Nom"}},
		"an unknown host":               {folder("web/etc/a.tmpl", "\n{{(host \"khan\").Address}}"), []string{"templates/web/etc/a.tmpl:2", "khan"}},
		"an unknown role":               {folder("web/etc/a.tmpl", "{{hosts \"webs\"}}"), []string{"templates/web/etc/a.tmpl:1", "webs", "sidekiq"}},
		"a secret's bad name":           {folder("web/etc/a.tmpl", "{{secret \"DB PASS\"}}"), []string{"templates/web/etc/a.tmpl:1", "DB PASS"}},
		"no list":                       {folder("web/etc/a.tmpl", "{{join \",\" .Host}}"), []string{"templates/web/etc/a.tmpl:1"}},
		"a list of hosts":               {folder("web/etc/a.tmpl", "{{join \",\" (hosts \"web\")}}"), []string{"templates/web/etc/a.tmpl:1", "Host"}},
		"two lines quoted":              {folder("web/etc/a.tmpl", "{{quote \"a\\nb\"}}"), []string{"templates/web/etc/a.tmpl:1", "one line"}},
		"endless output":                {folder("web/etc/a.tmpl", "{{range 99999999}}xxxxxxxxxxxxxxxx{{end}}"), []string{"templates/web/etc/a.tmpl", "more than"}},
		"a huge file":                   {folder("all/etc/a", long), []string{"templates/all/etc/a", "larger"}},
		"twice in one folder":           {folder("web/etc/a.tmpl", "", "web/etc/a", ""), []string{"templates/web/etc/a", "templates/web/etc/a.tmpl", "/etc/a"}},
		"twice by two roles":            {folder("sidekiq/etc/a", "1", "scheduler/etc/a", "2"), []string{"templates/scheduler/etc/a", "templates/sidekiq/etc/a", "decker"}},
		"a file and a folder":           {folder("all/etc/a", "1", "web/etc/a/b", "2"), []string{"templates/all/etc/a", "templates/web/etc/a/b", "kirk"}},
		"a folder of nobody":            {folder("webs/etc/a", "1"), []string{"templates/webs/etc/a", "templates/ROLE"}},
		"a host that is gone":           {folder("host/khan/etc/a", "1"), []string{"templates/host/khan/etc/a", "khan"}},
		"no path on the host":           {folder("all", "1"), []string{"templates/all"}},
		"a symlink":                     {link, []string{"templates/all/etc/link", "link"}},
		"refit's own state":             {folder("all/etc/refit/secrets.env", "x"), []string{"templates/all/etc/refit/secrets.env", "refit's own"}},
		"refit's upstreams":             {folder("proxy/etc/nginx/refit/web.conf", "x"), []string{"refit's own"}},
		"the seal":                      {folder("web/etc/systemd/system/a.service.d/50-refit-permit.conf", "x"), []string{"seal"}},
		"a strange name":                {folder("web/etc/a\x1bb", "x"), []string{`a\x1bb`}},
		"a backslash":                   {folder(`web/etc/..\..\b`, "x"), []string{"characters"}},
		"a name that is only an ending": {folder("web/etc/.tmpl", "x"), []string{"templates/web/etc/.tmpl"}},
		"a secret that is printed": {
			folder("web/etc/a.tmpl", "x\n{{range hosts \"web\"}}\n{{end}}DB_PASS={{print \"hun\" \"ter2\"}}\n"),
			[]string{"templates/web/etc/a.tmpl", "line 4 of what it renders", "known to be secret"},
		},
		"a secret that is copied":  {folder("web/etc/a", "x\nDB_PASS=hunter2\n"), []string{"templates/web/etc/a", "line 2"}},
		"a reference that is none": {folder("web/etc/a", "x\n@refit-secret(DB PASS)@\n"), []string{"templates/web/etc/a", "line 2", "@refit-secret(NAME)@"}},
		"a secret for everybody":   {folder("web/etc/a.tmpl", "{{secret \"A\"}}"), []string{"templates/web/etc/a.tmpl", "0644", "everybody"}},
		"an unknown key":           {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  modus: \"0644\"\n"), []string{"templates/files.yml:3", "not known"}},
		"a mode of five":           {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/b\n- path: /etc/a\n  mode: \"4755\"\n"), []string{"templates/files.yml:3", "4755"}},
		"a mode without quotes":    {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  mode: 0640\n"), []string{"templates/files.yml:2", "in quotes"}},
		"writable by all":          {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  mode: \"0666\"\n"), []string{"templates/files.yml:2", "write"}},
		"a bad owner":              {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  owner: \"root; rm\"\n"), []string{"templates/files.yml:2", "account"}},
		"a bad check":              {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  check: apache\n"), []string{"templates/files.yml:2", "apache"}},
		"a unit without ending":    {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n  restart: [nginx]\n"), []string{"templates/files.yml:2", "nginx.service"}},
		"a bad glob":               {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/[a\n"), []string{"templates/files.yml:2", "glob"}},
		"a relative glob":          {folder("all/etc/a", "", "files.yml", "files:\n- path: etc/a\n"), []string{"templates/files.yml:2", "absolute"}},
		"a glob that fits nothing": {folder("all/etc/a", "", "files.yml", "files:\n- path: /etc/a\n- path: /etc/nginx/**\n"), []string{"templates/files.yml:3", "/etc/nginx/**"}},
	} {
		_, err := configs.Render(c.from, fleet(), release())
		if err == nil {
			t.Errorf("%s is rendered", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the secret stands in the error: %v", name, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a\nb"} {
		f := fleet()
		f.Hosts[0].Name = bad
		if _, err := configs.Render(whole(), f, release()); err == nil {
			t.Errorf("a host named %q is rendered for", bad)
		}
	}
	f := fleet()
	f.Hosts[0].Name = "kirk"
	if _, err := configs.Render(whole(), f, release()); err == nil || !strings.Contains(err.Error(), "kirk") {
		t.Errorf("two hosts of one name: %v", err)
	}
}

// The property of a pure function: however maps are laid out and whichever order
// templates were made in, the same inputs give the same bytes.
func TestTheSameInputsGiveTheSameBytes(t *testing.T) {
	var first map[string][]byte
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		from := fstest.MapFS{}
		all := whole()
		var names []string
		for name := range all {
			names = append(names, name)
		}
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, n := range names {
			from[n] = all[n]
		}
		r := release()
		r.Toolchains, r.Images = map[string]string{}, map[string]int{}
		for _, k := range []string{"node", "ruby", "bundler"} {
			r.Toolchains[k] = release().Toolchains[k]
		}
		for _, k := range []string{"sidekiq", "proxy", "web"} {
			r.Images[k] = release().Images[k]
		}
		rendered, err := configs.Render(from, fleet(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, files := range rendered { // Tree asks for no order
			rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		}
		tree, err := configs.Tree(rendered, r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = tree
			continue
		}
		if len(tree) != len(first) {
			t.Fatalf("%d files, then %d", len(first), len(tree))
		}
		for name, content := range tree {
			if !bytes.Equal(content, first[name]) {
				t.Fatalf("%s differs:\n%s\n%s", name, first[name], content)
			}
		}
	}
}
