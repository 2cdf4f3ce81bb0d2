package git_test

import (
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmst.io/refit/hosts/git"
)

// origin is a bare repository that takes pushes, by the git program.
type origin struct {
	t   *testing.T
	dir string
	// between, if set, is called once between what a push is shown and what it sends.
	between atomic.Pointer[func()]
	// lose drops the answers to so many pushes, after the server took them; deny
	// drops so many before.
	lose, deny atomic.Int32
	// token is what http asks for, if set.
	token string
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	o := &origin{t: t, dir: filepath.Join(t.TempDir(), "config.git")}
	o.run("", "init", "-q", "--bare", "-b", "main", o.dir)
	o.git("config", "http.receivepack", "true")
	return o
}

func (o *origin) run(stdin string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(o.dir), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=p", "GIT_AUTHOR_EMAIL=p@example.org", "GIT_COMMITTER_NAME=p", "GIT_COMMITTER_EMAIL=p@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (o *origin) git(args ...string) string {
	o.t.Helper()
	return o.run("", append([]string{"-C", o.dir}, args...)...)
}

// person commits one file to a branch at the server itself, as somebody's push would.
func (o *origin) person(branch, name, content string) string {
	o.t.Helper()
	var parent []string
	index := filepath.Join(o.t.TempDir(), "index")
	git := func(stdin string, args ...string) string {
		o.t.Helper()
		return o.run(stdin, append([]string{"-C", o.dir, "--git-dir=" + o.dir}, args...)...)
	}
	o.t.Setenv("GIT_INDEX_FILE", index)
	if head, err := exec.Command("git", "-C", o.dir, "rev-parse", "-q", "--verify", branch).Output(); err == nil {
		git("", "read-tree", branch)
		parent = []string{"-p", strings.TrimSpace(string(head))}
	}
	blob := git(content, "hash-object", "-w", "--stdin")
	git("", "update-index", "--add", "--cacheinfo", "100644,"+blob+","+name)
	commit := git("", append([]string{"commit-tree", git("", "write-tree"), "-m", "by hand"}, parent...)...)
	git("", "update-ref", "refs/heads/"+branch, commit)
	return commit
}

func (o *origin) head() string { return o.git("rev-parse", "main") }

// serve answers smart http, with the faults that were asked for.
func (o *origin) serve() string {
	o.t.Helper()
	exe, err := exec.LookPath("git")
	if err != nil {
		o.t.Fatal(err)
	}
	backend := &cgi.Handler{Path: exe, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.dir), "GIT_HTTP_EXPORT_ALL=1"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); o.token != "" && password != o.token {
			w.Header().Set("WWW-Authenticate", `Basic realm="config"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
			if f := o.between.Swap(nil); f != nil {
				(*f)()
			}
			if o.deny.Add(-1) >= 0 {
				panic(http.ErrAbortHandler)
			}
			if o.lose.Add(-1) >= 0 {
				backend.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		}
		backend.ServeHTTP(w, r)
	}))
	o.t.Cleanup(srv.Close)
	return srv.URL + "/config.git"
}

func moment() time.Time { return time.Date(2026, 11, 24, 3, 4, 5, 6, time.UTC) }

func clone(t *testing.T, url string, change ...func(*git.ConfigOptions)) *git.Config {
	t.Helper()
	opts := git.ConfigOptions{
		URL: url, Branch: "main", Dir: filepath.Join(t.TempDir(), "cache"), Now: moment,
		Author: git.Person{Name: "refit", Email: "refit@example.org"},
	}
	for _, f := range change {
		f(&opts)
	}
	c, err := git.OpenConfig(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// commit makes and returns a commit on base.
func commit(t *testing.T, c *git.Config, base, name, content string) string {
	t.Helper()
	hash, err := c.Commit(t.Context(), base, map[string][]byte{name: []byte(content)}, "refit: "+name)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func fetch(t *testing.T, c *git.Config) string {
	t.Helper()
	head, err := c.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func read(t *testing.T, c *git.Config, at, name string) string {
	t.Helper()
	tree, err := c.FS(at)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ways are how the tests reach a repository on this machine.
func ways(t *testing.T, do func(t *testing.T, o *origin, url string)) {
	t.Run("by file", func(t *testing.T) { o := newOrigin(t); do(t, o, o.dir) })
	t.Run("by http", func(t *testing.T) { o := newOrigin(t); do(t, o, o.serve()) })
}
