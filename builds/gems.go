package builds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// GemsIn asks for the gems that were fetched to be held to their checksums.
type GemsIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
	// Registry stands for every source of Gemfile.lock; empty for none.
	Registry string   `json:"registry,omitempty"`
	Patience Patience `json:"patience,omitzero"`
}

// GemsOut tells how they were held.
type GemsOut struct {
	Fetches Fetches `json:"fetches"`
}

// atOnce is how many questions a registry is asked at the same time.
const atOnce = 8

// gems takes the gems that Bundler fetched and left as files, holds each to the
// checksum that Gemfile.lock has, or else to the one of the registry's index, and puts
// it where Bundler will install it from. From there on they are root's: what is
// installed is what was held.
func gems(ctx context.Context, in GemsIn) (GemsOut, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return GemsOut{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "Gemfile.lock"))
	if err != nil {
		return GemsOut{}, fmt.Errorf("cannot hold the gems to their checksums: %w", err)
	}
	lock, err := ReadGemLock(string(text))
	if err != nil {
		return GemsOut{}, err
	}
	from, err := openInside(in.Layout.bundle())
	if err != nil {
		return GemsOut{}, fmt.Errorf("cannot look for the gems that were fetched: %w", err)
	}
	defer from.Close()
	found, err := from.match("ruby/*/cache/*.gem")
	if err != nil {
		return GemsOut{}, fmt.Errorf("cannot look for the gems that were fetched: %w", err)
	}
	to := in.Layout.gems(in.Version)
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755), os.Chmod(to, 0o755)); err != nil {
		return GemsOut{}, fmt.Errorf("cannot make room for gems: %w", err)
	}
	slices.Sort(found)
	items := make([]Fetched, len(found))
	g := gemChecks{in: in, lock: lock, from: from, to: to}
	errs := make([]error, len(found))
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, file := range found {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			if ctx.Err() != nil {
				return // another one has failed: its error is told
			}
			if items[i], errs[i] = g.take(ctx, file); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return GemsOut{}, err
		}
	}
	if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
		return GemsOut{}, err
	}
	for _, s := range lock.Git {
		items = append(items, Fetched{Kind: "git", Name: strings.Join(s.Gems, ","), From: s.Remote, Commit: s.Revision, Held: HeldToLock})
	}
	var out GemsOut
	out.Fetches.count(items...)
	return out, writeJSON(partFetches(dir, Bundle), out.Fetches)
}

// gemChecks holds gems to what Gemfile.lock and the registry say.
type gemChecks struct {
	in   GemsIn
	lock GemLock
	// from is Bundler's folder, to the one of the gems that were held.
	from inside
	to   string
}

// take copies one gem's file, so that nobody else has it open, and checks the copy.
func (g gemChecks) take(ctx context.Context, file string) (Fetched, error) {
	full := strings.TrimSuffix(path.Base(file), ".gem")
	gem, ok := g.locked(full)
	if !ok {
		return Fetched{}, fmt.Errorf("the registry served %s, which Gemfile.lock does not name: it is not used", full)
	}
	sum, err := takeFile(g.from, file, filepath.Join(g.to, path.Base(file)))
	if err != nil {
		return Fetched{}, fmt.Errorf("cannot take the gem %s: %w", full, err)
	}
	f := Fetched{Kind: "gem", Name: gem.Name, Version: gem.Version, Platform: gem.Platform, SHA256: sum, Held: HeldToLock}
	if len(gem.Remotes) > 0 {
		f.From = gem.Remotes[0]
	}
	want, says := gem.SHA256, "Gemfile.lock"
	if want == "" {
		if want, err = g.indexed(ctx, gem); err != nil {
			return Fetched{}, fmt.Errorf("cannot learn the checksum of %s: %w", full, err)
		}
		f.Held, says = HeldToRegistry, "the registry's index"
		if want == "" {
			f.Held = HeldToNothing
			return f, nil
		}
	}
	if sum != want {
		return Fetched{}, fmt.Errorf("the registry served %s with checksum %s, %s says %s: it is not used", full, sum, says, want)
	}
	return f, nil
}

// locked finds a gem by its file's name. Of a gem that the lock names without a
// platform, Bundler takes the one that was built for the host's where there is one.
func (g gemChecks) locked(full string) (LockedGem, bool) {
	for _, l := range g.lock.Gems {
		if l.full() == full {
			return l, true
		}
	}
	for _, l := range g.lock.Gems {
		if platform, ok := strings.CutPrefix(full, l.full()+"-"); ok && l.Platform == "" && platform != "" {
			l.Platform, l.SHA256 = platform, ""
			return l, true
		}
	}
	return LockedGem{}, false
}

// indexed asks the gem's registries for its checksum; empty where none has one.
func (g gemChecks) indexed(ctx context.Context, gem LockedGem) (string, error) {
	registries := gem.Remotes
	if g.in.Registry != "" {
		registries = []string{g.in.Registry}
	}
	version := gem.Version
	if gem.Platform != "" {
		version += "-" + gem.Platform
	}
	for _, r := range registries {
		body, err := g.in.Patience.get(ctx, strings.TrimSuffix(r, "/")+"/info/"+url.PathEscape(gem.Name), "")
		if errors.Is(err, errNotThere) {
			continue
		}
		if err != nil {
			return "", err
		}
		if sum, _ := GemIndex(body, version); sum != "" {
			return sum, nil
		}
	}
	return "", nil
}

// takeFile moves a file by copying it, and returns the SHA-256 of what was written.
func takeFile(folder inside, src, dst string) (string, error) {
	from, err := folder.file(src)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o644))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, h), from)
	if err := errors.Join(err, to.Chmod(0o644), to.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), folder.Remove(src)
}
