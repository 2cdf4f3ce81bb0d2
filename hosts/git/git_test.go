package git_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/git"
)

func paths(files []git.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func TestACheckoutHasTheTagsTreeHash(t *testing.T) {
	u := awkward(t)
	for name, url := range map[string]string{"http": u.serve(), "file": "file://" + u.dir} {
		t.Run(name, func(t *testing.T) {
			m := open(t, git.Options{URL: url})
			tag, err := m.Tag(t.Context(), "v4.5.14")
			if err != nil {
				t.Fatal(err)
			}
			want := git.Tag{
				Name: "v4.5.14", Object: u.git("rev-parse", "v4.5.14"),
				Commit: u.git("rev-parse", "v4.5.14^{commit}"), Tree: u.git("rev-parse", "v4.5.14^{tree}"), Time: tag.Time,
			}
			if diff := cmp.Diff(want, tag); diff != "" {
				t.Fatal(diff)
			}
			dir := t.TempDir()
			files, err := m.Checkout(t.Context(), tag, dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := git.TreeHash(t.Context(), dir, paths(files))
			if err != nil || got != tag.Tree {
				t.Fatalf("tree hash of the files is %s (%v), the tag's is %s", got, err, tag.Tree)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "crlf.txt")); err != nil || string(b) != "kept\nas it is\n" {
				t.Errorf("crlf.txt is %q (%v): line ends must not be converted", b, err)
			}
			if to, err := os.Readlink(filepath.Join(dir, "public/sw.js")); err != nil || to != "packs/sw.js" {
				t.Errorf("public/sw.js leads to %q (%v)", to, err)
			}
			if info, err := os.Stat(filepath.Join(dir, "bin/tootctl")); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("bin/tootctl: %v %v", info, err)
			}
		})
	}
}

func TestEveryKindOfTamperingChangesTheTreeHashAndIsNamed(t *testing.T) {
	u := awkward(t)
	m := open(t, git.Options{URL: "file://" + u.dir})
	tag, err := m.Tag(t.Context(), "v4.5.14")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tamper func(dir string) error
		want   []git.Difference
	}{
		"one byte":   {func(d string) error { return os.WriteFile(filepath.Join(d, "a/b"), []byte("in a Directory\n"), 0o644) }, []git.Difference{{Path: "a/b", What: "content"}}},
		"executable": {func(d string) error { return os.Chmod(filepath.Join(d, "a0"), 0o755) }, []git.Difference{{Path: "a0", What: "mode"}}},
		"removed":    {func(d string) error { return os.Remove(filepath.Join(d, "empty")) }, []git.Difference{{Path: "empty", What: "missing"}}},
		"link for file": {func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "a0")), os.Symlink("a/b", filepath.Join(d, "a0")))
		}, []git.Difference{{Path: "a0", What: "type"}}},
		"link for directory": {func(d string) error {
			return errors.Join(os.Rename(filepath.Join(d, "a"), filepath.Join(d, "hidden")), os.Symlink("hidden", filepath.Join(d, "a")))
		}, []git.Difference{{Path: "a/b", What: "missing"}}},
		"link's target": {func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "public/sw.js")), os.Symlink("packs/other.js", filepath.Join(d, "public/sw.js")))
		}, []git.Difference{{Path: "public/sw.js", What: "content"}}},
		"untracked only": {func(d string) error { return os.WriteFile(filepath.Join(d, "vendor"), nil, 0o644) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files, err := m.Checkout(t.Context(), tag, dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.tamper(dir); err != nil {
				t.Fatal(err)
			}
			tree, got, err := git.Compare(t.Context(), dir, files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (tree == tag.Tree) != (c.want == nil) {
				t.Errorf("Compare computed tree hash %s, the tag's is %s", tree, tag.Tree)
			}
			hash, err := git.TreeHash(t.Context(), dir, paths(files))
			if same := err == nil && hash == tag.Tree; same != (c.want == nil) {
				t.Errorf("tree hash %s (%v), the tag's is %s", hash, err, tag.Tree)
			}
		})
	}
}

func TestAnUnknownTagNamesTheNearest(t *testing.T) {
	u := awkward(t)
	for _, name := range []string{"v4.5.15", "v4.6.0", "v3.0.0", "v4.5.1", "v4.5.13", "v4.5.0"} {
		u.git("tag", name)
	}
	_, err := open(t, git.Options{URL: u.serve()}).Tag(t.Context(), "v4.5.16")
	var no *git.NoTagError
	if !errors.Is(err, git.ErrNoTag) || !errors.As(err, &no) {
		t.Fatalf("got %v", err)
	}
	if len(no.Nearest) != 5 || no.Nearest[0] != "v4.5.15" || slices.Contains(no.Nearest, "v3.0.0") {
		t.Errorf("nearest: %v", no.Nearest)
	}
}

