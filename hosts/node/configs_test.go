package node_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

const (
	siteFile   = "/etc/nginx/sites-available/mastodon"
	unitFile   = "/etc/systemd/system/mastodon-web.service"
	stunnel    = "/etc/stunnel/redis.conf"
	envFile    = "/home/mastodon/.env.production"
	aSecret    = "hunter2-and-more"
	configRoot = "root"
)

// configured is a host with a few files, whose nginx and systemd refuse what says "broken".
type configured struct {
	*testing.T
	a       *node.Agent
	m       node.Machine
	systemd *hoststest.Systemd
	checks  []string // what was checked, and where
	user    string
	group   string
	// die ends the call, as kill -9 does, before the n-th command; 0 for never.
	die, ran int
}

var errKilled = errors.New("killed")

func configuredHost(t *testing.T) *configured {
	t.Helper()
	c := &configured{T: t, systemd: &hoststest.Systemd{Units: map[string]*hoststest.Unit{}}}
	for _, u := range []string{"nginx.service", "stunnel4.service", "mastodon-web.service"} {
		c.systemd.Units[u] = &hoststest.Unit{Active: "active", Sub: "running", Pid: 7}
	}
	c.a, c.m = hoststest.NewNode(t, c.systemd)
	c.m.Exec = c.exec
	c.a.Shell = hoststest.NodeShell{Machine: c.m}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	g, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	c.user, c.group = me.Username, g.Name
	c.put(siteFile, "old site\n", 0o644)
	c.put(unitFile, "old unit\n", 0o644)
	c.put(stunnel, "old tunnel\n", 0o644)
	c.put(envFile, "DB_PASS=old-password\nLOCAL_DOMAIN=lab.example\n", 0o640)
	c.put(node.SecretsFile, "# ours\nDB_PASS="+aSecret+"\nEMPTY=\n", 0o600)
	return c
}

func (c *configured) path(p string) string { return filepath.Join(c.m.State, configRoot, p) }

func (c *configured) put(p, text string, mode fs.FileMode) {
	c.Helper()
	at := c.path(p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), mode), os.Chmod(at, mode)); err != nil {
		c.Fatal(err)
	}
}

