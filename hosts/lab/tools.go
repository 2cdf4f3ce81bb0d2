package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// toolsVersion is part of the key of what tools makes: raise it with every change.
const toolsVersion = "1"

// madeTools is what a folder of tools says of itself.
type madeTools struct {
	Ruby      string `json:"ruby"`
	RubyBuild string `json:"ruby_build"`
}

// tools makes, once, what the mirrors serve for Ruby: the original archive of Debian's
// source package, as ruby-lang.org packs it, and a repository of ruby-build with one
// definition, which vouches for that archive.
func (l *Lab) tools(ctx context.Context) error {
	sum := sha256.Sum256([]byte(toolsVersion + workshopRoot(l.More).key()))
	dir, there, err := inCache(l.Cache, "tools-"+hex.EncodeToString(sum[:])[:16])
	if err == nil && !there {
		err = makeTools(ctx, dir)
		if err == nil {
			err = tidy(l.Cache, "tools-*")
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the sources of Ruby: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tools.json"))
	var made madeTools
	if err == nil {
		err = json.Unmarshal(b, &made)
	}
	if err != nil {
		return fmt.Errorf("cannot read the sources of Ruby: %w", err)
	}
	l.Tools, l.Ruby, l.RubyBuild = dir, made.Ruby, made.RubyBuild
	return nil
}

// makeTools makes the folder whole or not at all.
func makeTools(ctx context.Context, dir string) error {
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	var made madeTools
	err := InImage(ctx, func(root string) error {
		version, archive, err := rubyArchive(ctx, root)
		if err != nil {
			return err
		}
		program, err := os.ReadFile(filepath.Join(root, "usr/bin/ruby-build"))
		if err != nil {
			return err
		}
		b, err := os.ReadFile(archive)
		if err != nil {
			return err
		}
		if err := put(filepath.Join(fresh, "ruby", line(version), filepath.Base(archive)), b, 0o644); err != nil {
			return err
		}
		made.Ruby = version
		made.RubyBuild, err = rubyBuildRepository(ctx, filepath.Join(fresh, "ruby-build.git"), program, version, rubyDefinition(version, b))
		return err
	})
	if err != nil {
		return err
	}
	b, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if err := put(filepath.Join(fresh, "tools.json"), b, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

// line is a version's without its last number: "3.3.14" is of "3.3".
func line(version string) string { return version[:strings.LastIndexByte(version, '.')] }

// rubyArchive packs Debian's original archive anew, as a .tar.gz with the folder that
// ruby-lang.org's has on top. Times stay: Ruby's make goes by them. Debian leaves out the
// gems that come bundled with Ruby, and make would fetch each that is listed.
func rubyArchive(ctx context.Context, root string) (version, archive string, err error) {
	found, err := filepath.Glob(filepath.Join(root, sourceDir, rubySource+"_*.orig.tar.*"))
	if err != nil {
		return "", "", err
	}
	var original string
	for _, f := range found {
		if !strings.HasSuffix(f, ".asc") {
			original = f
		}
	}
	version, err = sourceVersion(original)
	if err != nil {
		return "", "", err
	}
	const script = `set -e; mkdir -p "/tmp/source/$2"; tar -xf "$1" -C "/tmp/source/$2" --strip-components=1
: > "/tmp/source/$2/gems/bundled_gems"
tar -C /tmp/source --sort=name --owner=0 --group=0 --numeric-owner -cf - "$2" | gzip -n > "/tmp/$2.tar.gz"`
	name := "ruby-" + version
	if _, err := run(ctx, "chroot", root, "sh", "-c", script, "sh", strings.TrimPrefix(original, root), name); err != nil {
		return "", "", err
	}
	return version, filepath.Join(root, "tmp", name+".tar.gz"), nil
}

// sourceVersion reads upstream's version in the name of an original archive,
// "ruby3.3_3.3.14.orig.tar.xz".
func sourceVersion(original string) (string, error) {
	_, rest, ok := strings.Cut(filepath.Base(original), "_")
	version, _, orig := strings.Cut(rest, ".orig.tar.")
	if !ok || !orig || strings.Count(version, ".") != 2 || strings.Trim(version, "0123456789.") != "" {
		return "", fmt.Errorf("the source of Ruby that Debian has is %q, which names no version", filepath.Base(original))
	}
	return version, nil
}

// rubyDefinition is ruby-build's form for one archive.
func rubyDefinition(version string, archive []byte) string {
	sum := sha256.Sum256(archive)
	return fmt.Sprintf("install_package \"ruby-%[1]s\" \"https://cache.ruby-lang.org/pub/ruby/%[2]s/ruby-%[1]s.tar.gz#%[3]s\" enable_shared standard\n",
		version, line(version), hex.EncodeToString(sum[:]))
}

// rubyBuildRepository makes a bare repository of Debian's ruby-build and that one
// definition. The same content gives the same commit.
func rubyBuildRepository(ctx context.Context, dir string, program []byte, version, definition string) (string, error) {
	tree := dir + ".tree"
	if err := errors.Join(
		put(filepath.Join(tree, "bin/ruby-build"), program, 0o755),
		put(filepath.Join(tree, "share/ruby-build", version), []byte(definition), 0o644),
	); err != nil {
		return "", err
	}
	const who, when = "lab", "2026-01-15T12:00:00+0000"
	env := []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_DIR=" + dir, "GIT_WORK_TREE=" + tree, "GIT_INDEX_FILE=" + dir + ".index",
		"GIT_AUTHOR_NAME=" + who, "GIT_AUTHOR_EMAIL=" + who + "@" + Domain, "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=" + who, "GIT_COMMITTER_EMAIL=" + who + "@" + Domain, "GIT_COMMITTER_DATE=" + when,
	}
	git := func(args ...string) (string, error) {
		out, err := runIn(ctx, tree, env, append([]string{"git", "-c", "core.autocrlf=false", "-c", "core.fileMode=true"}, args...)...)
		return strings.TrimSpace(out), err
	}
	if _, err := runIn(ctx, "", []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}, "git", "init", "-q", "--bare", "-b", "main", "--template=", dir); err != nil {
		return "", err
	}
	if _, err := git("add", "--all", "--force", "."); err != nil {
		return "", err
	}
	id, err := git("write-tree")
	if err != nil {
		return "", err
	}
	commit, err := git("commit-tree", "-m", "Ruby "+version, id)
	if err != nil {
		return "", err
	}
	if _, err := git("update-ref", "refs/heads/main", commit); err != nil {
		return "", err
	}
	return commit, errors.Join(os.RemoveAll(tree), os.Remove(dir+".index"))
}

// serveTools puts the repository of ruby-build where the git mirror serves it, in the
// place of the public one.
func (l *Lab) serveTools(ctx context.Context) error {
	target := filepath.Join(l.Git, "rbenv/ruby-build.git")
	err := os.MkdirAll(filepath.Dir(target), 0o755)
	if err == nil {
		err = os.RemoveAll(target)
	}
	if err == nil {
		_, err = run(ctx, "cp", "-a", filepath.Join(l.Tools, "ruby-build.git"), target)
	}
	if err != nil {
		return fmt.Errorf("cannot serve ruby-build: %w", err)
	}
	return nil
}

// Repin gives a function that makes a release pin the Ruby whose source the lab has,
// where it pins another of its line: Debian's security updates move it, and no other
// can be compiled here.
func Repin(version string) func(dir string) error {
	return func(dir string) error {
		file := filepath.Join(dir, ".ruby-version")
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot repin: %w", err)
		}
		if pin := strings.TrimSpace(string(b)); pin == version || !strings.HasPrefix(pin, line(version)+".") {
			return nil
		}
		if err := os.WriteFile(file, []byte(version+"\n"), 0o644); err != nil { //nolint:gosec // a file of a repository
			return fmt.Errorf("cannot repin: %w", err)
		}
		return nil
	}
}

// toolchainsKept is where a lab's compiled toolchains are kept for the next: compiling
// Ruby takes minutes, and refit verifies what it finds, by the key that signed it too.
func (l *Lab) toolchainsKept() (string, bool, error) {
	key, err := os.ReadFile(l.SigningKey() + ".pub")
	if err != nil {
		return "", false, fmt.Errorf("cannot read the key that signs: %w", err)
	}
	sum := sha256.Sum256([]byte(l.RubyBuild + l.Workshop + string(key)))
	return inCache(l.Cache, "toolchains-"+hex.EncodeToString(sum[:])[:16]+".tar")
}

// KeepToolchains keeps what the builder has made, unless it is kept already.
func (l *Lab) KeepToolchains(ctx context.Context) error {
	file, there, err := l.toolchainsKept()
	if err != nil || there {
		return err
	}
	if _, err := run(ctx, "tar", "--numeric-owner", "-C", filepath.Join(l.Root("uhura"), "opt"), "-cf", file+".new", "refit"); err != nil {
		return fmt.Errorf("cannot keep the toolchains: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("cannot keep the toolchains: %w", err)
	}
	return tidy(l.Cache, "toolchains-*.tar")
}

// seedToolchains puts kept toolchains on the builder's disk before its first boot.
func (l *Lab) seedToolchains(ctx context.Context, root string) error {
	file, there, err := l.toolchainsKept()
	if err != nil || !there {
		return err
	}
	at := filepath.Join(root, "opt")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("cannot seed the toolchains: %w", err)
	}
	if _, err := run(ctx, "tar", "--numeric-owner", "-C", at, "-xpf", file); err != nil {
		return fmt.Errorf("cannot seed the toolchains: %w", err)
	}
	return nil
}
