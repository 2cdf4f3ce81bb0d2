package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// asRefit makes the test's own binary be refit.
const asRefit = "REFIT_TEST_IS_REFIT"

func TestMain(m *testing.M) {
	if os.Getenv(asRefit) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command runs one command line in process.
func command(ctx context.Context, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(ctx, append([]string{"refit"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestACommandLineThatIsWrongEndsWithItsCodeAndAHint(t *testing.T) {
	for line, test := range map[string]struct {
		code int
		says string
	}{
		"--help":                              {exitDone, "EXIT STATUS"},
		"":                                    {exitDone, "EXIT STATUS"},
		"--version":                           {exitDone, "dev"},
		"upgrade --help":                      {exitDone, "EXIT STATUS"},
		"upgarde":                             {exitUsage, `no command "upgarde"`},
		"--nonsense":                          {exitUsage, "nonsense"},
		"upgrade --nonsense":                  {exitUsage, "nonsense"},
		"upgrade v4.6.5 --dry-run":            {exitUsage, `"v4.6.5"`},
		"upgrade --to v4.6.5 now":             {exitUsage, `"now"`},
		"status kirk":                         {exitUsage, `"kirk"`},
		"upgrade":                             {exitUsage, "needs --to"},
		"plan":                                {exitUsage, "needs --to"},
		"build":                               {exitUsage, "needs --to"},
		"place":                               {exitUsage, "needs --to"},
		"upgrade --to v4.5.15 -c /nowhere":    {exitUsage, "refit example"},
		"status -c /nowhere":                  {exitUsage, "/nowhere"},
		"rollback --yes --config /nowhere":    {exitUsage, "/nowhere"},
		"node no.such.verb":                   {exitFailed, "cannot read the request"},
		"example":                             {exitDone, "fleet: vmst.io"},
		"example --sudoers":                   {exitDone, "\nrefit ALL=(root) NOPASSWD: /var/lib/refit/bin/refit-"},
		"example --sudoers --user ops":        {exitDone, "\nops ALL=(root) NOPASSWD: /var/lib/refit/bin/refit-"},
		"example --sudoers --user ALL":        {exitUsage, "--user"},
		"example --sudoers --user root":       {exitUsage, "root needs no sudoers"},
		"upgrade --to v4.5.15 --json --yes=7": {exitUsage, "yes"},
	} {
		code, out, errs := command(t.Context(), strings.Fields(line)...)
		if code != test.code || !strings.Contains(out+errs, test.says) {
			t.Errorf("refit %s: code %d, want %d and %q in:\n%s%s", line, code, test.code, test.says, out, errs)
		}
		if code != exitDone && !strings.HasPrefix(line, "node") && out != "" && !json.Valid([]byte(out)) {
			t.Errorf("refit %s: an error on standard output:\n%s", line, out)
		}
	}
}

func TestEveryCommandNamesTheExitCodes(t *testing.T) {
	for _, c := range newApp(streams{}).Commands {
		code, out, _ := command(t.Context(), c.Name, "--help")
		if code != exitDone || !strings.Contains(out, exitTable[len(exitTable)-1].meaning) || c.Usage == "" {
			t.Errorf("%s: code %d\n%s", c.Name, code, out)
		}
	}
}

func TestTheExampleIsPrintedAsItIsTested(t *testing.T) {
	code, out, errs := command(t.Context(), "example")
	if code != exitDone || out != string(exampleYML) || errs != "" {
		t.Errorf("code %d, %d bytes of %d, %q", code, len(out), len(exampleYML), errs)
	}
}

// The best of some starts, by the processor's time that they took: a machine that
// is busy is slow, not refit.
func TestHelpComesWithinATenthOfASecond(t *testing.T) {
	best := time.Hour
	for range 10 {
		c := exec.CommandContext(t.Context(), os.Args[0], "--help")
		c.Env = append(os.Environ(), asRefit+"=1", "GORACE=atexit_sleep_ms=0")
		out, err := c.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("EXIT STATUS")) {
			t.Fatalf("%v\n%s", err, out)
		}
		best = min(best, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
	}
	if best > 100*time.Millisecond {
		t.Errorf("--help takes %s", best)
	}
}

func TestWithJSONARefusalIsJSONToo(t *testing.T) {
	for _, line := range []string{
		"upgrade --to v4.5.15 --json -c /nowhere", "plan --json -c /nowhere --to v4.5.15", "place --json --to v4.5.15 -c /nowhere",
		"build --json --to v4.5.15 -c /nowhere", "resume --json -c /nowhere", "rollback --json -c /nowhere", "unlock --json -c /nowhere",
		"seal --json -c /nowhere", "status --json -c /nowhere", "verify --json -c /nowhere", "doctor --json -c /nowhere", "upgrade --json",
	} {
		code, out, errs := command(t.Context(), strings.Fields(line)...)
		var r refusalJSON
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Errorf("refit %s: %v\n%s", line, err, out)
			continue
		}
		name, _, _ := strings.Cut(line, " ")
		if r.Schema != "refit.refusal/v1" || r.Command != name || r.Exit != code || code != exitUsage || len(r.Refused) != 1 || !strings.Contains(errs, r.Refused[0]) {
			t.Errorf("refit %s: code %d, %+v\n%s", line, code, r, errs)
		}
	}
}

func TestARefusedPlanIsAListInJSONAndDataIsNotFollowedByMore(t *testing.T) {
	try := func(action func(streams) error) (string, error) {
		var out bytes.Buffer
		s := streams{out: &counted{Writer: &out}, err: &out}
		app := &cli.App{
			Flags: []cli.Flag{jsonFlag()}, Writer: &out, ExitErrHandler: func(*cli.Context, error) {},
			Action: s.refusing(func(*cli.Context) error { return action(s) }),
		}
		err := app.RunContext(t.Context(), []string{"refit", "--json"})
		return out.String(), err
	}
	out, err := try(func(streams) error { return (&planned{refused: []string{"kirk is down", "no space"}}).refusal() })
	var r refusalJSON
	if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || exitCode(err) != exitRefused || len(r.Refused) != 2 || r.Refused[1] != "no space" {
		t.Errorf("code %d, %v\n%s", exitCode(err), jerr, out)
	}
	out, err = try(func(s streams) error {
		if err := printJSON(s.out, map[string]any{"schema": "x"}); err != nil {
			return err
		}
		return refuse("no")
	})
	if exitCode(err) != exitRefused || !json.Valid([]byte(out)) || strings.Contains(out, "refusal") {
		t.Errorf("code %d\n%s", exitCode(err), out)
	}
	if out, err = try(func(s streams) error { return s.nothingToResume(true) }); err != nil || !json.Valid([]byte(out)) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = try(func(s streams) error {
		return unlocked{Schema: "refit.unlock/v1", Did: "nothing: the lease is free"}.print(s.out, true)
	}); err != nil || !json.Valid([]byte(out)) {
		t.Errorf("%v\n%s", err, out)
	}
}

// silentFleet is a configuration whose hosts take connections and answer nothing,
// and a channel of those that were made.
func silentFleet(t *testing.T) (file string, connected <-chan struct{}) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan struct{}, 100)
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			made <- struct{}{}
		}
	}()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("XDG_CACHE_HOME", dir)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(exampleYML)
	for _, r := range [][2]string{
		{"10.10.0.", "127.0.0."},
		{"port: 22", fmt.Sprintf("port: %d", l.Addr().(*net.TCPAddr).Port)},
		{"~/.ssh/refit", "./key"},
		{"connect: 10s", "connect: 60s"},
		{"silence: 20s", "silence: 60s"},
		{"https://github.com/mastodon/mastodon.git", "file://" + dir + "/none.git"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	for name, content := range map[string][]byte{
		"key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "known_hosts": nil, "refit.yml": []byte(text),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "refit.yml"), made
}

func TestACtrlCDuringTheLookEndsTheCommandSoon(t *testing.T) {
	for _, line := range []string{"upgrade --to v4.5.15", "resume", "rollback", "unlock"} {
		t.Run(line, func(t *testing.T) {
			file, connected := silentFleet(t)
			type ended struct {
				code      int
				out, errs string
			}
			end := make(chan ended, 1)
			go func() {
				var e ended
				e.code, e.out, e.errs = command(t.Context(), append(strings.Fields(line), "--json", "--config", file)...)
				end <- e
			}()
			select {
			case <-connected:
			case e := <-end:
				t.Fatalf("ended before it asked a host: %+v", e)
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			asked := time.Now()
			e := <-end
			if e.code != exitInterrupted || !strings.Contains(e.errs, "nothing was touched") || !strings.Contains(e.out, `"exit": 130`) {
				t.Errorf("%+v", e)
			}
			if took := time.Since(asked); took > 20*time.Second {
				t.Errorf("after %s", took)
			}
		})
	}
}

// firstLine calls seen once, when the first line is written.
type firstLine struct {
	bytes.Buffer
	seen func(string)
	once sync.Once
}

func (f *firstLine) Write(b []byte) (int, error) {
	f.once.Do(func() { f.seen(string(b)) })
	return f.Buffer.Write(b)
}

func TestTheFirstLineComesBeforeAnyHostIsAsked(t *testing.T) {
	for _, line := range []string{"status", "verify", "doctor", "plan --to v4.5.15", "upgrade --to v4.5.15", "resume", "rollback", "unlock", "seal"} {
		file, connected := silentFleet(t)
		ctx, cancel := context.WithCancel(t.Context())
		var first string
		w := &firstLine{seen: func(text string) {
			first = text
			if len(connected) > 0 {
				t.Errorf("refit %s: a host was asked before the first line", line)
			}
			cancel()
		}}
		run(ctx, append(append([]string{"refit"}, strings.Fields(line)...), "--config", file), strings.NewReader(""), &bytes.Buffer{}, w)
		if !strings.HasPrefix(first, "refit "+line+": vmst.io, 7 hosts") {
			t.Errorf("refit %s: the first line is %q", line, first)
		}
	}
}
