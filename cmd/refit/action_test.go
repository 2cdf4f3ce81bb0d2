package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const actionDir = "../../.github/actions/refit"

// step runs a script of the action as a runner does, with env, in folders of its own.
func step(t *testing.T, script string, env map[string]string, args ...string) (code int, out string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join(actionDir, script)}, args...)...)
	c.Env = []string{"PATH=/usr/bin:/bin"}
	for name, value := range env {
		c.Env = append(c.Env, name+"="+value)
	}
	b, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(b)
}

// release puts a release of a refit that is a script into a folder, and gives the SHA-256
// of its checksums.txt.
func aRelease(t *testing.T, program string) (dir, checksums string) {
	t.Helper()
	dir = t.TempDir()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "refit", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(program)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	name := "refit_1.2.3_linux_" + runtime.GOARCH + ".tar.gz"
	write(t, filepath.Join(dir, name), b.String())
	sum := sha256.Sum256(b.Bytes())
	list := fmt.Sprintf("%s  %s\n%s  other\n", hex.EncodeToString(sum[:]), name, strings.Repeat("0", 64))
	write(t, filepath.Join(dir, "checksums.txt"), list)
	whole := sha256.Sum256([]byte(list))
	return dir, hex.EncodeToString(whole[:])
}

const goodProgram = "#!/bin/sh\necho refit version v1.2.3\n"

func TestTheActionRunsNothingThatItHasNotProved(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the action is tried as a runner on Linux")
	}
	for name, test := range map[string]struct {
		change func(env map[string]string, dir string)
		says   string
	}{
		"as it should be": {func(map[string]string, string) {}, ""},
		"another archive": {func(_ map[string]string, dir string) {
			appendFile(t, dir, "refit_1.2.3_linux_"+runtime.GOARCH+".tar.gz")
		}, "is not the one that checksums.txt"},
		"other checksums":             {func(_ map[string]string, dir string) { appendFile(t, dir, "checksums.txt") }, "is not the one that was pinned"},
		"no pin from elsewhere":       {func(env map[string]string, _ string) { env["CHECKSUMS"] = "" }, "need checksums"},
		"a pin that is none":          {func(env map[string]string, _ string) { env["CHECKSUMS"] = "abc" }, "no SHA-256"},
		"another version":             {func(env map[string]string, _ string) { env["VERSION"] = "v1.2.4" }, "could not be fetched"},
		"a version that is a command": {func(env map[string]string, _ string) { env["VERSION"] = "v1.2.3\n::set-env name=x::y $(touch /tmp/x)" }, "no release's name"},
		"a repository of more":        {func(env map[string]string, _ string) { env["REPOSITORY"] = "a/b/../c" }, "not OWNER/NAME"},
		"no release there":            {func(env map[string]string, _ string) { env["FROM"] += "/none" }, "could not be fetched"},
		"by http":                     {func(env map[string]string, _ string) { env["FROM"] = "http://127.0.0.1:9" }, "could not be fetched"},
	} {
		ran := filepath.Join(t.TempDir(), "ran")
		dir, sum := aRelease(t, goodProgram+"touch "+ran+"\n")
		temp := t.TempDir()
		env := map[string]string{
			"VERSION": "v1.2.3", "REPOSITORY": "vmst/refit", "CHECKSUMS": sum, "FROM": "file://" + dir, "SERVER": "https://127.0.0.1:9",
			"RUNNER_TEMP": temp, "GITHUB_OUTPUT": filepath.Join(temp, "output"),
		}
		test.change(env, dir)
		code, out := step(t, "fetch", env)
		_, err := os.Stat(ran)
		if test.says == "" {
			b, _ := os.ReadFile(env["GITHUB_OUTPUT"])
			if code != 0 || err != nil || !regexp.MustCompile(`^program=/.*/refit\n$`).Match(b) {
				t.Errorf("%s: code %d, %v, %q\n%s", name, code, err, b, out)
			}
			continue
		}
		if code != exitRefused || !strings.Contains(out, test.says) || err == nil {
			t.Errorf("%s: code %d, ran: %v\n%s", name, code, err == nil, out)
		}
		if n := strings.Count(out, "\n::") + strings.Count(out[:2], "::"); n != 1 {
			t.Errorf("%s: %d commands to the runner\n%s", name, n, out)
		}
	}
	dir, sum := aRelease(t, "#!/bin/sh\necho refit version v9.9.9\n")
	temp := t.TempDir()
	code, out := step(t, "fetch", map[string]string{
		"VERSION": "v1.2.3", "REPOSITORY": "vmst/refit", "CHECKSUMS": sum, "FROM": "file://" + dir, "SERVER": "", "RUNNER_TEMP": temp, "GITHUB_OUTPUT": filepath.Join(temp, "output"),
	})
	if code != exitRefused || !strings.Contains(out, "another version") {
		t.Errorf("code %d\n%s", code, out)
	}
}

