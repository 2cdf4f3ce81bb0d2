package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// sealed is a host with Mastodon's units, whose systemd asks the program that refit puts there.
type sealed struct {
	*testing.T
	a       *node.Agent
	m       node.Machine
	systemd *hoststest.Systemd
	in      node.PermitIn
}

func unsealedHost(t *testing.T) *sealed {
	t.Helper()
	units := []string{"mastodon-web.service", "mastodon-streaming@4000.service", "jobs@push.service", "sidekiq.service"}
	systemd := &hoststest.Systemd{Units: map[string]*hoststest.Unit{}}
	for _, u := range units {
		systemd.Units[u] = &hoststest.Unit{Active: "active", Sub: "running", Pid: 7}
	}
	a, m := hoststest.NewNode(t, systemd)
	m.Agent = filepath.Join(m.State, "bin", "refit-1")
	s := &sealed{t, a, m, systemd, node.PermitIn{Units: units}}
	s.put("bin/refit-1", "the agent")
	s.put("root/run/credentials/@system/refit.instance", "kirk-1\n")
	systemd.Dir = filepath.Join(m.State, "root/etc/systemd/system")
	systemd.Condition = func(argv []string) int {
		if b, err := os.ReadFile(argv[0]); err != nil || string(b) != "the agent" {
			return 203 // as systemd, where it cannot run a program
		}
		if m.Serve(t.Context(), nil, argv[2:], strings.NewReader(""), &strings.Builder{}) != nil {
			return node.SealedStatus
		}
		return 0
	}
	a.Shell = hoststest.NodeShell{Machine: m}
	return s
}

// sealedHost is one with its permit.
func sealedHost(t *testing.T) *sealed {
	t.Helper()
	s := unsealedHost(t)
	if _, err := s.a.WritePermit(t.Context(), s.in); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sealed) put(file, text string) {
	s.Helper()
	path := filepath.Join(s.m.State, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		s.Fatal(err)
	}
}

func (s *sealed) look() node.PermitOut {
	s.Helper()
	out, err := s.a.Permit(s.Context(), s.in)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// starts restarts each unit and tells which of them run then.
func (s *sealed) starts() (running []string, err error) {
	for _, u := range s.in.Units {
		out, e := s.a.Units(s.Context(), node.UnitsIn{Op: node.RestartUnits, Units: []string{u}}, nil)
		err = errors.Join(err, e)
		if len(out.Units) == 1 && out.Units[0].Running() {
			running = append(running, u)
		}
	}
	return running, err
}

func TestAPermitIsWrittenOnceAndTouchesNoUnitThatRuns(t *testing.T) {
	s := unsealedHost(t)
	if out := s.look(); out.Held() || !slices.Equal(out.Lacks, s.in.Units) || len(out.Stale) != 3 || !strings.Contains(out.Refused, "has no permit") {
		t.Errorf("before: %+v", out)
	}
	out, err := s.a.WritePermit(t.Context(), s.in)
	if err != nil || !out.Held() || out.Refused != "" || out.Permit.Instance != "kirk-1" || out.Permit.Run != "u-1" {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, w := range out.Wrote {
		out.Wrote[i] = strings.TrimPrefix(w, s.m.State+"/")
	}
	want := []string{
		"permit.d/check", "permit", "root/etc/systemd/system/jobs@.service.d/50-refit-permit.conf",
		"root/etc/systemd/system/mastodon-.service.d/50-refit-permit.conf", "root/etc/systemd/system/sidekiq.service.d/50-refit-permit.conf",
	}
	if diff := cmp.Diff(want, out.Wrote); diff != "" {
		t.Error(diff)
	}
	again, err := s.a.WritePermit(t.Context(), s.in)
	if err != nil || len(again.Wrote) > 0 || !again.Permit.At.Equal(out.Permit.At) {
		t.Errorf("again: %+v, %v", again, err)
	}
	if calls := s.systemd.Calls(); len(calls) != 1 || calls[0][2] != "daemon-reload" {
		t.Errorf("systemd was told %q", calls)
	}
	if running, err := s.starts(); err != nil || len(running) != 4 {
		t.Errorf("with its permit %q run, %v", running, err)
	}
}

func TestNoUnitStartsWithoutAWholePermitOfThisVeryMachine(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*sealed)
		why    string
	}{
		"a clone": {func(s *sealed) { s.put("root/run/credentials/@system/refit.instance", "kirk-2") }, "the permit is for machine kirk-1, and this is kirk-2"},
		"no permit": {func(s *sealed) {
			if _, err := s.a.WithdrawPermit(s.Context(), s.in); err != nil {
				s.Error(err)
			}
		}, "has no permit"},
		"a permit half written": {func(s *sealed) { s.put("permit", `{"format":1,"instance":"kirk-1","at":"20`) }, "cannot be read"},
		"an empty permit":       {func(s *sealed) { s.put("permit", "") }, "cannot be read"},
		"a permit for nobody":   {func(s *sealed) { s.put("permit", `{"format":1}`) }, "names no machine"},
		"a later permit's form": {func(s *sealed) { s.put("permit", `{"format":2,"instance":"kirk-1"}`) }, "format 2"},
		"no check program": {func(s *sealed) {
			if err := os.Remove(filepath.Join(s.m.State, "permit.d/check")); err != nil {
				s.Error(err)
			}
		}, "permit.d/check"},
		"a check program cut short": {func(s *sealed) { s.put("permit.d/check", "the ag") }, "sealed"},
		"a machine without a name": {func(s *sealed) {
			if err := os.RemoveAll(filepath.Join(s.m.State, "root/run/credentials")); err != nil {
				s.Error(err)
			}
		}, "cannot tell which machine this is"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sealedHost(t)
			test.change(s)
			if out := s.look(); out.Refused == "" || !strings.Contains(out.Refused, "sealed") {
				t.Errorf("show does not say so: %+v", out)
			}
			running, err := s.starts()
			if len(running) > 0 || !errors.Is(err, node.ErrSealed) || !strings.Contains(err.Error(), test.why) || !strings.Contains(err.Error(), "refit seal --host kirk") {
				t.Errorf("%q run, %v", running, err)
			}
		})
	}
}

