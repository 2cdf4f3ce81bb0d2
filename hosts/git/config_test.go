package git_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/ssh"
)

func TestTheFirstCommitAndTheNextArePushedAndFetched(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		c := clone(t, url)
		if head := fetch(t, c); head != "" {
			t.Fatalf("an empty repository has head %s", head)
		}
		first := commit(t, c, "", "templates/all/etc/motd", "hello\n")
		if err := c.Push(t.Context(), first, ""); err != nil {
			t.Fatal(err)
		}
		o.person("main", "notes.md", "by hand\n")
		base := fetch(t, c)
		next := commit(t, c, base, "rendered/kirk/etc/motd", "hello\n")
		if err := c.Push(t.Context(), next, base); err != nil {
			t.Fatal(err)
		}
		if o.head() != next {
			t.Fatalf("the branch is at %s, not %s", o.head(), next)
		}
		if got := o.git("show", "main:notes.md"); got != "by hand" {
			t.Errorf("the person's file is %q", got)
		}
		o.git("fsck", "--strict", "--full")
		other := clone(t, url)
		if got := read(t, other, fetch(t, other), "rendered/kirk/etc/motd"); got != "hello\n" {
			t.Errorf("another clone reads %q", got)
		}
		log, err := other.Log(t.Context(), "", 2)
		if err != nil || len(log) != 2 || log[0].Commit != next || log[0].Subject != "refit: rendered/kirk/etc/motd" || log[0].Author.Name != "refit" || log[0].Signed {
			t.Errorf("the log is %+v (%v)", log, err)
		}
		if log, err = other.Log(t.Context(), "templates", 0); err != nil || len(log) != 1 || log[0].Commit != first {
			t.Errorf("the log of templates is %+v (%v)", log, err)
		}
	})
}

func TestTheSameInputsAndTimeGiveTheSameCommit(t *testing.T) {
	o := newOrigin(t)
	a, b := clone(t, o.dir), clone(t, o.dir)
	changes := map[string][]byte{"a/b": []byte("1"), "a-b": []byte("2"), "a.b": []byte("3"), "a0": {}, "a/c/d": []byte("4")}
	one, err := a.Commit(t.Context(), "", changes, "m\n")
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Commit(t.Context(), "", changes, "m")
	if err != nil || one != two {
		t.Fatalf("%s, then %s (%v)", one, two, err)
	}
	same, err := a.Commit(t.Context(), one, changes, "again")
	if err != nil || same != one {
		t.Errorf("nothing changed, and the commit is %s (%v)", same, err)
	}
	if none, err := a.Commit(t.Context(), "", nil, "nothing"); err != nil || none != "" {
		t.Errorf("nothing on nothing is %q (%v)", none, err)
	}
	removed, err := a.Commit(t.Context(), one, map[string][]byte{"a/c/d": nil, "a0": nil, "never": nil}, "less")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := a.FS(removed)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a/b", "a-b", "a.b"); err != nil {
		t.Error(err)
	}
	if _, err := fs.Stat(tree, "a/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder is there: %v", err)
	}
	if _, err := a.Commit(t.Context(), one, map[string][]byte{"a": []byte("x")}, "m"); err == nil {
		t.Error("a file takes the place of a folder")
	}
	for _, bad := range []string{"../x", "/x", ".git/config", "a//b", "x/.GIT/y", ""} {
		if _, err := a.Commit(t.Context(), one, map[string][]byte{bad: []byte("x")}, "m"); !errors.Is(err, git.ErrUnsafe) {
			t.Errorf("%q is committed: %v", bad, err)
		}
	}
	if _, err := a.Commit(t.Context(), strings.Repeat("1", 40), changes, "m"); err == nil {
		t.Error("a base that nobody has is committed on")
	}
	if _, err := a.Commit(t.Context(), one, changes, " \n"); err == nil {
		t.Error("a commit has no message")
	}
}

func TestModesLinksAndForeignEntriesStayAsTheyAre(t *testing.T) {
	u := newUpstream(t)
	u.write("bin/hook", "#!/bin/sh\n", 0o755)
	if err := os.Symlink("bin/hook", filepath.Join(u.dir, "link")); err != nil {
		t.Fatal(err)
	}
	u.git("add", "-A")
	u.git("commit", "-q", "-m", "by hand")
	u.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",module")
	u.git("commit", "-q", "-m", "a submodule")
	c := clone(t, u.dir)
	base := fetch(t, c)
	next, err := c.Commit(t.Context(), base, map[string][]byte{"bin/hook": []byte("#!/bin/sh\nexit 1\n"), "new": []byte("x")}, "m")
	if err != nil {
		t.Fatal(err)
	}
	u.git("checkout", "-q", "-b", "aside")
	if err := c.Push(t.Context(), next, base); err != nil {
		t.Fatal(err)
	}
	got := u.git("ls-tree", "-r", "main")
	for _, want := range []string{"100755 blob", "\tbin/hook", "120000 blob", "160000 commit " + strings.Repeat("1", 40)} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	tree, err := c.FS(next)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := fs.Stat(tree, "link"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v (%v)", info, err)
	}
}

