package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/hoststest"
	keeping "vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// Every verb that changes a host is frozen there, as a process of an old holder, at
// several depths: before it passes the fence and behind it. Another holder raises
// the fence, the process is woken, and the host must not change any more.

// frozen is one verb's case.
type frozen struct {
	host string // empty for uhura
	// prepare puts the verb's material there, the same each time. HOME is
	// /root/ops/home.
	prepare string
	in      any
	payload []byte
	// watch prints what the verb changes.
	watch string
}

const (
	opsHome  = "/root/ops/home"
	opsTools = "/root/ops/tools"
	opsFiles = `find /root/ops/home /root/ops/cache /root/ops/file -printf '%p %y %m %u %l %s %T@\n' 2>/dev/null | sort`
	// twoReleases are releases with many assets that differ.
	twoReleases = `mkdir -p $HOME/releases/v1.0.1/public/packs $HOME/releases/v1.0.2/public/packs; ln -s releases/v1.0.1 $HOME/live
i=0; while [ $i -lt 600 ]; do echo $i > $HOME/releases/v1.0.1/public/packs/a-$i.js; echo $i > $HOME/releases/v1.0.2/public/packs/b-$i.js; i=$((i+1)); done`
	// halfBuilt is a release in the middle of its build, with what it is built by.
	halfBuilt = `r=$HOME/releases/v4.5.2; mkdir -p $r/.refit $r/tmp/x $r/log $r/app /root/ops/cache/build/v4.5.2/tmp ` + opsTools + `/bin
touch ` + opsTools + `/bin/ruby ` + opsTools + `/bin/node
echo '{}' > $r/.refit/unfinished; echo '{"tag":{"name":"v4.5.2","commit":"c","tree":"t"},"files":[]}' > $r/.refit/source.json
i=0; while [ $i -lt 600 ]; do echo $i > $r/tmp/x/$i; echo $i > $r/log/$i; echo $i > $r/app/$i; i=$((i+1)); done`
	// aManifest is that of a release without files.
	aManifest = `{"format":1,"release":"v1.0.1","commit":"","tree":"","os":"","arch":"","ruby":"","node":"","built":"0001-01-01T00:00:00Z","files":[]}`
	opsUnit   = "refit-ops.service"
	unsealed  = "rm -rf /var/lib/refit/permit /var/lib/refit/permit.d /etc/systemd/system/mastodon-.service.d"
	permits   = "find /var/lib/refit/permit /var/lib/refit/permit.d /etc/systemd/system/mastodon-.service.d -type f -exec md5sum {} + 2>/dev/null | sort"
	opsJob    = "refit-ops-job.service"
)