func TestATagThatMovedIsAnErrorAndNotAnUpdate(t *testing.T) {
	u := awkward(t)
	m := open(t, git.Options{URL: u.serve()})
	first, err := m.Tag(t.Context(), "v4.5.14")
	if err != nil {
		t.Fatal(err)
	}
	u.write("a/b", "other\n", 0o644)
	u.git("tag", "-d", "v4.5.14")
	u.tag("v4.5.14")
	if _, err := m.Tag(t.Context(), "v4.5.14"); !errors.Is(err, git.ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if known, err := m.Known("v4.5.14"); err != nil || known != first {
		t.Errorf("the cache says %v (%v), not %v", known, err, first)
	}
}

func TestASecondTagIsFetchedBesideTheFirstAndCompared(t *testing.T) {
	u := awkward(t)
	u.write("a/b", "changed\n", 0o644)
	u.write("new", "new\n", 0o644)
	u.git("rm", "-q", "empty")
	u.tag("v4.5.15")
	dir := filepath.Join(t.TempDir(), "cache")
	m := open(t, git.Options{URL: u.serve(), Dir: dir})
	from, err := m.Tag(t.Context(), "v4.5.14")
	if err != nil {
		t.Fatal(err)
	}
	m = open(t, git.Options{URL: u.serve(), Dir: dir}) // as the next process would
	to, err := m.Tag(t.Context(), "v4.5.15")
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Diff(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]git.Change{{Path: "a/b", Kind: "changed"}, {Path: "empty", Kind: "removed"}, {Path: "new", Kind: "added"}}, got); diff != "" {
		t.Error(diff)
	}
	if b, err := m.Read(to, "a/b"); err != nil || string(b) != "changed\n" {
		t.Errorf("a/b is %q (%v)", b, err)
	}
	for _, p := range []string{"empty", "a", "a/b/c", "nowhere/f"} {
		if _, err := m.Read(to, p); !errors.Is(err, git.ErrNoFile) {
			t.Errorf("reading %s gave %v", p, err)
		}
	}
}

func TestTheLongestRewriteWinsAndTheMirrorIsAsked(t *testing.T) {
	u := awkward(t)
	rewrites := []git.Rewrite{
		{From: "https://github.com/", To: "http://127.0.0.1:1/wrong/"},
		{From: "https://github.com/mastodon/mastodon", To: "file://" + u.dir},
		{From: "https://github.com/mastodon/", To: "http://127.0.0.1:1/wrong/"},
	}
	if _, err := open(t, git.Options{URL: "https://github.com/mastodon/mastodon.git", InsteadOf: append(rewrites, git.Rewrite{From: "https://github.com/mastodon/mastodon.git", To: u.dir})}).Tag(t.Context(), "v4.5.14"); err != nil {
		t.Fatal(err)
	}
	if got := git.Apply(rewrites, "ssh://elsewhere/x"); got != "ssh://elsewhere/x" {
		t.Errorf("a URL that no rewrite fits became %s", got)
	}
}

func TestAServerThatFallsSilentEndsTheFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	m := open(t, git.Options{URL: "http://" + l.Addr().String() + "/x.git", Silence: 100 * time.Millisecond})
	_, err = m.Tag(t.Context(), "v4.5.14")
	if !errors.Is(err, git.ErrUnreachable) || !strings.Contains(err.Error(), "nothing came for 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestACancelledFetchSaysSo(t *testing.T) {
	u := awkward(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped by the operator"))
	_, err := open(t, git.Options{URL: u.serve()}).Tag(ctx, "v4.5.14")
	if err == nil || !strings.Contains(err.Error(), "stopped by the operator") {
		t.Errorf("got %v", err)
	}
}

func TestAFetchWaitsForAnotherOneOnlyAsLongAsItMay(t *testing.T) {
	u := awkward(t)
	dir := filepath.Join(t.TempDir(), "cache")
	m := open(t, git.Options{URL: u.dir, Dir: dir})
	other, err := os.Create(filepath.Join(dir, "refit.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// A busy machine may not come to the lock within a short time: then it gets more.
	for within := 300 * time.Millisecond; ; within *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		_, err := m.Tag(ctx, "v4.5.14")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || within > time.Minute {
			t.Fatalf("with %s: got %v", within, err)
		}
		if strings.Contains(err.Error(), "another refit") {
			break
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Tag(t.Context(), "v4.5.14"); err != nil {
		t.Errorf("after the lock was let go: %v", err)
	}
}

func TestServerErrorsAreToldApart(t *testing.T) {
	for status, want := range map[int]error{http.StatusUnauthorized: git.ErrAuth, http.StatusForbidden: git.ErrAuth, http.StatusInternalServerError: git.ErrUnreachable} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		defer srv.Close()
		if _, err := open(t, git.Options{URL: srv.URL + "/x.git"}).Tags(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d gave %v", status, err)
		}
	}
}

func TestATokenInAURLIsSentAndNeverShown(t *testing.T) {
	const token = "ghp_0123456789abcdef"
	for _, login := range []string{token, "x-access-token:" + token} {
		var got []string
		status := http.StatusUnauthorized
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name, password, _ := r.BasicAuth()
			got = append(got, strings.TrimSuffix(name+":"+password, ":"))
			w.WriteHeader(status)
		}))
		at := strings.Replace(srv.URL, "http://", "http://"+login+"@", 1) + "/x.git"
		m := open(t, git.Options{URL: at})
		ask := func() error { _, err := m.Tag(t.Context(), "v4.5.14"); return err }
		errs := []error{ask()}
		status = http.StatusInternalServerError
		errs = append(errs, ask())
		srv.Close()
		_, probed := git.Probe(t.Context(), git.Options{URL: at}, "v4.5.14")
		for i, err := range append(errs, ask(), probed) {
			if err == nil || strings.Contains(err.Error(), token) || !strings.Contains(err.Error(), srv.Listener.Addr().String()) {
				t.Errorf("error %d is %v", i, err)
			}
		}
		if len(got) < 2 || slices.ContainsFunc(got, func(s string) bool { return s != login }) {
			t.Errorf("the server was shown %q", got)
		}
		if strings.Contains(m.URL(), token) {
			t.Errorf("%s", m.URL())
		}
	}
}

func TestAFetchCutShortIsNotTakenForWhole(t *testing.T) {
	u := awkward(t)
	dir := filepath.Join(t.TempDir(), "cache")
	open(t, git.Options{URL: u.dir, Dir: dir})
	// The reference came, the objects did not: as after a crash in between.
	ref := filepath.Join(dir, "refs/tags/v4.5.14")
	if err := os.MkdirAll(filepath.Dir(ref), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ref, []byte(u.git("rev-parse", "v4.5.14")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := open(t, git.Options{URL: u.dir, Dir: dir})
	if _, err := m.Known("v4.5.14"); err == nil {
		t.Fatal("a tag without its objects was resolved")
	}
	tag, err := m.Tag(t.Context(), "v4.5.14")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Checkout(t.Context(), tag, t.TempDir()); err != nil {
		t.Fatal(err)
	}
}

func TestSSHWithoutAKnownHostsFileIsRefused(t *testing.T) {
	for _, url := range []string{"ssh://git@127.0.0.1/x.git", "git@127.0.0.1:x.git"} {
		if _, err := git.Open(git.Options{URL: url, Dir: t.TempDir()}); !errors.Is(err, git.ErrHostKey) {
			t.Errorf("%s gave %v", url, err)
		}
	}
}

func TestATreeThatReachesOutIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(u *upstream){
		"absolute link": func(u *upstream) { u.symlink("/etc/passwd", "evil") },
		"link out":      func(u *upstream) { u.symlink("../../etc/passwd", "a/evil") },
		"submodule": func(u *upstream) {
			u.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",sub")
		},
		"dot git": func(u *upstream) {
			blob := u.git("hash-object", "-w", "a/b")
			sub := u.mktree("100644 blob " + blob + "\tconfig\n")
			root := u.mktree("040000 tree " + sub + "\t.GIT\n")
			u.git("tag", "v9.0.0", u.git("commit-tree", "-m", "evil", root))
		},
		"control characters": func(u *upstream) { u.write("dist/\x1b[2Jnginx.conf", "x", 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			u := awkward(t)
			spoil(u)
			if u.git("tag", "-l", "v9.0.0") == "" {
				if name != "submodule" {
					u.git("add", "-A")
				}
				u.git("commit", "-q", "-m", "evil")
				u.git("tag", "v9.0.0")
			}
			m := open(t, git.Options{URL: "file://" + u.dir})
			tag, err := m.Tag(t.Context(), "v9.0.0")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Checkout(t.Context(), tag, t.TempDir()); !errors.Is(err, git.ErrUnsafe) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func (u *upstream) symlink(to, path string) {
	u.t.Helper()
	if err := os.Symlink(to, filepath.Join(u.dir, path)); err != nil {
		u.t.Fatal(err)
	}
}

func (u *upstream) mktree(lines string) string {
	u.t.Helper()
	cmd := exec.Command("git", "mktree")
	cmd.Dir, cmd.Stdin = u.dir, strings.NewReader(lines)
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