func TestTheTokenIsAskedEachTimeAndStandsInNoError(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	o.token = "canary-one"
	url := o.serve()
	given := "canary-one"
	c := clone(t, url, func(opts *git.ConfigOptions) { opts.Token = func() (string, error) { return given, nil } })
	base := fetch(t, c)
	mine := commit(t, c, base, "rendered/x", "1")
	o.token, given = "canary-two", "canary-two"
	if err := c.Push(t.Context(), mine, base); err != nil {
		t.Fatal(err)
	}
	given = "canary-three"
	_, fetched := c.Fetch(t.Context())
	pushed := c.Push(t.Context(), commit(t, c, mine, "rendered/x", "2"), mine)
	for _, err := range []error{fetched, pushed} {
		if !errors.Is(err, git.ErrAuth) || strings.Contains(err.Error(), "canary") {
			t.Errorf("a token that is refused: %v", err)
		}
	}
	c = clone(t, strings.Replace(url, "http://", "http://x:canary-four@", 1))
	if _, err := c.Fetch(t.Context()); !errors.Is(err, git.ErrAuth) || strings.Contains(err.Error(), "canary") {
		t.Errorf("a token in the URL: %v", err)
	}
	broken := errors.New("no such file")
	if c, err := git.OpenConfig(t.Context(), git.ConfigOptions{
		URL: url, Branch: "main", Dir: t.TempDir(), Author: git.Person{Name: "a", Email: "b"},
		Token: func() (string, error) { return "", broken },
	}); !errors.Is(err, broken) {
		t.Errorf("a token that cannot be read: %v (%v)", c, err)
	}
}

func TestABranchThatIsMissingIsNotAnEmptyRepository(t *testing.T) {
	o := newOrigin(t)
	o.person("trunk", "a", "1")
	c := clone(t, o.dir)
	if head, err := c.Fetch(t.Context()); !errors.Is(err, git.ErrNoBranch) || !strings.Contains(err.Error(), "main") {
		t.Errorf("%q, %v", head, err)
	}
	if _, err := clone(t, filepath.Join(t.TempDir(), "none.git")).Fetch(t.Context()); err == nil || errors.Is(err, git.ErrNoBranch) {
		t.Errorf("no repository at all: %v", err)
	}
	if _, err := clone(t, "http://127.0.0.1:1/x.git").Fetch(t.Context()); !errors.Is(err, git.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	for _, bad := range []func(*git.ConfigOptions){
		func(o *git.ConfigOptions) { o.Branch = "" },
		func(o *git.ConfigOptions) { o.Branch = "a..b" },
		func(o *git.ConfigOptions) { o.URL = "" },
		func(o *git.ConfigOptions) { o.Author.Email = "a>\nparent " },
		func(o *git.ConfigOptions) { o.URL = "ssh://git@example.org/x.git" }, // without known hosts
	} {
		opts := git.ConfigOptions{URL: o.dir, Branch: "main", Dir: t.TempDir(), Author: git.Person{Name: "a", Email: "b"}}
		bad(&opts)
		if _, err := git.OpenConfig(t.Context(), opts); err == nil {
			t.Errorf("opened with %+v", opts)
		}
	}
}

func TestAFetchSeesWhatAnotherProcessBrought(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	dir := filepath.Join(t.TempDir(), "shared")
	shared := func(opts *git.ConfigOptions) { opts.Dir = dir }
	a, b := clone(t, o.dir, shared), clone(t, o.dir, shared)
	fetch(t, a)
	o.person("main", "a", "2")
	fetch(t, b)
	if got := read(t, a, fetch(t, a), "a"); got != "2" {
		t.Errorf("it reads %q", got)
	}
}

// signer is a CommitSigner that fails, or signs by a function.
type signer func([]byte) ([]byte, error)

func (s signer) Sign(_ context.Context, message []byte) ([]byte, error) { return s(message) }

func TestACommitThatCannotBeSignedIsNotMade(t *testing.T) {
	o := newOrigin(t)
	broken := errors.New("no agent")
	c := clone(t, o.dir, func(opts *git.ConfigOptions) {
		opts.Sign = signer(func([]byte) ([]byte, error) { return nil, broken })
	})
	if hash, err := c.Commit(t.Context(), "", map[string][]byte{"a": []byte("1")}, "m"); !errors.Is(err, broken) || hash != "" {
		t.Errorf("%q, %v", hash, err)
	}
}

// The git program and ssh-keygen verify what refit signs.
func TestGitVerifiesASignedCommit(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not installed, which makes the key and verifies the signature")
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", "refit", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pub, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(dir, "allowed")
	if err := os.WriteFile(allowed, append([]byte("refit@example.org "), pub...), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t)
	sign := func(namespace string) func(*git.ConfigOptions) {
		return func(opts *git.ConfigOptions) {
			opts.Sign = ssh.NewSigner(ssh.SignOptions{KeyFile: key, Namespace: namespace})
		}
	}
	verify := func(at string) ([]byte, error) {
		return exec.Command("git", "-C", o.dir, "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", "-v", at).CombinedOutput()
	}
	c := clone(t, o.dir, sign("git"))
	first := commit(t, c, "", "a", "1")
	if err := c.Push(t.Context(), first, ""); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(first); err != nil || !strings.Contains(string(out), `Good "git" signature for refit@example.org`) {
		t.Errorf("git verify-commit: %v\n%s", err, out)
	}
	if twice := commit(t, clone(t, o.dir, sign("git")), "", "a", "1"); twice != first {
		t.Errorf("signed twice it is %s and %s", first, twice)
	}
	fetch(t, c)
	if log, err := c.Log(t.Context(), "", 1); err != nil || !slices.ContainsFunc(log, func(e git.Entry) bool { return e.Signed }) {
		t.Errorf("the log does not show the signature: %+v (%v)", log, err)
	}
	other := clone(t, o.dir, sign("file"))
	fetch(t, other)
	wrong := commit(t, other, first, "a", "2")
	if err := other.Push(t.Context(), wrong, first); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(wrong); err == nil {
		t.Errorf("a signature of another namespace is verified:\n%s", out)
	}
}