// frozenVerbs are the cases, by verb. repository and npm are the lab's.
func frozenVerbs(t *testing.T, repository, npm string) map[string]frozen {
	t.Helper()
	version, err := builds.ParseVersion("v4.5.2")
	if err != nil {
		t.Fatal(err)
	}
	layout := builds.Layout{Home: opsHome, User: "mastodon", Cache: "/root/ops/cache"}
	tools := builds.Toolchain{Ruby: builds.Runtime{Prefix: opsTools}, Node: builds.Runtime{Prefix: opsTools}}
	manifest, pack := packed(t)
	job := "systemctl stop " + opsJob + " 2>/dev/null; systemctl reset-failed " + opsJob + " 2>/dev/null; rm -rf /var/lib/refit/jobs/" + opsJob + "*"
	jobState := "systemctl show -p ActiveState,MainPID,InvocationID " + opsJob + "; find /var/lib/refit/jobs/" + opsJob + " -type f -exec md5sum {} + 2>/dev/null | sort"
	return map[string]frozen{
		"units": {
			prepare: "printf '[Service]\\nExecStart=/bin/sleep 600\\n' > /run/systemd/system/" + opsUnit + "; systemctl daemon-reload; systemctl start " + opsUnit,
			in:      node.UnitsIn{Op: node.StopUnits, Units: []string{opsUnit}},
			watch:   "systemctl show -p ActiveState,MainPID " + opsUnit,
		},
		"job.start": {prepare: job, in: node.JobIn{Unit: opsJob, Argv: []string{"/bin/sleep", "600"}}, watch: jobState},
		"job.clear": {
			prepare: job + `; mkdir -p /var/lib/refit/jobs/` + opsJob + `; echo '{"format":1,"unit":"` + opsJob + `","state":"done"}' > /var/lib/refit/jobs/` + opsJob + `/status.json`,
			in:      node.UnitIn{Unit: opsJob}, watch: jobState,
		},
		"place.put": {prepare: "mkdir -p $HOME/releases", in: node.PutIn{Home: opsHome, Release: manifest.Release, Digest: manifest.Digest}, payload: pack, watch: opsFiles},
		"manifest.sign": {
			prepare: `mkdir -p $HOME/releases/v1.0.1/.refit; echo '` + aManifest + `' > $HOME/releases/v1.0.1/.refit/manifest.json`,
			in:      node.SignIn{Home: opsHome, Release: "v1.0.1", Digest: fmt.Sprintf("%x", sha256.Sum256([]byte(aManifest))), Signature: []byte("a signature")}, watch: opsFiles,
		},
		"bridge":   {prepare: twoReleases, in: node.BridgeIn{Home: opsHome, From: "v1.0.1", To: "v1.0.2"}, watch: opsFiles},
		"switch":   {prepare: twoReleases, in: node.SwitchIn{Home: opsHome, Release: "v1.0.2"}, watch: opsFiles},
		"prune":    {prepare: twoReleases, in: node.PruneIn{Home: opsHome, Keep: []string{"v1.0.1"}}, watch: opsFiles},
		"file.put": {prepare: "echo old > /root/ops/file", in: node.FilePutIn{Path: "/root/ops/file", Content: []byte("new"), Validate: []string{"sleep", "0.1"}}, watch: "cat /root/ops/file; " + opsFiles},
		"sweep": {
			prepare: "mkdir -p $HOME/releases; i=0; while [ $i -lt 600 ]; do echo > $HOME/releases/.refit-tmp-$i; i=$((i+1)); done",
			in:      node.SweepIn{Home: opsHome, Clear: true}, watch: opsFiles,
		},
		"permit.write":    {prepare: unsealed, in: node.PermitIn{}, watch: permits},
		"permit.withdraw": {prepare: unsealed + `; echo '{"format":1,"instance":"none"}' > /var/lib/refit/permit`, in: node.PermitIn{}, watch: permits},
		"config.apply": {
			prepare: "echo old > /root/ops/file; rm -rf /var/lib/refit/configs/frozen",
			in: node.ConfigIn{Run: "frozen", Paths: []string{"/root/ops/file"}, Files: []node.ConfigFile{{
				Path: "/root/ops/file", Content: []byte("new\n"), Owner: "root", Group: "root", Mode: 0o644,
			}}},
			watch: "cat /root/ops/file; find /var/lib/refit/configs/frozen -type f -exec md5sum {} + 2>/dev/null | sort; " + opsFiles,
		},
		"config.restore": {
			prepare: `echo new > /root/ops/file; install -d -m 700 /var/lib/refit/configs /var/lib/refit/configs/frozen; echo '{"format":1,"run":"frozen","state":"done","files":[{"path":"/root/ops/file","missing":true,"wrote":"x"}]}' > /var/lib/refit/configs/frozen/record.json`,
			in:      node.ConfigIn{Run: "frozen"},
			watch:   "find /var/lib/refit/configs/frozen -type f -exec md5sum {} + 2>/dev/null | sort; " + opsFiles,
		},
		"upstream.set": {
			host: "sulu", prepare: "cp /etc/nginx/refit/web.conf /root/ops/file",
			in:    nginx.SetIn{Files: []string{"/root/ops/file"}, Address: "10.77.0.21", Down: true},
			watch: "cat /root/ops/file; pgrep -fc 'nginx: worker process$'; systemctl show -p MainPID nginx.service",
		},
		"upstream.join": {
			host: "sulu", prepare: "cp /etc/nginx/refit/web.conf /root/ops/file",
			in:    nginx.JoinIn{Files: []string{"/root/ops/file"}, Address: "10.77.0.121", Like: "10.77.0.21"},
			watch: "cat /root/ops/file; pgrep -fc 'nginx: worker process$'; systemctl show -p MainPID nginx.service",
		},
		"upstream.leave": {
			host: "sulu", prepare: "sed 's/\\(10.77.0.21:3000[^;]*\\);/\\1 down;/' /etc/nginx/refit/web.conf > /root/ops/file",
			in:    nginx.LeaveIn{Files: []string{"/root/ops/file"}, Address: "10.77.0.21"},
			watch: "cat /root/ops/file; pgrep -fc 'nginx: worker process$'; systemctl show -p MainPID nginx.service",
		},
		"git.checkout": {prepare: "mkdir -p $HOME", in: builds.CheckoutIn{Layout: layout, Version: version, URL: repository}, watch: opsFiles},
		"build.link":   {prepare: halfBuilt, in: builds.LinkIn{Layout: layout, Version: version, Toolchain: tools}, watch: opsFiles},
		"build.yarn":   {prepare: halfBuilt, in: builds.YarnIn{Layout: layout, Version: version, Registry: npm, Yarn: "4.10.3"}, watch: opsFiles},
		"build.take":   {prepare: halfBuilt, in: builds.PartIn{Layout: layout, Version: version, Kind: builds.Assets}, watch: opsFiles},
		"build.keep":   {prepare: halfBuilt, in: builds.PartIn{Layout: layout, Version: version, Kind: builds.Assets}, watch: opsFiles},
		"build.clear":  {prepare: halfBuilt + "; mv $r/app $r/node_modules", in: builds.PartIn{Layout: layout, Version: version, Kind: builds.Packages}, watch: opsFiles},
		"build.gems":   {prepare: halfBuilt + "; touch $r/Gemfile.lock; mkdir -p /root/ops/cache/bundle", in: builds.GemsIn{Layout: layout, Version: version}, watch: opsFiles},
		"build.settle": {prepare: halfBuilt, in: builds.SettleIn{Layout: layout, Version: version}, watch: opsFiles},
		"build.log":    {prepare: "mkdir -p /root/ops/cache; echo all > /root/ops/file", in: builds.LogIn{Layout: layout, Of: "v4.5.2", Step: "gems", From: "/root/ops/file"}, watch: opsFiles},
		"build.evict":  {prepare: "mkdir -p /root/ops/cache/kept/bundle/k/tree; echo '{}' > /root/ops/cache/kept/bundle/k/entry.json; touch -d 2000-01-01 /root/ops/cache/kept/bundle/k/entry.json", in: builds.EvictIn{Layout: layout, Age: time.Hour}, watch: opsFiles},
		"build.clean":  {prepare: halfBuilt, in: builds.CleanIn{Layout: layout, Version: version}, watch: opsFiles},
		"build.finish": {prepare: halfBuilt, in: builds.FinishIn{Layout: layout, Version: version, Toolchain: tools}, watch: opsFiles},
		"build.remove": {prepare: halfBuilt, in: builds.RemoveIn{Layout: layout, Version: version}, watch: opsFiles},

		"toolchain.begin":  {prepare: "mkdir -p $HOME", in: making(t), watch: opsFiles},
		"toolchain.fetch":  {prepare: halfMade(t), in: fetching(t, repository), watch: opsFiles},
		"toolchain.unpack": {prepare: halfMade(t), in: making(t), watch: opsFiles},
		"toolchain.finish": {prepare: halfMade(t), in: making(t), watch: opsFiles},
		"toolchain.remove": {prepare: halfMade(t), in: making(t), watch: opsFiles},
	}
}

