package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// runner runs a config repository's workflows as a runner of GitHub's would, by nektos/act
// on this machine itself. What it has not: reviewers of an environment (here the apply job
// waits for a file, as it would for them), concurrency groups, attestations, caches.
type runner struct {
	f        *fleet
	act      string
	caller   string   // the config repository
	maps     []string // act's names for what comes from GitHub
	approved string   // the file that the apply job waits for
	own      func()   // lets hosts allow the lab's own refit again
}

// pinnedCheckout is actions/checkout as the workflows name it.
var pinnedCheckout = regexp.MustCompile(`actions/checkout@[0-9a-f]{40}`)

// onRunner makes a config repository whose workflows `refit init --github` wrote, and a
// release of this very refit that they fetch.
func (f *fleet) onRunner(t *testing.T) *runner {
	t.Helper()
	act := os.Getenv("REFIT_ACT")
	if act == "" {
		t.Skip("REFIT_ACT names no program: make test-actions gives it")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const version = "v0.9.0"
	dir := t.TempDir()
	r := &runner{f: f, act: act, caller: filepath.Join(dir, "caller"), approved: filepath.Join(dir, "approved")}
	command := func(in string, name string, args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), name, args...)
		c.Dir, c.Env = in, append(os.Environ(), "CGO_ENABLED=0")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	put := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The release: an archive and its checksums, as goreleaser names them.
	release := filepath.Join(dir, "release")
	archive := "refit_" + version[1:] + "_linux_" + runtime.GOARCH + ".tar.gz"
	command(repository, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", filepath.Join(release, "refit"), "./cmd/refit")
	command(release, "tar", "-czf", archive, "refit")
	b, err := os.ReadFile(filepath.Join(release, archive))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	list := hex.EncodeToString(sum[:]) + "  " + archive + "\n"
	put(filepath.Join(release, "checksums.txt"), list)
	sums := sha256.Sum256([]byte(list))

	// Hosts allow this very program, and the lab's own again afterwards.
	if err := trust(t.Context(), f.Lab, filepath.Join(release, "refit")); err != nil {
		t.Fatal(err)
	}
	r.own = func() {
		t.Helper()
		_, own, err := programs("../../bin/refit")
		if err == nil {
			err = trust(context.Background(), f.Lab, own)
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.own)

	// The checkout of refit's own repository, from this one. In the apply job it stands
	// for the reviewers too.
	checkout := filepath.Join(dir, "checkout")
	put(filepath.Join(checkout, "action.yml"), fmt.Sprintf(`name: checkout
description: what actions/checkout does for another repository than the caller's
inputs: {repository: {default: ""}, ref: {default: ""}, path: {default: ""}, sparse-checkout: {default: ""}, persist-credentials: {default: ""}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {REPOSITORY: "${{ inputs.repository }}", AT: "${{ inputs.path }}"}
      run: |
        [[ -n $REPOSITORY ]] || exit 0
        mkdir -p "$AT" && cp -a %q "$AT/"
        [[ $GITHUB_JOB != apply ]] || until [[ -e %q ]]; do echo "waiting for reviewers"; sleep 1; done
`, filepath.Join(repository, ".github"), r.approved))
	commit := command(repository, "git", "rev-parse", "HEAD")
	workflow, err := os.ReadFile(filepath.Join(repository, ".github/workflows/upgrade.yml"))
	if err != nil {
		t.Fatal(err)
	}
	r.maps = []string{"--local-repository", "vmst/refit@" + commit + "=" + repository, "--local-repository", pinnedCheckout.FindString(string(workflow)) + "=" + checkout}

	command(dir, "git", "init", "-q", "-b", "main", r.caller)
	command(r.caller, filepath.Join(release, "refit"), "init", "--github", "--refit", "vmst/refit@"+commit, "--release", version)
	file := filepath.Join(r.caller, ".github/workflows/upgrade.yml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^ *# checksums:[^\n]*\n *# runner:[^\n]*\n *# state:[^\n]*\n`)
	if !lines.Match(text) {
		t.Fatalf("the caller has no place for checksums, runner and state:\n%s", text)
	}
	put(file, lines.ReplaceAllString(string(text), fmt.Sprintf("      checksums: %s\n      from: file://%s\n      runner: '\"ubuntu-latest\"'\n      state: %s\n", hex.EncodeToString(sums[:]), release, filepath.Join(dir, "state"))))
	config, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(r.caller, "refit.yml"), string(config))
	r.commit(t)
	return r
}

func (r *runner) commit(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"add", "-A"}, {"-c", "user.name=a person", "-c", "user.email=person@lab.vmst.test", "commit", "-qm", "the fleet"}} {
		c := exec.CommandContext(t.Context(), "git", args...)
		c.Dir = r.caller
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// output is what a runner prints, while it prints it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// dispatch starts the workflow. The function waits for its end and tells whether it went well.
func (r *runner) dispatch(t *testing.T, inputs ...string) (out *output, job *exec.Cmd, wait func() bool) {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"workflow_dispatch", "-W", ".github/workflows/upgrade.yml", "-P", "ubuntu-latest=-self-hosted", "--use-new-action-cache", "--no-cache-server"}, r.maps...)
	for _, in := range inputs {
		args = append(args, "--input", in)
	}
	out = &output{}
	c := refitUnder(context.WithoutCancel(t.Context()), r.f.Lab, self, r.act, args...)
	c.Dir, c.Stdout, c.Stderr = r.caller, out, out
	c.Env = append(c.Env, "XDG_CACHE_HOME="+filepath.Join(filepath.Dir(r.caller), "act"))
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return out, c, func() bool {
		err := c.Wait()
		r.f.said.add(inputs, out.String(), "")
		t.Logf("act %v: %v after %.0f s", inputs, err, time.Since(began).Seconds())
		return err == nil
	}
}