func appendFile(t *testing.T, dir, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), string(b)+"x\n")
}

// running is the environment that action.yml gives the script run.
func runEnv(t *testing.T, program string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "refit")
	if err := os.WriteFile(file, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"PROGRAM": file, "COMMAND": "plan", "CONFIG": "refit.yml", "TO": "", "EXPECT": "", "ACKNOWLEDGE": "", "ARGS": "", "STATE": "", "SSH_KEY": "", "SECRETS": "",
		"RUNNER_TEMP": dir, "HOME": filepath.Join(dir, "home"),
	}
}

const tellsAll = "#!/bin/bash\nfor a in \"$@\"; do echo \"[$a]\"; done\necho \"key=$(cat ~/.ssh/refit 2>/dev/null) token=$SLACK_TOKEN state=$XDG_STATE_HOME left=$SSH_KEY$SECRETS\"\nexit 6\n"

func TestInputsOfTheActionReachRefitAsArgumentsAndNoShell(t *testing.T) {
	env := runEnv(t, tellsAll)
	hostile := "$(touch " + env["RUNNER_TEMP"] + "/ran) `id` ; \"' * \\"
	env["COMMAND"], env["TO"], env["EXPECT"], env["ACKNOWLEDGE"], env["ARGS"], env["STATE"] = "upgrade", hostile, "0123", "statsd  env-x\n*", "--yes\n\n--for=1 h", "/var/lib/x"
	env["SECRETS"], env["SSH_KEY"] = "SLACK_TOKEN=a=b $(id)\n", "KEY\nLINE"
	code, out := step(t, "run", env)
	want := "[upgrade]\n[--config=refit.yml]\n[--to=" + hostile + "]\n[--expect=0123]\n[--ack=statsd]\n[--ack=env-x]\n[--ack=*]\n[--yes]\n[--for=1 h]\nkey=KEY\nLINE token=a=b $(id) state=/var/lib/x left=\n"
	if code != 6 || out != want {
		t.Errorf("code %d\n%s\nwant\n%s", code, out, want)
	}
	if _, err := os.Stat(filepath.Join(env["RUNNER_TEMP"], "ran")); err == nil {
		t.Error("an input was run")
	}
	key := filepath.Join(env["HOME"], ".ssh", "refit")
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if code, out := step(t, "run", env); code != 6 { // the job's next command brings the same key
		t.Errorf("code %d\n%s", code, out)
	}
	if code, out := step(t, "run", env, "--end"); code != 0 || out != "" {
		t.Errorf("code %d\n%s", code, out)
	}
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("the key is still there: %v", err)
	}
}

// GitHub masks the lines of REFIT_ENV whole, so a value that is printed without its name
// would stand in the log.
func TestARunnerIsToldToHideEachSecretByItself(t *testing.T) {
	env := runEnv(t, "#!/bin/bash\necho \"$SLACK_TOKEN\"\n")
	env["GITHUB_ACTIONS"], env["SECRETS"] = "true", "SLACK_TOKEN=xoxb-50%-0123456789\nLEVEL=1\n"
	if code, out := step(t, "run", env); code != 0 || out != "::add-mask::xoxb-50%25-0123456789\nxoxb-50%-0123456789\n" {
		t.Errorf("code %d\n%s", code, out)
	}
}