func (c *configured) read(p string) string {
	c.Helper()
	b, err := os.ReadFile(c.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	if err != nil {
		c.Fatal(err)
	}
	return string(b)
}

// all are the files below etc and home but the secrets, with their modes.
func (c *configured) all() map[string]string {
	c.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(c.path("/"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, node.SecretsFile) {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, c.path("/"))
		out[name] = fi.Mode().String()
		if fi.Mode().IsRegular() {
			out[name] += " " + c.read(name)
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return out
}

func (c *configured) exec(ctx context.Context, argv ...string) ([]byte, error) {
	if c.ran++; c.die > 0 && c.ran >= c.die {
		return nil, errKilled
	}
	switch argv[0] {
	case "nginx":
		c.checks = append(c.checks, "nginx -t")
		if text := c.read(siteFile); strings.Contains(text, "broken") {
			return nil, &hosts.ExitError{Command: "nginx -t", Code: 1, Stderr: "invalid parameter in: " + text}
		}
		return nil, nil
	case "systemd-analyze":
		for _, copied := range argv[4:] {
			b, err := os.ReadFile(copied)
			if err != nil {
				return nil, err
			}
			c.checks = append(c.checks, "verify "+filepath.Base(copied))
			if strings.Contains(string(b), "broken") {
				return nil, &hosts.ExitError{Command: "systemd-analyze verify", Code: 1, Stderr: "Unknown section " + string(b)}
			}
		}
		return nil, nil
	}
	return c.systemd.Exec(ctx, argv...)
}

func (c *configured) file(p, content string) node.ConfigFile {
	f := node.ConfigFile{Path: p, Content: []byte(content), Owner: c.user, Group: c.group, Mode: 0o644}
	switch p {
	case siteFile:
		f.Check = "nginx"
	case unitFile:
		f.Check = "systemd"
	case stunnel:
		f.Check, f.Restart = "stunnel", []string{"stunnel4.service"}
	case envFile:
		f.Mode = 0o640
	}
	return f
}

func (c *configured) in(files ...node.ConfigFile) node.ConfigIn {
	return node.ConfigIn{Run: "20261122-1", Files: files, Paths: []string{envFile}, Never: []string{"/etc/nginx/refit/web.conf"}, Leave: []string{"mastodon-web.service"}}
}

func (c *configured) four() node.ConfigIn {
	return c.in(c.file(siteFile, "new site\n"), c.file(unitFile, "new unit\n"), c.file(stunnel, "new tunnel\n"),
		c.file(envFile, "DB_PASS=@refit-secret(DB_PASS)@\nLOCAL_DOMAIN=lab.example\n"), c.file("/etc/new/folder/file", "all new\n"))
}

func (c *configured) told() string {
	var out []string
	for _, argv := range c.systemd.Calls() {
		out = append(out, strings.Join(slices.DeleteFunc(slices.Clone(argv[1:]), func(w string) bool { return strings.HasPrefix(w, "--") }), " "))
	}
	return strings.Join(out, ", ")
}

func TestConfigurationIsPutInPlaceWholeAndTakenBackWhole(t *testing.T) {
	c := configuredHost(t)
	before := c.all()
	look, err := c.a.LookConfigs(t.Context(), c.four())
	if err != nil || len(look.Differs()) != 5 || look.Files[4].State != node.ConfigMissing {
		t.Fatalf("%+v, %v", look, err)
	}
	out, err := c.a.ApplyConfigs(t.Context(), c.four())
	if err != nil || len(out.Changed) != 5 || !out.Reloaded {
		t.Fatalf("%+v, %v", out, err)
	}
	if got := c.read(envFile); got != "DB_PASS="+aSecret+"\nLOCAL_DOMAIN=lab.example\n" {
		t.Errorf("the secret is not in its place: %q", got)
	}
	if got, want := c.told(), "daemon-reload, restart stunnel4.service, reload nginx.service"; got != want {
		t.Errorf("told: %s, wanted: %s", got, want)
	}
	if want := []string{"verify mastodon-web.service", "nginx -t"}; !slices.Equal(c.checks, want) {
		t.Errorf("checked: %q", c.checks)
	}
	after := c.all()
	if look, err = c.a.LookConfigs(t.Context(), c.four()); err != nil || len(look.Differs()) > 0 {
		t.Errorf("after: %+v, %v", look, err)
	}
	out, err = c.a.ApplyConfigs(t.Context(), c.four())
	if err != nil || len(out.Changed) > 0 || len(out.Told) > 0 {
		t.Errorf("a second time: %+v, %v", out, err)
	}
	for _, round := range []string{"once", "twice"} {
		if _, err := c.a.RestoreConfigs(t.Context(), c.in()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, c.all()); diff != "" {
			t.Errorf("taken back %s: %s", round, diff)
		}
	}
	if _, err := c.a.ApplyConfigs(t.Context(), c.four()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after, c.all()); diff != "" {
		t.Errorf("forward again: %s", diff)
	}
}

func TestWhatMustNotBeWrittenIsRefusedBeforeAnythingIs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*configured, *node.ConfigIn)
		why    string
	}{
		"a secret that lacks": {func(c *configured, in *node.ConfigIn) {
			in.Files = append(in.Files, c.file("/etc/a", "@refit-secret(OTHER)@ and @refit-secret(ONE_MORE)@"))
		}, "no value for ONE_MORE, OTHER"},
		"no secrets at all": {func(c *configured, _ *node.ConfigIn) {
			if err := os.Remove(c.path(node.SecretsFile)); err != nil {
				c.Fatal(err)
			}
		}, "no value for DB_PASS"},
		"secrets for all to read":  {func(c *configured, _ *node.ConfigIn) { c.put(node.SecretsFile, "DB_PASS=x", 0o644) }, "mode 0600"},
		"secrets that are no list": {func(c *configured, _ *node.ConfigIn) { c.put(node.SecretsFile, "DB_PASS=x\n"+aSecret+"\n", 0o600) }, "line 2 is not NAME=value"},
		"a secret twice":           {func(c *configured, _ *node.ConfigIn) { c.put(node.SecretsFile, "DB_PASS=x\nDB_PASS=y\n", 0o600) }, "once more"},
		"a path elsewhere":         {func(c *configured, in *node.ConfigIn) { in.Files[0].Path = "/usr/bin/x" }, "outside of /etc"},
		"a path that climbs":       {func(c *configured, in *node.ConfigIn) { in.Files[0].Path = "/etc/../usr/x" }, "no clean absolute path"},
		"refit's own secrets":      {func(c *configured, in *node.ConfigIn) { in.Files[0].Path = node.SecretsFile }, "refit's own"},
		"refit's own drop-in": {func(c *configured, in *node.ConfigIn) {
			in.Files[0].Path = "/etc/systemd/system/mastodon-.service.d/50-refit-permit.conf"
		}, "refit's own"},
		"refit's own upstreams":  {func(c *configured, in *node.ConfigIn) { in.Files[0].Path = "/etc/nginx/refit/web.conf" }, "refit's own"},
		"a file twice":           {func(c *configured, in *node.ConfigIn) { in.Files = append(in.Files, in.Files[0]) }, "twice"},
		"an owner that is none":  {func(c *configured, in *node.ConfigIn) { in.Files[0].Owner = "nobody-here" }, "no user nobody-here"},
		"a group that is none":   {func(c *configured, in *node.ConfigIn) { in.Files[0].Group = "nobody-here" }, "no group nobody-here"},
		"a tunnel nobody starts": {func(c *configured, in *node.ConfigIn) { in.Files[2].Restart = nil }, "names no unit to restart"},
		"a check of the future":  {func(c *configured, in *node.ConfigIn) { in.Files[0].Check = "haproxy" }, "no check"},
		"an option for a unit":   {func(c *configured, in *node.ConfigIn) { in.Files[0].Restart = []string{"--now"} }, "not the name of a unit"},
		"a run that climbs":      {func(c *configured, in *node.ConfigIn) { in.Run = "../x" }, "not the ID of a run"},
		"a link in its place": {func(c *configured, _ *node.ConfigIn) {
			if err := errors.Join(os.Remove(c.path(siteFile)), os.Symlink("/etc/passwd", c.path(siteFile))); err != nil {
				c.Fatal(err)
			}
		}, "symbolic link"},
		"a link on the way": {func(c *configured, in *node.ConfigIn) {
			if err := os.Symlink("nginx", c.path("/etc/web")); err != nil {
				c.Fatal(err)
			}
			in.Files[0].Path = "/etc/web/sites-available/mastodon"
		}, "/etc/web is a symbolic link"},
		"a folder in its place": {func(c *configured, in *node.ConfigIn) { in.Files[0].Path = "/etc/nginx" }, "no file"},
		"a unit that systemd refuses": {func(c *configured, in *node.ConfigIn) {
			in.Files[1].Content = []byte("broken @refit-secret(DB_PASS)@\n")
		}, "refuses it: Unknown section broken @refit-secret(DB_PASS)@"},
		"a drop-in that systemd refuses": {func(c *configured, in *node.ConfigIn) {
			c.put("/usr/lib/systemd/system/mastodon-streaming@.service", "broken by its drop-in", 0o644)
			in.Files[1].Path = "/etc/systemd/system/mastodon-streaming@4000.service.d/memory.conf"
		}, "systemd-analyze verify"},
	} {
		t.Run(name, func(t *testing.T) {
			c := configuredHost(t)
			in := c.four()
			test.change(c, &in)
			before := c.all()
			out, err := c.a.ApplyConfigs(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), test.why) || strings.Contains(err.Error(), aSecret) {
				t.Errorf("%+v, %v", out, err)
			}
			if diff := cmp.Diff(before, c.all()); diff != "" {
				t.Error(diff)
			}
			if told := c.told(); told != "" {
				t.Errorf("told: %s", told)
			}
			if left, _ := filepath.Glob(filepath.Join(c.m.State, "configs", "*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestAChangeThatItsProgramDoesNotTakeIsPutBack(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*configured, *node.ConfigIn)
		why    string
	}{
		"nginx refuses the file": {func(_ *configured, in *node.ConfigIn) {
			in.Files[0].Content = []byte("broken @refit-secret(DB_PASS)@\n")
		}, "invalid parameter in: broken @refit-secret(DB_PASS)@"},
		"stunnel does not start with it": {func(c *configured, _ *node.ConfigIn) {
			c.systemd.OnStart = func(name string, _ *hoststest.Unit) error {
				if strings.Contains(c.read(stunnel), "new") {
					return errors.New("Configuration failed")
				}
				return nil
			}
		}, "stunnel4.service does not take its configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			c := configuredHost(t)
			in := c.four()
			test.change(c, &in)
			before := c.all()
			out, err := c.a.ApplyConfigs(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), test.why) || !strings.Contains(err.Error(), "what was there before is back") || strings.Contains(err.Error(), aSecret) {
				t.Errorf("%+v, %v", out, err)
			}
			if diff := cmp.Diff(before, c.all()); diff != "" {
				t.Error(diff)
			}
			for name, u := range c.systemd.Units {
				if u.Active != "active" {
					t.Errorf("%s is %s", name, u.Active)
				}
			}
			if out, err := c.a.RestoreConfigs(t.Context(), c.in()); err != nil || len(out.Changed) > 0 {
				t.Errorf("nothing was left to take back: %+v, %v", out, err)
			}
		})
	}
}

// A call that is killed does not come to its own putting back: here each command, from the
// n-th on, fails, as every write of a dead process does.
func TestACallThatEndedAnywhereIsRepeatedOrTakenBack(t *testing.T) {
	whole := configuredHost(t)
	before := whole.all()
	if _, err := whole.a.ApplyConfigs(t.Context(), whole.four()); err != nil {
		t.Fatal(err)
	}
	after, commands := whole.all(), whole.ran
	for n := 1; n <= commands; n++ {
		for _, back := range []bool{false, true} {
			c := configuredHost(t)
			c.die = n
			if _, err := c.a.ApplyConfigs(t.Context(), c.four()); err == nil {
				t.Fatalf("command %d failed, and nobody said so", n)
			}
			c.die = 0
			want := after
			var err error
			if back {
				want = before
				_, err = c.a.RestoreConfigs(t.Context(), c.in())
			} else {
				_, err = c.a.ApplyConfigs(t.Context(), c.four())
			}
			if err != nil {
				t.Errorf("ended before command %d: %v", n, err)
			}
			if diff := cmp.Diff(want, c.all()); diff != "" {
				t.Errorf("ended before command %d, back %t: %s", n, back, diff)
			}
		}
	}
}

func TestWhatSomebodyChangedMeanwhileIsKeptWhenARunIsTakenBack(t *testing.T) {
	c := configuredHost(t)
	before := c.all()
	if _, err := c.a.ApplyConfigs(t.Context(), c.four()); err != nil {
		t.Fatal(err)
	}
	c.put(siteFile, "by hand\n", 0o644)
	out, err := c.a.RestoreConfigs(t.Context(), c.in())
	if err != nil || !slices.Equal(out.Meddled, []string{siteFile}) {
		t.Errorf("%+v, %v", out, err)
	}
	if diff := cmp.Diff(before, c.all()); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(filepath.Join(c.m.State, "configs/20261122-1/0.meddled")); err != nil || string(b) != "by hand\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestALookGivesNoSecretAway(t *testing.T) {
	c := configuredHost(t)
	c.put("/etc/other", "password "+aSecret+"\nplain\n", 0o644)
	in := c.four()
	in.Contents = true
	in.Files = append(in.Files, c.file("/etc/other", "password none\n"))
	out, err := c.a.LookConfigs(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out.Files[3].Content); got != "DB_PASS=[not shown]\nLOCAL_DOMAIN=lab.example\n" {
		t.Errorf("%q", got)
	}
	if got := string(out.Files[5].Content); got != "password @refit-secret(DB_PASS)@\nplain\n" {
		t.Errorf("%q", got)
	}
	if out.Files[0].Mode != 0o644 || out.Files[0].Owner != c.user || out.Files[0].State != node.ConfigOther {
		t.Errorf("%+v", out.Files[0])
	}
}

func TestRightsAloneAreADifferenceAndArePutRight(t *testing.T) {
	c := configuredHost(t)
	in := c.in(c.file(siteFile, "old site\n"))
	in.Files[0].Mode = 0o600
	if out, err := c.a.LookConfigs(t.Context(), in); err != nil || out.Files[0].State != node.ConfigRights {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := c.a.ApplyConfigs(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := c.all()[siteFile]; got != "-rw------- old site\n" {
		t.Errorf("%q", got)
	}
}

func TestOldContentsOfAFewRunsStayAndNobodyElseReadsThem(t *testing.T) {
	c := configuredHost(t)
	for _, run := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		in := c.in(c.file(siteFile, "site "+run+"\n"))
		in.Run = run
		if _, err := c.a.ApplyConfigs(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(c.m.State, "configs", "*"))
	if err != nil || len(left) != 6 || filepath.Base(left[0]) != "2" {
		t.Errorf("%q, %v", left, err)
	}
	for _, p := range append(left, filepath.Join(left[5], "0")) {
		if fi, err := os.Stat(p); err != nil || fi.Mode()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
}