// making is a Node that is made from an archive of many files.
func making(t *testing.T) toolchain.MakeIn {
	t.Helper()
	layout := builds.Layout{Home: opsHome, User: "mastodon", Cache: "/root/ops/cache", Toolchains: "/root/ops/cache/opt"}
	sum := sha256.Sum256(nodeArchive(t))
	return toolchain.MakeIn{Layout: layout, Artifact: builds.Artifact{
		Tool: "node", Version: "24.10.0", Name: "node-24.10.0", Prefix: layout.Prefix("node-24.10.0"), OS: "debian 13", Arch: "amd64", Recipe: strings.Repeat("ab", 32),
		Archives: []builds.Archive{{File: "node.tar.gz", SHA256: hex.EncodeToString(sum[:])}},
	}}
}

// fetching is the same with an archive that is fetched: a file of a repository's, which
// its server gives out.
func fetching(t *testing.T, repository string) toolchain.MakeIn {
	t.Helper()
	in := making(t)
	sum := sha256.Sum256([]byte("ref: refs/heads/main\n"))
	in.Artifact.Archives = []builds.Archive{{File: "head.tar.gz", URL: repository + "/HEAD", SHA256: hex.EncodeToString(sum[:])}}
	return in
}

func nodeArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := range 600 {
		text := strings.Repeat(fmt.Sprint(i), 10)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("node/lib/%d", i), Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// halfMade is that Node in the middle of its making, its archive fetched.
func halfMade(t *testing.T) string {
	t.Helper()
	in := making(t)
	return `p=` + in.Artifact.Prefix + `; mkdir -p $HOME $p/.refit $p/share /root/ops/cache/archives /root/ops/cache/toolchain/node-24.10.0
echo '{"recipe":"` + in.Artifact.Recipe + `"}' > $p/.refit/unfinished
echo ` + base64.StdEncoding.EncodeToString(nodeArchive(t)) + ` | base64 -d > /root/ops/cache/archives/node.tar.gz
i=0; while [ $i -lt 600 ]; do echo $i > $p/share/$i; i=$((i+1)); done`
}

// packed is a small release and the pack of all its files.
func packed(t *testing.T) (node.Head, []byte) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "v1.0.3")
	for i := range 150 {
		p := filepath.Join(root, "app", fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, bytes.Repeat([]byte{byte(i)}, 4000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := node.Scan(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	m := node.Manifest{Format: node.ManifestFormat, Release: "v1.0.3", Commit: "c", Files: entries}
	head, err := m.Write(root)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for i, e := range m.Files {
		if e.Regular() {
			all = append(all, i)
		}
	}
	a, _ := hoststest.NewNode(t, nil)
	var pack bytes.Buffer
	if _, err := a.Pack(t.Context(), node.PackIn{Root: root, Digest: head.Digest, Indexes: all}, &pack, nil); err != nil {
		t.Fatal(err)
	}
	return head, pack.Bytes()
}

// keepersVerbs tells of each verb of the keeper whether it changes something: they
// hold no fence, the lease is theirs, and all of them change something in the same
// way, under the same lock: TestLabAFrozenVerbOfTheKeeper… tries the save.
var keepersVerbs = map[string]bool{
	"lease.acquire": true, "lease.renew": true, "lease.release": true, "lease.take": true, "shelf.save": true, "shelf.remove": true,
	"lease.show": false, "shelf.load": false, "shelf.list": false, "shelf.aside": false,
	"approval.give": true, "approval.use": true, "approval.show": false,
	"comparison.key": true,
}

// birthVerbs are asked of a machine that is not in service yet, alone. Here they would take
// from the host the keys and the name by which the lab knows it, or the fleet that it is of;
// the fence before them is the one before all others.
var birthVerbs = []string{"hostkeys.make", "hostkeys.use", "hostname.set", "env.rehearse"}

func TestEveryVerbThatChangesAHostHasACaseInWhichItIsFrozen(t *testing.T) {
	cases := frozenVerbs(t, "", "")
	all := slices.Concat(node.Verbs(), mastodon.Verbs(), nginx.Verbs(), builds.Verbs(), toolchain.Verbs())
	for _, v := range all {
		if slices.Contains(birthVerbs, v.Name) {
			continue
		}
		if _, ok := cases[v.Name]; v.Changes != ok {
			t.Errorf("%s changes the host: %v; it has a case: %v", v.Name, v.Changes, ok)
		}
	}
	for name := range cases {
		if !slices.ContainsFunc(all, func(v node.Verb) bool { return v.Name == name }) {
			t.Errorf("there is no verb %s", name)
		}
	}
	for _, v := range keeping.Verbs("") {
		if _, ok := keepersVerbs[v.Name]; !ok || v.Changes {
			t.Errorf("%s of the keeper is not known here, or holds a fence", v.Name)
		}
	}
}

// freezer freezes a verb where it is told to. The verb is held before the fence by
// the fence's own lock. From there it is stepped forward, woken and stopped again,
// until the kernel's list of locks says that it is behind the fence, and as many
// looks further as asked. A busy machine may run past that: then it is tried again,
// at last with a pipe in the fence's place, at which the verb waits with the lock.
const freezer = `
cd /root/ops; verb=$1; shift
agent=$(ls -t /var/lib/refit/bin/refit-* | head -1)
HOME=/root/ops/home
epoch=$(head -1 /var/lib/refit/fence 2>/dev/null || echo 0)
fence=/var/lib/refit/fence mode=READ lockfile=/var/lib/refit/fence.lock
raise() {
  printf '{"run":"%s","in":{"epoch":%d,"holder":"%s","wait":300000000,"kill":true}}\n' $2 $1 $2 | "$agent" node fence.raise > raised 2>&1 || { echo "RAISE $(cat raised)"; exit 1; }
}
[ $verb = shelf.save ] && . ./keepers
stopped() { # waits until the process has stopped; false if it has ended
  while :; do
    { read -r line < /proc/$p/stat; } 2>/dev/null || return 1
    case ${line##*) } in T*) return 0;; Z*|X*) return 1;; esac
  done
}
has() { # the process has the lock
  while read -r l; do case $l in *"FLOCK  ADVISORY  $mode"*" $p "*) return 0;; esac; done < /proc/locks
  return 1
}
waits() { # the process has the lock's file open
  for fd in /proc/$p/fd/*; do [ "$(readlink $fd)" = $lockfile ] && return 0; done
  return 1
}
try() {
  depth=$1
  rm -rf home cache file; mkdir -p home
  { . ./prepare; } >/dev/null 2>&1
  old=$((epoch+1)) new=$((epoch+2)); epoch=$new
  raise $old ana
  { sed "s/@EPOCH@/$old/" head; cat payload; } > req
  . ./watch > f1
  if [ $depth = control ]; then
    "$agent" node $verb < req > out 2>&1; rc=$?; where=control
  else
    exec 9>>$lockfile; flock -x 9
    "$agent" node $verb < req > out 2>&1 9>&- &
    p=$! n=0 where=over
    until waits; do kill -0 $p 2>/dev/null || break; done
    kill -STOP $p 2>/dev/null; stopped && where=before
    [ $depth = held ] && mv $fence $fence.kept && mkfifo $fence
    flock -u 9; exec 9>&-
    if [ $depth = held ]; then
      kill -CONT $p; where=over
      until has; do kill -0 $p 2>/dev/null || break; done
      kill -STOP $p; stopped && has && where=inside
      mv $fence.kept $fence
    elif [ $depth != before ]; then
      where=over
      while stopped; do
        if has; then
          if [ $n -ge $depth ]; then where=inside; break; fi
          n=$((n+1))
        fi
        kill -CONT $p; kill -STOP $p
      done
    fi
    raise $new bob
    . ./watch > f1
    kill -CONT $p 2>/dev/null
    wait $p; rc=$?
    sleep 0.2
  fi
  . ./watch > f2
  if cmp -s f1 f2; then changed=no; else changed=yes; fi
  fenced=no; grep -q '"code":"fenced"' out && fenced=yes
  echo "TRY $depth where=$where rc=$rc changed=$changed fenced=$fenced"
  if [ $changed = yes ] && [ $depth != control ]; then diff f1 f2 | head -20; cat raised; fi
  if [ $where = control ] && [ $changed = no ]; then cat out; fi
}
for d in "$@"; do
  case $d in
  control|before) try $d;;
  *)
    for again in 1 2 3 4 5 6 7 8; do try $d; [ $where = inside ] && break; done
    [ $where = inside ] || [ $mode = WRITE ] || try held;;
  esac
done
systemctl stop refit-ops.service refit-ops-job.service 2>/dev/null
rm -rf home cache file /run/systemd/system/refit-ops.service /var/lib/refit/jobs/refit-ops-job.service* /var/lib/refit/configs/frozen
case $verb in permit.*) rm -rf /var/lib/refit/permit /var/lib/refit/permit.d /etc/systemd/system/mastodon-.service.d; systemctl daemon-reload;; esac
`

var tried = regexp.MustCompile(`TRY (\S+) where=(\w+) rc=(\d+) changed=(\w+) fenced=(\w+)`)

func TestLabAFrozenVerbChangesNothingAfterTheFenceWasRaised(t *testing.T) {
	f := theFleet(t)
	config, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindSubmatch(config)
		if m == nil {
			t.Fatalf("the lab's refit.yml has no %s", pattern)
		}
		return string(m[1])
	}
	depths := []string{"control", "before", "0"}
	if os.Getenv("REFIT_FULL") != "" {
		depths = append(depths, "3", "30")
	}
	counts := map[string]int{}
	cases := frozenVerbs(t, find(`repository: (\S+)`), find(`npm: (\S+)`))
	for verb, c := range cases {
		out := f.freeze(t, verb, c, depths)
		inside := 0
		for _, m := range tried.FindAllStringSubmatch(out, -1) {
			depth, where, changed, fenced := m[1], m[2], m[4], m[5]
			counts[where]++
			switch {
			case where == "control" && changed == "no":
				t.Errorf("%s: the case changes nothing at all:\n%s", verb, out)
			case where != "control" && changed == "yes":
				t.Errorf("%s, frozen %s (depth %s): the host was changed after the fence was raised:\n%s", verb, where, depth, out)
			case where == "before" && fenced != "yes":
				t.Errorf("%s, frozen before the fence, was not refused:\n%s", verb, out)
			case where == "inside":
				inside++
			}
		}
		if n := len(tried.FindAllString(out, -1)); n < len(depths) || !strings.Contains(out, "where=before") {
			t.Errorf("%s: %d tries for %d depths:\n%s", verb, n, len(depths), out)
		}
		if inside == 0 {
			t.Errorf("%s was never frozen behind the fence:\n%s", verb, out)
		}
		t.Logf("%s:\n%s", verb, out)
	}
	t.Logf("%d verbs: frozen %d times behind the fence, %d times before it, %d had ended", len(cases), counts["inside"], counts["before"], counts["over"])
}

// freeze runs one case at each depth on its host.
func (f *fleet) freeze(t *testing.T, verb string, c frozen, depths []string) string {
	t.Helper()
	if c.host == "" {
		c.host = "uhura"
	}
	in, err := json.Marshal(c.in)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(f.Root(c.host), "root", "ops")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"head": fmt.Appendf(nil, `{"epoch":@EPOCH@,"run":"ana","in":%s}`+"\n", in), "payload": c.payload, "prepare": []byte(c.prepare + "\n"), "watch": []byte(c.watch + "\n"), "freezer": []byte(freezer), "keepers": []byte(keepers),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := f.Exec(t.Context(), c.host, append([]string{"sh", "/root/ops/freezer", verb}, depths...)...)
	if err != nil {
		t.Errorf("%s: %v", verb, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	return out
}

// keepers makes the freezer work on the lease instead of the fence: ana acquires it,
// and bob takes it from her.
const keepers = `
mode=WRITE lockfile=/var/lib/refit/keeper/lease.lock
call() { printf '{"in":%s}\n' "$2" | "$agent" node $1; }
person() { printf '{"user":"%s","host":"desk","pid":1,"token":"%s"}' $1 $1$2; }
now() { call lease.show '{}' | grep -o '"epoch":[0-9]*' | head -1 | cut -d: -f2; }
acquire() { call lease.acquire "{\"holder\":$(person $1 $2),\"run\":\"ops\",\"why\":\"ops\",\"ttl_ns\":60000000000,\"above\":0,\"dead\":$3}" > raised; }
raise() {
  e=$(now)
  if [ $2 = ana ]; then
    acquire ana $1 ${e:-0}; old=$(now)
    { printf '{"epoch":@EPOCH@,"run":"ops","in":{"id":"ops-frozen","epoch":%d,"token":"ana%d","seq":%d,"bytes":"' $old $1 $old; head -c 3000000 /dev/urandom | base64 -w0; printf '"}}\n'; } > head
  else
    call lease.take "{\"holder\":$(person bob $1),\"epoch\":$e,\"above\":0,\"repair\":false}" > taken; grep -q '"held":false' taken || echo "TAKE $(cat taken)"
    acquire bob $1 0; grep -q '"held":true' raised || echo "ACQUIRE $(cat raised)"
  fi
}
`

func TestLabAFrozenVerbOfTheKeeperKeepsNobodyFromTheLeaseAndSavesNothingLater(t *testing.T) {
	f := theFleet(t)
	t.Cleanup(func() {
		const mend = `rm -f /var/lib/refit/keeper/journal/ops-frozen*; agent=$(ls -t /var/lib/refit/bin/refit-* | head -1)
lease=$(printf '{"in":{}}\n' | "$agent" node lease.show)
printf '{"in":{"epoch":%d,"token":"%s"}}\n' $(echo "$lease" | grep -o '"epoch":[0-9]*' | head -1 | cut -d: -f2) $(echo "$lease" | grep -o '"token":"[^"]*"' | head -1 | cut -d'"' -f4) | "$agent" node lease.release`
		if out, err := f.Exec(context.Background(), "uhura", "sh", "-c", mend); err != nil {
			t.Error(out, err)
		}
	})
	depths := []string{"control", "before", "0"}
	out := f.freeze(t, "shelf.save", frozen{in: struct{}{}, watch: "find /var/lib/refit/keeper/journal -name 'ops-frozen*' -exec md5sum {} +"}, depths)
	tries := tried.FindAllStringSubmatch(out, -1)
	inside := 0
	for _, m := range tries {
		if changed := m[4] == "yes"; changed != (m[2] == "control") {
			t.Errorf("depth %s, %s: changed: %v", m[1], m[2], changed)
		}
		if m[2] == "inside" {
			inside++
		}
	}
	if len(tries) < len(depths) || inside == 0 || strings.Contains(out, "TAKE") || strings.Contains(out, "ACQUIRE") {
		t.Errorf("%d tries, %d with the lock", len(tries), inside)
	}
	t.Log(out)
}
