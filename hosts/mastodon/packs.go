package mastodon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vmst.io/refit/hosts/node"
)

// maxFailed is how many failed files are named.
const maxFailed = 50

// askPacks is the verb "packs".
func askPacks(ctx context.Context, in PacksIn, say func(string)) (Packs, error) {
	var out Packs
	if in.Domain == "" {
		return out, errors.New("cannot ask for files without the site's domain")
	}
	files := slices.Clone(in.Files)
	for _, r := range in.Releases {
		named, err := manifestPacks(in.Layout, r)
		if err != nil {
			return out, err
		}
		files = append(files, named...)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	if in.WebPort == 0 {
		in.WebPort = 3000
	}
	if in.Parallel == 0 {
		in.Parallel = 4
	}
	if in.Deadline == 0 {
		in.Deadline = 10 * time.Second
	}
	web := newSite(in.Domain, in.Address, in.WebPort)
	defer web.close()

	var mu sync.Mutex
	var failed []FailedPack
	var group errgroup.Group
	group.SetLimit(in.Parallel)
	for i, f := range files {
		if ctx.Err() != nil {
			break
		}
		if i%500 == 0 && i > 0 {
			say(fmt.Sprintf("asked for %d of %d files", i, len(files)))
		}
		group.Go(func() error {
			one, cancel := context.WithTimeout(ctx, in.Deadline)
			defer cancel()
			// HEAD goes the same way as GET and spares sending 80 MB twice.
			if _, err := web.ask(one, http.MethodHead, f, ""); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, FailedPack{f, staticHint(err).Error()})
			}
			return nil
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // what failed, failed because of that
	}
	if err != nil {
		return out, fmt.Errorf("cannot ask for all files: %w", err)
	}
	slices.SortFunc(failed, func(a, b FailedPack) int { return strings.Compare(a.Path, b.Path) })
	out.Asked, out.Failed = len(files), failed
	if len(failed) > maxFailed {
		out.Failed, out.More = failed[:maxFailed], len(failed)-maxFailed
	}
	return out, nil
}

// manifestPacks reads a release's manifest on this host.
func manifestPacks(l Layout, release string) ([]string, error) {
	m, _, err := node.ReadManifest(l.Release(release))
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifest of %s: %w", release, err)
	}
	return PackFiles(m), nil
}

// PackFiles gives the URL paths of the files of a release that pages of either
// release may name while both serve: those below public/packs and public/assets
// whose names hold a hash of their content. Manifests, service workers and static
// pages keep their names, belong to one release each, and are left out.
func PackFiles(m node.Manifest) []string {
	var out []string
	for _, e := range m.Files {
		if rest, ok := hashedFile(e); ok {
			out = append(out, (&url.URL{Path: "/" + rest}).EscapedPath())
		}
	}
	return out
}

// ownFile tells files that each release has under the same name.
func ownFile(file string) bool {
	base := path.Base(file)
	return strings.Contains(file, "/.") ||
		strings.HasPrefix(base, "manifest") && strings.Contains(base, ".json") ||
		strings.HasPrefix(base, "sw.js") || strings.HasSuffix(base, ".html")
}
