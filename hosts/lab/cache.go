package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// keptVersions is how many versions of a thing the cache holds: what this checkout
// uses, and what another one beside it may.
const keptVersions = 3

// inCache gives the path of a kept thing and whether it is there. Asking counts as
// use.
func inCache(cache, name string) (string, bool, error) {
	path := filepath.Join(cache, name)
	now := time.Now()
	err := os.Chtimes(path, now, now)
	if errors.Is(err, os.ErrNotExist) {
		return path, false, nil
	}
	if err != nil {
		return path, false, fmt.Errorf("cannot use the cache: %w", err)
	}
	return path, true, nil
}

// tidy removes all but the versions used last of the things that pattern names.
func tidy(cache, pattern string) error {
	paths, err := filepath.Glob(filepath.Join(cache, pattern))
	if err != nil {
		return fmt.Errorf("cannot tidy the cache: %w", err)
	}
	used := map[string]time.Time{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("cannot tidy the cache: %w", err)
		}
		used[p] = info.ModTime()
	}
	slices.SortFunc(paths, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, p := range paths[min(len(paths), keptVersions):] {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("cannot tidy the cache: %w", err)
		}
	}
	return nil
}
