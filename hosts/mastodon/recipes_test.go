package mastodon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/node"
)

var straight = Direct{Host: "10.77.0.41", Port: 5432, Name: "mastodon"}

func TestAMigrationRunsInItsReleaseOverADirectConnection(t *testing.T) {
	want := node.JobIn{
		Unit: "refit-migrate.service",
		Argv: []string{"/home/mastodon/releases/v4.6.0/.refit/bin/bundle", "exec", "rails", "db:migrate"},
		Env: []string{
			"RAILS_ENV=production", "DB_HOST=10.77.0.41", "DB_PORT=5432", "DB_NAME=mastodon", "SKIP_POST_DEPLOYMENT_MIGRATIONS=true",
		},
		Dir: "/home/mastodon/releases/v4.6.0", User: "mastodon",
		Properties: []string{"UnsetEnvironment=DATABASE_URL"},
	}
	if diff := cmp.Diff(want, PreMigrate(Layout{}, "v4.6.0", "refit-migrate.service", straight)); diff != "" {
		t.Error(diff)
	}
	// Any value of SKIP_POST_DEPLOYMENT_MIGRATIONS leaves post-deployment migrations
	// out, so afterwards it must not be there at all.
	want.Env = want.Env[:4]
	if diff := cmp.Diff(want, PostMigrate(Layout{}, "v4.6.0", "refit-migrate.service", straight)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsPendingIsAskedWithAndWithoutPostDeploymentMigrations(t *testing.T) {
	for _, pre := range []bool{true, false} {
		job := Pending(Layout{}, "v4.6.0", "u", straight, pre)
		if got := slices.Contains(job.Env, "SKIP_POST_DEPLOYMENT_MIGRATIONS=true"); got != pre {
			t.Errorf("pre %v: %q", pre, job.Env)
		}
	}
}

func TestNoJobHasASecretOrATerminalOrALimitOfTime(t *testing.T) {
	l := Layout{}
	for _, job := range []node.JobIn{
		PreMigrate(l, "v1", "u", straight), PostMigrate(l, "v1", "u", straight), Pending(l, "v1", "u", straight, true),
		BootSmoke(l, "v1", "u"), BootUnmigrated(l, "v1", "u"), SearchChanged(l, "v1", "u"), SearchMapping(l, "v1", "u"),
	} {
		all := strings.Join(slices.Concat(job.Argv, job.Env, job.Properties), " ")
		for _, bad := range []string{"PASS", "RuntimeMaxSec", "lock_timeout", "TTYPath"} {
			if strings.Contains(all, bad) {
				t.Errorf("%s in %s", bad, all)
			}
		}
		if job.Dir != "/home/mastodon/releases/v1" || job.User != "mastodon" || !strings.HasPrefix(job.Argv[0], "/home/mastodon/releases/v1/.refit/bin/") {
			t.Errorf("%+v", job)
		}
	}
}

func TestTheSearchServerOnlyEverGetsMappings(t *testing.T) {
	argv := SearchMapping(Layout{}, "v1", "u").Argv
	if !slices.Contains(argv, "--only-mapping") {
		t.Errorf("%q would delete indexes", argv)
	}
}

func TestALayoutFollowsItsHome(t *testing.T) {
	l := Layout{Home: "/srv/masto", User: "masto"}
	if got := l.LiveTool("bundle"); got != "/srv/masto/live/.refit/bin/bundle" {
		t.Error(got)
	}
	if got := l.filled().EnvFile; got != "/srv/masto/.env.production" {
		t.Error(got)
	}
}

func TestADropInMakesAUnitThatPasses(t *testing.T) {
	for role, want := range map[ProcessRole]string{
		WebProcess:       "ExecStart=/home/mastodon/live/.refit/bin/bundle exec puma -C config/puma.rb\n",
		StreamingProcess: "ExecStart=/home/mastodon/live/.refit/bin/node ./streaming\n",
		SidekiqProcess:   "ExecStart=/home/mastodon/live/.refit/bin/bundle exec sidekiq -c 5 -q push -q pull\n",
	} {
		var args []string
		if role == SidekiqProcess {
			args = []string{"-c", "5", "-q", "push", "-q", "pull"}
		}
		text := DropIn(Layout{}, role, args...)
		for _, line := range []string{"[Service]\nExecStart=\n" + want, "TimeoutStopSec=90\n", "ReadWritePaths=/home/mastodon/releases -/home/mastodon/shared\n"} {
			if !strings.Contains(text, line) {
				t.Errorf("%s: %q is not in %q", role, line, text)
			}
		}
		command := strings.TrimSuffix(strings.TrimPrefix(want, "ExecStart="), "\n")
		if err := CheckUnit(Layout{}, role, node.UnitState{Name: "x.service", Load: "loaded", ExecStart: command, StopTimeout: StopLimit}); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestAUnitThatCannotBeSwitchedIsRefusedWithTheRemedy(t *testing.T) {
	const program = "/home/mastodon/live/.refit/bin/bundle exec sidekiq"
	for name, c := range map[string]struct {
		unit node.UnitState
		says string // empty: it passes
	}{
		"the stock unit's kill":    {node.UnitState{ExecStart: program, StopTimeout: 15 * time.Second}, "needs up to 30s; set TimeoutStopSec=90"},
		"just enough":              {node.UnitState{ExecStart: program, StopTimeout: 30 * time.Second}, ""},
		"a longer timeout of jobs": {node.UnitState{ExecStart: program + " -t 60", StopTimeout: 30 * time.Second}, "needs up to 1m5s"},
		"the same, written long":   {node.UnitState{ExecStart: program + " --timeout=60", StopTimeout: 30 * time.Second}, "needs up to 1m5s"},
		"no limit":                 {node.UnitState{ExecStart: program, StopTimeout: 0}, ""},
		"rbenv's Ruby":             {node.UnitState{ExecStart: "/home/mastodon/.rbenv/shims/bundle exec sidekiq -c 25", StopTimeout: StopLimit}, "starts /home/mastodon/.rbenv/shims/bundle"},
		"a release's own path":     {node.UnitState{ExecStart: "/home/mastodon/releases/v1/.refit/bin/bundle exec sidekiq", StopTimeout: StopLimit}, "would not move its runtime"},
		"nothing to start":         {node.UnitState{StopTimeout: StopLimit}, "starts nothing"},
		"no such unit":             {node.UnitState{Load: "not-found"}, "is not-found"},
		"a stale unit":             {node.UnitState{ExecStart: program, StopTimeout: StopLimit, NeedReload: true}, "daemon-reload"},
	} {
		t.Run(name, func(t *testing.T) {
			c.unit.Name = "mastodon-sidekiq.service"
			err := CheckUnit(Layout{}, SidekiqProcess, c.unit)
			if (c.says == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.unit.Name)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestQueuesAreReadFromACommandLine(t *testing.T) {
	for line, want := range map[string][]string{
		"bundle exec sidekiq -c 25":                         nil,
		"bundle exec sidekiq -c 25 -q push -q pull,2":       {"pull", "push"},
		"bundle exec sidekiq -qdefault --queue=fasp -c5":    {"default", "fasp"},
		"bundle exec sidekiq --queue mailers -q":            {"mailers"},
		"bundle exec sidekiq -q push -q push -e production": {"push"},
	} {
		if diff := cmp.Diff(want, SidekiqQueues(strings.Fields(line))); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}

func TestMissingLibrariesAreReadFromTheLinker(t *testing.T) {
	got := notFound("\tlinux-vdso.so.1 (0x1)\n\tlibidn.so.11 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\tlibicu.so.72 => not found\n")
	if diff := cmp.Diff([]string{"libidn.so.11", "libicu.so.72"}, got); diff != "" {
		t.Error(diff)
	}
}
