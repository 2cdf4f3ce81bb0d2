package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// packages of the hosts' root: one image serves every host but the builder, since a
// root made once and cached boots sooner than several smaller ones are made. It holds
// the libraries that gems and Ruby load, and neither a Ruby nor a Node nor a compiler:
// what nodes run comes from refit.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "udev", "openssh-server", "openssh-client", "iproute2", "iputils-ping",
	"ca-certificates", "curl", "procps", "sudo", "less", "file", "zstd", "xz-utils", "rsync", "socat", "netcat-openbsd", "git",
	"nginx-light", "haproxy", "stunnel4", "postgresql", "postgresql-client", "pgbouncer", "redis-server", "redis-tools",
	"libpq5", "libyaml-0-2", "libicu76", "libidn12", "zlib1g", "libssl3t64", "libffi8", "libgmp10", "libxml2", "libxslt1.1",
	"libvips42t64", "libjemalloc2", "shared-mime-info", "tzdata",
}

// workshopPackages are what the workshop has beyond the hosts' root. It is the root of
// the builder, and of what must be made with Debian's own programs: the gem registry.
var workshopPackages = []string{
	"ruby", "ruby-dev", "ruby-bundler", "rails", "puma", "ruby-sidekiq", "ruby-pg", "ruby-redis", "ruby-bootsnap",
	"ruby-dotenv", "ruby-connection-pool",
	"build-essential", "pkg-config", "libpq-dev", "libyaml-dev", "libicu-dev", "libidn-dev", "zlib1g-dev",
	"libssl-dev", "libffi-dev", "libjemalloc-dev", "ruby-build",
}

// rubySource is the source package of Debian's whose original archive is what the lab
// compiles; it lies in the workshop below sourceDir.
const (
	rubySource = "ruby3.3"
	sourceDir  = "/usr/src/refit"
)

const suite = "trixie"

// bakeVersion is part of the image's key: raise it with every change of bake.
const bakeVersion = "1"

// root is one of the lab's roots.
type root struct {
	// name begins the image's name in the cache.
	name     string
	packages []string
	// source is a Debian source package that is fetched into sourceDir; empty for none.
	source string
}

func hostsRoot(more []string) root {
	return root{name: "root", packages: slices.Concat(packages, more)}
}

func workshopRoot(more []string) root {
	return root{name: "workshop", packages: slices.Concat(packages, workshopPackages, more), source: rubySource}
}

// key names an image by all that goes into it.
func (r root) key() string {
	h := sha256.New()
	fmt.Fprintln(h, suite, bakeVersion, strings.Join(masked, " "), strings.Join(disabled, " "))
	fmt.Fprint(h, strings.Join(r.packages, " "), sshdConfig, sudoers, r.source)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// imageKey names the hosts' image.
func imageKey(more []string) string { return hostsRoot(more).key() }

// Image gives the path of the hosts' root image in the cache and makes it if it is
// not there, which takes two to five minutes. It has more packages than every lab's if
// more names some.
func Image(ctx context.Context, cache string, more []string, say Say) (string, error) {
	return hostsRoot(more).image(ctx, cache, say)
}

// Workshop is Image for the root of the builder.
func Workshop(ctx context.Context, cache string, more []string, say Say) (string, error) {
	return workshopRoot(more).image(ctx, cache, say)
}

func (r root) image(ctx context.Context, cache string, say Say) (string, error) {
	path, there, err := inCache(cache, r.name+"-"+r.key()+".squashfs")
	if there || err != nil {
		return path, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache: %w", err)
	}
	sources, err := aptSources("/etc/apt")
	if err != nil {
		return "", err
	}
	say("image: making the %s image of %d Debian %s packages and what they need (%s); this takes two to five minutes, once", r.name, len(r.packages), suite, sources.main)
	began := time.Now()
	at := path + ".root"
	if err := os.RemoveAll(at); err != nil {
		return "", fmt.Errorf("cannot clear %s: %w", at, err)
	}
	defer os.RemoveAll(at)
	argv := []string{
		"mmdebstrap", "--quiet", "--variant=apt", "--include=" + strings.Join(r.packages, ","), "--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		`--aptopt=Apt::Install-Recommends "false"`, `--aptopt=Acquire::Languages "none"`,
	}
	lines := sources.lines()
	if r.source != "" {
		argv = append(argv, fmt.Sprintf(`--customize-hook=mkdir -p "$1%[1]s" && chroot "$1" sh -c 'cd %[1]s && apt-get -q source --download-only %[2]s'`, sourceDir, r.source))
		lines = append(lines, sources.ofSource())
	}
	if _, err := run(ctx, append(append(argv, suite, at), lines...)...); err != nil {
		return "", fmt.Errorf("cannot make the hosts' root: %w", err)
	}
	say("image: packages are in after %.0f s; baking", time.Since(began).Seconds())
	if err := bake(ctx, at); err != nil {
		return "", err
	}
	if _, err := run(ctx, "mksquashfs", at, path+".new", "-comp", "zstd", "-Xcompression-level", "6", "-noappend", "-quiet", "-no-progress"); err != nil {
		return "", fmt.Errorf("cannot pack the hosts' root: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("cannot keep the image: %w", err)
	}
	say("image: ready after %.0f s", time.Since(began).Seconds())
	return path, tidy(cache, r.name+"-*.squashfs")
}

// apt is where Debian's packages come from. keyring is who vouches for them where
// the machine's own apt does not know Debian; empty to leave it to that apt.
type apt struct{ main, security, keyring string }

// lines are the sources for the new root.
func (a apt) lines() []string {
	options := ""
	if a.keyring != "" {
		options = "[signed-by=" + a.keyring + "] "
	}
	out := []string{fmt.Sprintf("deb %s%s %s main", options, a.main, suite)}
	if a.security != "" {
		out = append(out, fmt.Sprintf("deb %s%s %s-security main", options, a.security, suite))
	}
	return out
}

// ofSource is the source of source packages: the archive itself, which all mirrors have
// and which changes with a point release alone, so that what is compiled stays the same.
func (a apt) ofSource() string {
	return "deb-src" + strings.TrimPrefix(a.lines()[0], "deb")
}

// aptSources reads from the machine's own apt configuration which mirror of Debian
// it uses. A machine that is no Debian (Ubuntu) gets Debian's public archive.
func aptSources(etc string) (apt, error) {
	var a apt
	files := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return a, fmt.Errorf("cannot list apt's sources: %w", err)
		}
		files = append(files, more...)
	}
	for _, f := range files {
		uris, err := sourceURIs(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return a, fmt.Errorf("cannot read apt's sources: %w", err)
		}
		for _, u := range uris {
			trimmed := strings.TrimSuffix(u, "/")
			switch {
			case strings.HasSuffix(trimmed, "/debian-security") && a.security == "":
				a.security = trimmed
			case strings.HasSuffix(trimmed, "/debian") && a.main == "":
				a.main = trimmed
			}
		}
	}
	if a.main == "" {
		a = apt{"http://deb.debian.org/debian", "http://deb.debian.org/debian-security", debianKeys}
	}
	return a, nil
}

// sourceURIs reads the addresses of one file of apt's, in either of its two forms.
func sourceURIs(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case strings.EqualFold(words[0], "URIs:"):
			out = append(out, words[1:]...)
		case words[0] == "deb":
			i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "://") })
			if i > 0 {
				out = append(out, words[i])
			}
		}
	}
	return out, lines.Err()
}