func TestAUnitThatSystemdForgotWhyItSkippedIsSealedAllTheSame(t *testing.T) {
	s := sealedHost(t)
	s.put("permit", "")
	exec := s.m.Exec
	m := s.m
	m.Exec = func(ctx context.Context, argv ...string) ([]byte, error) {
		out, err := exec(ctx, argv...)
		return []byte(strings.ReplaceAll(string(out), "Result=exec-condition", "Result=success")), err
	}
	s.a.Shell = hoststest.NodeShell{Machine: m}
	if _, err := s.starts(); !errors.Is(err, node.ErrSealed) {
		t.Error(err)
	}
}

func TestARepeatedWriteMendsWhatDoesNotHold(t *testing.T) {
	for name, change := range map[string]func(*sealed){
		"another machine's permit": func(s *sealed) { s.put("permit", `{"format":1,"instance":"kirk-0"}`) },
		"a drop-in that was changed": func(s *sealed) {
			s.put("root/etc/systemd/system/mastodon-.service.d/50-refit-permit.conf", "[Service]\n")
			s.reload()
		},
		"a drop-in that systemd has not read": func(s *sealed) {
			file := "root/etc/systemd/system/sidekiq.service.d/50-refit-permit.conf"
			b, err := os.ReadFile(filepath.Join(s.m.State, file))
			if err := errors.Join(err, os.Remove(filepath.Join(s.m.State, file))); err != nil {
				s.Fatal(err)
			}
			s.reload()
			s.put(file, string(b))
		},
		"a check program of the same length": func(s *sealed) { s.put("permit.d/check", "tha egent") },
	} {
		s := sealedHost(t)
		change(s)
		if out := s.look(); out.Held() && out.Refused == "" {
			t.Errorf("%s is not seen: %+v", name, out)
		}
		out, err := s.a.WritePermit(t.Context(), s.in)
		if err != nil || !out.Held() || out.Refused != "" {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if running, err := s.starts(); err != nil || len(running) != 4 {
			t.Errorf("%s: %q run, %v", name, running, err)
		}
	}
}

func (s *sealed) reload() {
	s.Helper()
	if _, err := s.a.Units(s.Context(), node.UnitsIn{Op: node.ReloadDaemon}, nil); err != nil {
		s.Fatal(err)
	}
}

func TestASealThatOthersTakeBackIsAnError(t *testing.T) {
	for name, change := range map[string]func(*sealed){
		"a later drop-in": func(s *sealed) {
			s.put("root/etc/systemd/system/mastodon-web.service.d/90-mine.conf", "[Service]\nExecCondition=\n")
		},
		"a status of refusing that counts as success": func(s *sealed) { s.systemd.Units["mastodon-web.service"].SuccessExitStatus = "143 93" },
		"any crash that counts as success":            func(s *sealed) { s.systemd.Units["mastodon-web.service"].SuccessExitStatus = "2" },
	} {
		s := unsealedHost(t)
		change(s)
		out, err := s.a.WritePermit(t.Context(), s.in)
		if err == nil || !strings.Contains(err.Error(), "would start mastodon-web.service without asking") || !slices.Equal(out.Lacks, []string{"mastodon-web.service"}) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	s := unsealedHost(t)
	s.systemd.Units["mastodon-web.service"].SuccessExitStatus = "143"
	if out, err := s.a.WritePermit(t.Context(), s.in); err != nil {
		t.Errorf("Java's own status opens nothing: %+v, %v", out, err)
	}
}

func TestACheckThatCannotRunSealsNothing(t *testing.T) {
	s := unsealedHost(t)
	s.systemd.Condition = func([]string) int { return 203 } // as on a file system mounted noexec
	if out, err := s.a.WritePermit(t.Context(), s.in); !errors.Is(err, node.ErrSealed) || !strings.Contains(err.Error(), "noexec") {
		t.Errorf("%+v, %v", out, err)
	}
	if running, err := s.starts(); err != nil || len(running) != 4 {
		t.Errorf("of a host that could not be sealed %q start again, %v", running, err)
	}
}

func TestAFolderAmongCronsTablesKeepsNobodyFromLooking(t *testing.T) {
	s := sealedHost(t)
	s.put("root/etc/cron.d/old/mastodon", "@daily mastodon /x\n")
	if out := s.look(); len(out.Beside) > 0 {
		t.Errorf("%q", out.Beside)
	}
}

func TestOfATemplateNoInstanceEscapesAndOfMastodonNoUnitAtAll(t *testing.T) {
	s := sealedHost(t)
	s.put("permit", "")
	for _, u := range []string{"jobs@pull.service", "mastodon-sidekiq-other.service", "mastodon-media-remove.service", "mastodon-streaming@4001.service"} {
		s.systemd.Units[u] = &hoststest.Unit{}
		s.in.Units = []string{u}
		if running, err := s.starts(); len(running) > 0 || !errors.Is(err, node.ErrSealed) {
			t.Errorf("%s started: %v", u, err)
		}
	}
	s.systemd.Units["nginx.service"] = &hoststest.Unit{}
	s.in.Units = []string{"nginx.service"}
	if running, err := s.starts(); len(running) != 1 || err != nil {
		t.Errorf("another's unit: %q, %v", running, err)
	}
}

func TestOnlyWhoHoldsTheLeaseWritesAPermit(t *testing.T) {
	s := unsealedHost(t)
	if _, err := s.a.FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "another"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.a.WritePermit(t.Context(), s.in); !errors.Is(err, node.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if out := s.look(); out.Permit != nil || len(out.Stale) != 3 {
		t.Errorf("something was written: %+v", out)
	}
}

func TestAMachineIsKnownByWhatItsDiskCannotBring(t *testing.T) {
	const uuid = "6C1A2B30-4D5E-4F60-8A7B-9C0D1E2F3A4B"
	for name, test := range map[string]struct {
		files map[string]string
		want  node.Instance
		err   string
	}{
		"a droplet":                             {map[string]string{"sys_vendor": "DigitalOcean", "product_serial": "358211\n", "product_uuid": uuid}, node.Instance{ID: "358211", From: "product_serial"}, ""},
		"a droplet by its board":                {map[string]string{"board_vendor": "DigitalOcean", "product_serial": "358211"}, node.Instance{ID: "358211", From: "product_serial"}, ""},
		"a droplet without a serial number":     {map[string]string{"sys_vendor": "DigitalOcean", "product_serial": "0", "product_uuid": uuid}, node.Instance{ID: strings.ToLower(uuid), From: "product_uuid"}, ""},
		"another's machine":                     {map[string]string{"sys_vendor": "QEMU", "product_serial": "358211", "product_uuid": uuid}, node.Instance{ID: strings.ToLower(uuid), From: "product_uuid"}, ""},
		"a credential before the firmware":      {map[string]string{"sys_vendor": "DigitalOcean", "product_serial": "358211", "credential": "kirk-1"}, node.Instance{ID: "kirk-1", From: "credential"}, ""},
		"a credential as units see it":          {map[string]string{"pid1": "kirk-1", "container": "systemd-nspawn"}, node.Instance{ID: "kirk-1", From: "credential"}, ""},
		"a container":                           {map[string]string{"sys_vendor": "DigitalOcean", "product_serial": "358211", "container": "systemd-nspawn"}, node.Instance{}, "a container (systemd-nspawn) without the system credential refit.instance"},
		"a credential that is none":             {map[string]string{"credential": " ", "product_uuid": uuid}, node.Instance{}, "is no name"},
		"a board that was given no UUID":        {map[string]string{"product_uuid": "00000000-0000-0000-0000-000000000000"}, node.Instance{}, "neither a droplet's serial number nor a UUID"},
		"a board with its vendor's sample UUID": {map[string]string{"product_uuid": "03000200-0400-0500-0006-000700080009"}, node.Instance{}, "neither"},
		"nothing":                               {nil, node.Instance{}, "neither"},
	} {
		s := unsealedHost(t)
		if err := os.RemoveAll(filepath.Join(s.m.State, "root")); err != nil {
			t.Fatal(err)
		}
		for file, text := range test.files {
			switch file {
			case "credential":
				s.put("root/run/credentials/@system/refit.instance", text)
			case "pid1":
				s.put("root/proc/1/root/run/credentials/@system/refit.instance", text)
			case "container":
				s.put("root/run/systemd/container", text)
			default:
				s.put("root/sys/class/dmi/id/"+file, text)
			}
		}
		out := s.look()
		if test.err == "" && (out.Instance != test.want || out.InstanceError != "") || test.err != "" && !strings.Contains(out.InstanceError, test.err) {
			t.Errorf("%s: %+v", name, out)
		}
		_, err := s.a.WritePermit(t.Context(), s.in)
		if (err == nil) != (test.err == "") {
			t.Errorf("%s: a permit: %v", name, err)
		}
	}
}

func TestWhatElseStartsMastodonsCodeIsTold(t *testing.T) {
	s := sealedHost(t)
	s.systemd.Units["tootctl.service"], s.systemd.Units["mastodon-media.service"] = &hoststest.Unit{}, &hoststest.Unit{}
	s.systemd.Units["push@refit.service"] = &hoststest.Unit{}
	s.put("root/etc/systemd/system/tootctl.service", "[Service]\nType=oneshot\nUser=mastodon\nExecStart=/x\n")
	s.put("root/etc/systemd/system/mastodon-media.service", "[Service]\nUser=mastodon\nExecStart=/x\n")
	s.put("root/usr/lib/systemd/system/push@.service", "[Service]\nExecStart=/home/mastodon/live/bin/tootctl\n")
	s.put("root/etc/systemd/system/nginx.service", "[Service]\nUser=www-data\n")
	s.put("root/etc/cron.d/mastodon", "MAILTO=x\n# a comment\n@daily mastodon /x\n0 1 * * * root cd /home/mastodon/live && bin/tootctl media remove\n0 1 * * * root /y\n")
	s.put("root/var/spool/cron/crontabs/mastodon", "# m h\n0 4 * * * bin/tootctl accounts prune\n")
	s.put("root/var/lib/systemd/linger/mastodon", "")
	root := filepath.Join(s.m.State, "root")
	want := []string{
		"the service push@.service", "the service tootctl.service", "cron, by 2 lines of " + root + "/etc/cron.d/mastodon", "cron, by 1 lines of " + root + "/var/spool/cron/crontabs/mastodon",
		"the user's own systemd, which starts with the machine (loginctl disable-linger mastodon)",
	}
	if diff := cmp.Diff(want, s.look().Beside); diff != "" {
		t.Error(diff)
	}
}

func TestAPermitsFileSaysWhoWroteItForWhom(t *testing.T) {
	s := unsealedHost(t)
	s.in.Run = "seal-7"
	if _, err := s.a.WritePermit(t.Context(), s.in); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.m.State, "permit"))
	var got map[string]any
	if err := errors.Join(err, json.Unmarshal(b, &got)); err != nil {
		t.Fatal(err)
	}
	if got["format"] != 1.0 || got["instance"] != "kirk-1" || got["run"] != "seal-7" || got["at"] == "" {
		t.Errorf("%s", b)
	}
}