// sees waits until the runner has printed the words.
func (o *output) sees(t *testing.T, words string) {
	t.Helper()
	for until := time.Now().Add(5 * time.Minute); !strings.Contains(o.String(), words); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the runner never said %q:\n%s", words, o)
		}
	}
}

func (o *output) says(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(o.String(), w) {
			t.Errorf("the runner does not say %q", w)
		}
	}
	if t.Failed() {
		t.Fatal(o.String())
	}
}

// TestLabTheWorkflowsUpgradeByExactlyThePlanThatWasApproved dispatches the workflows of a config
// repository: plan, approval, apply; a plan that changed meanwhile; a job that is cancelled.
func TestLabTheWorkflowsUpgradeByExactlyThePlanThatWasApproved(t *testing.T) {
	if os.Getenv("REFIT_ACT") == "" {
		t.Skip("REFIT_ACT names no program: make test-actions gives it")
	}
	f := on(t, "v4.5.1")
	r := f.onRunner(t)
	before := f.fingerprint(t)
	approve := func(yes bool) {
		t.Helper()
		var err error
		if yes {
			err = os.WriteFile(r.approved, nil, 0o644)
		} else if err = os.Remove(r.approved); os.IsNotExist(err) {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a plan that changed before it was approved", func(t *testing.T) {
		config := filepath.Join(r.caller, "refit.yml")
		was, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		out, _, wait := r.dispatch(t, "do=upgrade", "to=v4.5.2")
		out.sees(t, "| waiting for reviewers")
		out.says(t, "Summary - ", "outcome=planned")
		f.same(t, before)
		// act's second job has the folder of the first: changed is what it reads there.
		for _, at := range jobFolders(t, r) {
			if err := os.WriteFile(at, append(bytes.Clone(was), "\nkeep: 3\n"...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		approve(true)
		if wait() {
			t.Error("it went well")
		}
		out.says(t, "exit=3", "::error title=", "outcome=refused")
		f.same(t, before)
		approve(false)
	})
	if t.Failed() {
		return
	}

	t.Run("the plan that was approved, cancelled in the middle, then resumed", func(t *testing.T) {
		f.underLoad(t, func() {
			out, job, wait := r.dispatch(t, "do=upgrade", "to=v4.5.2")
			out.sees(t, "| waiting for reviewers")
			f.same(t, before)
			approve(true)
			out.sees(t, "roll web kirk: kirk is out of rotation")
			if err := job.Process.Signal(os.Interrupt); err != nil { // as a person who cancels the job
				t.Fatal(err)
			}
			wait()

			out, _, wait = r.dispatch(t, "do=upgrade", "to=v4.5.2")
			if wait() {
				t.Error("another run was begun beside the one that was left")
			}
			out.says(t, "half-way=true", "a run was left half way", "refit resume")

			out, _, wait = r.dispatch(t, "do=resume")
			if !wait() {
				t.Error("it was not resumed")
			}
			out.says(t, "outcome=done", "DONE: upgrade v4.5.1 → v4.5.2")
		})
	})
	r.own()
	f.runsEverywhere(t, "v4.5.2")
}

// jobFolders are the copies of refit.yml that jobs at work read.
func jobFolders(t *testing.T, r *runner) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(r.caller), "act", "act", "*", "hostexecutor", "refit.yml"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no folder of a job: %v", err)
	}
	return all
}