func TestTheActionRefusesWhatIsTheRunnersAndNeverTakesAwayAnothersKey(t *testing.T) {
	for name, change := range map[string]func(map[string]string){
		"a command that is none": func(env map[string]string) { env["COMMAND"] = "node" },
		"commands":               func(env map[string]string) { env["COMMAND"] = "plan; id" },
		"a path":                 func(env map[string]string) { env["SECRETS"] = "PATH=/tmp" },
		"a library":              func(env map[string]string) { env["SECRETS"] = "A=b\nLD_PRELOAD=/tmp/x.so" },
		"the script's own name":  func(env map[string]string) { env["SECRETS"] = "COMMAND=node" },
		"a line that is none":    func(env map[string]string) { env["SECRETS"] = "hunter2-is-my-password" },
	} {
		env := runEnv(t, tellsAll)
		change(env)
		if code, out := step(t, "run", env); code != exitUsage || !strings.HasPrefix(out, "::error title=refit was not run::") || strings.Contains(out, "hunter2") {
			t.Errorf("%s: code %d\n%s", name, code, out)
		}
	}
	env := runEnv(t, tellsAll)
	key := filepath.Join(env["HOME"], ".ssh", "refit")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, key, "theirs")
	env["SSH_KEY"] = "ours"
	if code, out := step(t, "run", env); code != exitUsage || !strings.Contains(out, "leave one of them out") {
		t.Errorf("code %d\n%s", code, out)
	}
	if code, _ := step(t, "run", env, "--end"); code != 0 {
		t.Errorf("code %d", code)
	}
	if b, err := os.ReadFile(key); err != nil || string(b) != "theirs" {
		t.Errorf("%v, %q", err, b)
	}
}

var pinned = regexp.MustCompile(`^(\./\.refit-action/\.github/actions/refit|[A-Za-z0-9-]+/[A-Za-z0-9._/-]+@[0-9a-f]{40})$`)

// Each uses, each run and each permission of the workflows, the action and the callers.
func TestWorkflowsPinWhatTheyUseAndNothingIsWrittenIntoAScript(t *testing.T) {
	seen := 0
	for _, pattern := range []string{"../../.github/workflows/*.yml", actionDir + "/action.yml", "callers/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var page map[string]any
			if err := yaml.Unmarshal(b, &page); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if top, ok := page["permissions"].(map[string]any); page["jobs"] != nil && (!ok || len(top) > 0) {
				t.Errorf("%s: permissions of the whole workflow: %v", file, page["permissions"])
			}
			for _, fault := range workflowFaults(page) {
				t.Errorf("%s: %s", file, fault)
			}
			seen += strings.Count(string(b), "uses: ")
		}
	}
	if seen < 15 {
		t.Errorf("%d uses were seen: the check saw too little", seen)
	}
	for name, text := range map[string]string{
		"a tag": "jobs: {a: {steps: [{uses: actions/checkout@v4}]}}", "an input in a script": "steps: [{run: 'echo ${{ inputs.to }}'}]",
		"a cancelled run": "jobs: {a: {concurrency: {group: x, cancel-in-progress: true}}}", "a kept token": "steps: [{uses: 'actions/checkout@" + trial[11:] + "'}]",
	} {
		var page map[string]any
		if err := yaml.Unmarshal([]byte(text), &page); err != nil || len(workflowFaults(page)) == 0 {
			t.Errorf("%s is not noticed (%v)", name, err)
		}
	}
}

func workflowFaults(v any) []string {
	var out []string
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			out = append(out, workflowFaults(one)...)
		}
	case map[string]any:
		if uses, ok := v["uses"].(string); ok {
			if !pinned.MatchString(uses) {
				out = append(out, uses+" is not pinned by its commit")
			}
			with, _ := v["with"].(map[string]any)
			if strings.HasPrefix(uses, "actions/checkout@") && with["persist-credentials"] != false {
				out = append(out, uses+" leaves its token behind")
			}
		}
		if script, ok := v["run"].(string); ok && strings.Contains(script, "${{") {
			out = append(out, "a script is written by an expression: "+script)
		}
		// Of CI alone an older push's run may be cancelled for a newer one's.
		if c, ok := v["concurrency"].(map[string]any); ok && c["cancel-in-progress"] != false && c["group"] != "ci-${{ github.ref }}" {
			out = append(out, fmt.Sprintf("a run at work may be cancelled: %v", c))
		}
		for key, one := range v {
			if key != "outputs" { // one of which may be named "run"
				out = append(out, workflowFaults(one)...)
			}
		}
	}
	return out
}
