package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twin is a folder and a copy of it.
func twin(t *testing.T) (from, to string) {
	t.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("rsync is not installed: lab check --install")
	}
	dir := t.TempDir()
	from, to = filepath.Join(dir, "from"), filepath.Join(dir, "to")
	must(t, os.Mkdir(from, 0o755))
	must(t, os.Mkdir(to, 0o755))
	return from, to
}

func TestAFileThatChangedWithinTheSecondAtTheSameSizeIsCopiedAgain(t *testing.T) {
	from, to := twin(t)
	path := filepath.Join(from, "record")
	at := time.Unix(1_700_000_000, 100)
	write := func(text string, at time.Time) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, os.Chtimes(path, at, at))
		must(t, copyLayer(t.Context(), from, to))
	}
	write("one", at)
	write("two", at.Add(time.Millisecond))
	if b, err := os.ReadFile(filepath.Join(to, "record")); err != nil || string(b) != "two" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestACopiedLayerKeepsWhatAnOverlayNeeds(t *testing.T) {
	from, to := twin(t)
	must(t, os.Mkdir(filepath.Join(from, "opaque"), 0o750))
	must(t, os.WriteFile(filepath.Join(from, "a"), []byte("x"), 0o640))
	must(t, os.Link(filepath.Join(from, "a"), filepath.Join(from, "b")))
	must(t, os.WriteFile(filepath.Join(to, "gone-since"), nil, 0o600))
	must(t, unix.Setxattr(filepath.Join(from, "a"), "user.kept", []byte("yes"), 0))
	root := os.Geteuid() == 0
	if root { // devices and trusted attributes are root's, as the lab is
		must(t, unix.Mknod(filepath.Join(from, "whiteout"), unix.S_IFCHR, 0))
		must(t, unix.Setxattr(filepath.Join(from, "opaque"), "trusted.overlay.opaque", []byte("y"), 0))
		must(t, os.Chown(filepath.Join(from, "a"), 1000, 1001))
	}
	must(t, copyLayer(t.Context(), from, to))
	var a, b unix.Stat_t
	must(t, unix.Stat(filepath.Join(to, "a"), &a))
	must(t, unix.Stat(filepath.Join(to, "b"), &b))
	if a.Ino != b.Ino || a.Mode&0o777 != 0o640 {
		t.Errorf("the link or its mode is lost: %+v, %+v", a, b)
	}
	if _, err := os.Stat(filepath.Join(to, "gone-since")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is gone stayed: %v", err)
	}
	attr := func(name, key string) string {
		buf := make([]byte, 16)
		n, err := unix.Getxattr(filepath.Join(to, name), key, buf)
		must(t, err)
		return string(buf[:n])
	}
	if attr("a", "user.kept") != "yes" {
		t.Error("an attribute is lost")
	}
	if !root {
		return
	}
	var w unix.Stat_t
	must(t, unix.Lstat(filepath.Join(to, "whiteout"), &w))
	if w.Mode&unix.S_IFMT != unix.S_IFCHR || w.Rdev != 0 || attr("opaque", "trusted.overlay.opaque") != "y" || a.Uid != 1000 || a.Gid != 1001 {
		t.Errorf("whiteout %o %d, opaque %q, owner %d:%d", w.Mode, w.Rdev, attr("opaque", "trusted.overlay.opaque"), a.Uid, a.Gid)
	}
}

func TestALinkThatWasBrokenBetweenTwoPassesDoesNotChangeTheOtherFile(t *testing.T) {
	from, to := twin(t)
	a, b := filepath.Join(from, "a"), filepath.Join(from, "b")
	must(t, os.WriteFile(a, []byte("old"), 0o600))
	must(t, os.Link(a, b))
	must(t, copyLayer(t.Context(), from, to))
	must(t, os.Remove(b))
	must(t, os.WriteFile(b, []byte("another"), 0o600))
	must(t, copyLayer(t.Context(), from, to))
	for name, want := range map[string]string{"a": "old", "b": "another"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestALayerThatCannotBeReadIsNoCopyAndOneThatVanishesIsForTheNextPass(t *testing.T) {
	from, to := twin(t)
	if err := copyLayer(t.Context(), filepath.Join(from, "not-there"), to); err == nil {
		t.Error("a copy of nothing was made")
	}
	if err := copyLiving(t.Context(), from, filepath.Join(to, "a", "b", "c")); err == nil {
		t.Error("a copy to nowhere was made")
	}
}

func TestOnlyFilesThatAreWrittenOnInMemoryAreBroughtAnew(t *testing.T) {
	got := mappedIn(`7f0000000000-7f0000001000 rw-s 00000000 00:2a 1234                       /var/log/journal/a b/system.journal
7f0000001000-7f0000002000 r--s 00000000 00:2a 1235                       /usr/lib/locale/C.utf8
7f0000002000-7f0000003000 rw-p 00000000 00:2a 1236                       /usr/lib/libc.so.6
7f0000003000-7f0000004000 rw-s 00000000 00:01 1237                       /dev/zero (deleted)
7f0000004000-7f0000005000 rw-s 00000000 00:1b 1238                       /dev/shm/PostgreSQL.1
7f0000005000-7f0000006000 rw-s 00000000 00:00 0
7f0000006000-7f0000007000 rw-p 00000000 00:00 0                          [heap]
`)
	if want := []string{"/var/log/journal/a b/system.journal"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, to := twin(t)
	outside := filepath.Join(t.TempDir(), "precious")
	must(t, os.WriteFile(outside, nil, 0o600))
	must(t, os.WriteFile(filepath.Join(to, "a"), nil, 0o600))
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(to, "link")))
	must(t, dropFiles(to, []string{"/a", "/never/there"}))
	if _, err := os.Stat(filepath.Join(to, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it stayed: %v", err)
	}
	if err := dropFiles(to, []string{"/link/precious"}); err == nil {
		t.Error("a link led out of the copy")
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestAnImagesKeyIsAFolderOfItsOwn(t *testing.T) {
	l := testLab(t)
	seen := map[string]bool{}
	for _, key := range []string{"refit-lab-run-kirk", "a/b", "a%2Fb", "5", "A B"} {
		dir, err := l.imageDir(key)
		if err != nil || filepath.Dir(dir) != l.path("images") || seen[dir] {
			t.Errorf("%q: %s, %v", key, dir, err)
		}
		seen[dir] = true
	}
	for _, key := range []string{"", ".", "..", ".part-x"} {
		if dir, err := l.imageDir(key); err == nil {
			t.Errorf("%q is %s", key, dir)
		}
	}
	if _, err := l.Kept("nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
	must(t, l.Droplets().Forget(t.Context(), "nothing"))
}
