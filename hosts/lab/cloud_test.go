package lab

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

func TestTheBalancersTableTellsWhomItSendsUsersTo(t *testing.T) {
	table := `# pxname,svname,qcur,status,weight,
site,FRONTEND,0,OPEN,,
proxies,sulu,0,UP 1/3,1,
proxies,chekov,0,DOWN,1,
proxies,drained,0,DRAIN,1,
proxies,paused,0,MAINT,1,
proxies,coming,0,DOWN 1/2,1,
other,kirk,0,UP,1,
proxies,BACKEND,0,UP,1,

`
	got, err := readHealth(table)
	must(t, err)
	if want := map[string]bool{"sulu": true, "chekov": false, "drained": false, "paused": false, "coming": false}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "Unknown command", "# pxname,svname,status,\n", "# pxname,svname,status,\nproxies,sulu\n", "# pxname,svname,status,\nother,sulu,UP,\n"} {
		if got, err := readHealth(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestHostKeysComeOutOfUserDataAndNothingElseDoes(t *testing.T) {
	data, err := readUserData("#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n    -----BEGIN\n    x\n  ed25519_public: ssh-ed25519 AAAA root\n")
	must(t, err)
	if want := map[string]string{"ssh_host_ed25519_key": "-----BEGIN\nx\n", "ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA root\n"}; !maps.Equal(data.Keys, want) || data.Keep {
		t.Errorf("got %+v", data)
	}
	for _, none := range []string{"", "\n", "#cloud-config\n"} {
		if data, err := readUserData(none); err != nil || len(data.Keys) != 0 || data.Keep {
			t.Errorf("%q: %+v, %v", none, data, err)
		}
	}
	data, err = readUserData("#cloud-config\nssh_deletekeys: false\npreserve_hostname: false\nhostname: spock\n")
	if err != nil || !data.Keep || data.Hostname != "spock" || len(data.Keys) > 0 {
		t.Errorf("%+v, %v", data, err)
	}
	for _, bad := range []string{
		"#!/bin/sh\nreboot\n",
		"#cloud-config\nruncmd: [reboot]\n",
		"#cloud-config\nssh_keys: {ed25519_private: SECRET, bad\n",
		"#cloud-config\nssh_deletekeys: false\nssh_keys: {ed25519_private: SECRET}\n",
		"#cloud-config\npreserve_hostname: true\n",
		"#cloud-config\nssh_keys: {ed25519_public: x}\n",
		"#cloud-config\nssh_keys: {dsa_private: SECRET}\n",
		"#cloud-config\nssh_keys: {../../x_private: SECRET}\n",
		"#cloud-config\nssh_keys: {ed25519_private: ''}\n",
	} {
		data, err := readUserData(bad)
		if err == nil {
			t.Errorf("%q gave %+v", bad, data)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestAFenceLetsThroughWhatItsRulesSayAndTheAnswers(t *testing.T) {
	script, err := fence("kirk", []cloudtest.Rule{
		{In: true, Protocol: "tcp", Ports: "22", Addresses: []string{"10.77.0.1", "::/0"}},
		{Protocol: "udp", Ports: "53", Addresses: []string{"10.77.0.9/24"}},
		{Protocol: "icmp", Addresses: []string{"0.0.0.0/0"}},
	}, true)
	must(t, err)
	into, outof, _ := strings.Cut(script[strings.Index(script, "chain into"):], "chain outof")
	for chain, lines := range map[string][]string{
		into: {
			"ip saddr 10.77.0.1/32 ip protocol tcp tcp dport 22 accept", "ip saddr 10.77.0.0/24 ip protocol udp udp sport 53 accept",
			"ip saddr 0.0.0.0/0 ip protocol icmp accept", "drop",
		},
		outof: {
			"ip daddr 10.77.0.1/32 ip protocol tcp tcp flags & (syn | ack) != syn tcp sport 22 accept",
			"ip daddr 10.77.0.0/24 ip protocol udp udp dport 53 accept", "drop",
		},
	} {
		for _, line := range lines {
			if !strings.Contains(chain, "\t"+line+"\n") {
				t.Errorf("no %q in %s", line, chain)
			}
		}
	}
	if strings.Contains(script, "::") {
		t.Errorf("it has IPv6: %s", script)
	}
	off, err := fence("kirk", nil, false)
	must(t, err)
	if strings.Contains(off, "drop") || !strings.Contains(off, "delete table") {
		t.Errorf("off: %s", off)
	}
	none, err := fence("kirk", nil, true)
	must(t, err)
	if strings.Count(none, " accept") != 2+strings.Count(none, "policy accept") || strings.Count(none, "drop\n") != 2 {
		t.Errorf("without rules more than ARP passes: %s", none)
	}
	for _, bad := range []cloudtest.Rule{
		{Protocol: "tcp", Ports: "22; flush ruleset", Addresses: []string{"10.0.0.1"}},
		{Protocol: "gre", Addresses: []string{"10.0.0.1"}},
		{Protocol: "tcp", Ports: "22", Addresses: []string{"kirk"}},
	} {
		if _, err := fence("kirk", []cloudtest.Rule{bad}, true); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestACopyOfTheDatabaseHasAPlaceOfItsOwn(t *testing.T) {
	var r roster
	for i := range forkLimit {
		f, err := r.addFork("copy-"+string(rune('a'+i)), "paris")
		must(t, err)
		if f.Port != firstForkPort+i {
			t.Errorf("port %d", f.Port)
		}
	}
	if _, err := r.addFork("one-more", "paris"); err == nil {
		t.Error("an eleventh was taken")
	}
	f, err := r.addFork("elsewhere", "majel")
	if err != nil || f.Port != firstForkPort {
		t.Errorf("got %+v, %v", f, err)
	}
	for _, name := range []string{"copy-a", "majel", "", "A", "../x", "x/y", "-x", "x@y"} {
		if _, err := r.addFork(name, "kirk"); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if err := (Managed{testLab(t)}).Destroy(t.Context(), "majel"); err == nil {
		t.Error("the site's database was destroyed")
	}
}

func TestTheNewestBackupIsAsOldAsATestWants(t *testing.T) {
	l := testLab(t)
	if _, err := l.Managed().Backups(t.Context(), "majel"); err == nil {
		t.Error("backups that nobody wrote were read")
	}
	must(t, l.SetBackupAge(30*time.Hour))
	all, err := l.Managed().Backups(t.Context(), "majel")
	must(t, err)
	if len(all) != 7 || !slices.IsSortedFunc(all, func(a, b time.Time) int { return b.Compare(a) }) {
		t.Fatalf("got %v", all)
	}
	if age := time.Since(all[0]); age < 30*time.Hour || age > 30*time.Hour+time.Minute {
		t.Errorf("the newest is %s old", age)
	}
	if err := l.SetBackupAge(-time.Second); err == nil {
		t.Error("a backup from the future was made")
	}
	if other, err := l.Managed().Backups(t.Context(), "a-copy"); err != nil || len(other) != 0 {
		t.Errorf("a copy has backups: %v, %v", other, err)
	}
}

func TestTheAccountShowsDropletsAndNotTheProvidersOwnHosts(t *testing.T) {
	var names []string
	for _, s := range dropletSeeds() {
		names = append(names, s.Name)
		id := roster{}.instance(s.Name)
		if s.ID != id || s.Private == "" || !slices.Contains(s.Tags, "lab") {
			t.Errorf("%+v, on the host %d", s, id)
		}
	}
	if want := []string{"sulu", "chekov", "kirk", "spock", "scotty", "decker", "khan", "uhura"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if b := balancerSeed(); !slices.Equal(b.Droplets, []int{roster{}.instance("sulu"), roster{}.instance("chekov")}) {
		t.Errorf("got %+v", b)
	}
}

func TestANewAccountKnowsNothingOfTheOneBefore(t *testing.T) {
	l := testLab(t)
	must(t, os.MkdirAll(l.path("images", "old", "upper"), 0o755))
	must(t, os.WriteFile(l.accountFile(), []byte("{}"), 0o600))
	must(t, l.openAccount())
	for _, p := range []string{l.path("images"), l.accountFile()} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is there still", filepath.Base(p))
		}
	}
	info, err := os.Stat(l.CloudToken())
	must(t, err)
	if b, err := os.ReadFile(l.CloudToken()); err != nil || strings.TrimSpace(string(b)) != l.Secrets.Cloud || len(l.Secrets.Cloud) < 64 || info.Mode().Perm() != 0o600 {
		t.Errorf("token of %d letters, mode %s, %v", len(b), info.Mode(), err)
	}
	for _, on := range []bool{true, false} {
		l.Cloud = on
		must(t, l.writeConfig())
		b, err := os.ReadFile(l.Config())
		must(t, err)
		if got := strings.Contains(string(b), "\ncloud:\n  token: {file: "+l.CloudToken()+"}\n  api: "+l.CloudAPI()+"\n  balancer: pike\n"); got != on {
			t.Errorf("with a cloud: %v; refit.yml:\n%s", on, b)
		}
		if strings.Contains(string(b), l.Secrets.Cloud) {
			t.Error("refit.yml holds the token")
		}
	}
}

// troubledAccount notes its troubles.
type troubledAccount struct{ rules []cloudtest.Trouble }

func (a *troubledAccount) Trouble(all ...cloudtest.Trouble) { a.rules = append(a.rules, all...) }
func (a *troubledAccount) Calm()                            { a.rules = nil }
func (a *troubledAccount) Faults() []string                 { return []string{"one", "two"} }

func TestTroubleIsTakenWholeOrRefused(t *testing.T) {
	var a troubledAccount
	h := troubled(&a)
	post := func(body string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/trouble", strings.NewReader(body)))
		return w.Code
	}
	b, err := json.Marshal(cloudtest.Trouble{Method: "POST", Status: 500})
	must(t, err)
	if code := post(string(b)); code != http.StatusNoContent || len(a.rules) != 1 || a.rules[0].Method != "POST" || a.rules[0].Status != 500 {
		t.Errorf("%d, %+v", code, a.rules)
	}
	for _, bad := range []string{"", "{", `{"Methodd": "POST"}`} {
		if code := post(bad); code != http.StatusBadRequest {
			t.Errorf("%q: %d", bad, code)
		}
	}
	if len(a.rules) != 1 {
		t.Errorf("took %+v", a.rules)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/trouble", nil))
	if w.Code != http.StatusNoContent || a.rules != nil {
		t.Errorf("%d, still %+v", w.Code, a.rules)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/faults", nil))
	if w.Body.String() != "one\ntwo\n" {
		t.Errorf("faults: %q", w.Body)
	}
}
