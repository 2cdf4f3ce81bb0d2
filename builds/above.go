package builds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// yarnSettings is where yarn since 2 has its settings: in the folder that it works in and
// in every folder above that, by its documentation ("Settings (.yarnrc.yml)"). It does not
// read .yarnrc, which was yarn 1's, nor .npmrc, and the home folder that it looks into is
// the build's own.
const yarnSettings = ".yarnrc.yml"

// noSettingsAbove refuses a host on which files above the release's folder rule what yarn
// fetches, from where, and to what it holds that: none of it stands in the recipe.
func noSettingsAbove(dir string) error {
	for _, from := range []func(string) (string, error){func(d string) (string, error) { return d, nil }, resolved} {
		at, err := from(filepath.Dir(dir))
		if err != nil {
			return fmt.Errorf("cannot look for settings of yarn above %s: %w", dir, err)
		}
		for {
			file := filepath.Join(at, yarnSettings)
			if _, err := os.Lstat(file); err == nil {
				return fmt.Errorf("%s lies above the release, and yarn would take settings from it: registry, checksums, whether scripts run; move it away (what a build is to do otherwise stands in refit.yml, under mirrors)", file)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot look for settings of yarn above %s: %w", dir, err)
			}
			up := filepath.Dir(at)
			if up == at {
				break
			}
			at = up
		}
	}
	return nil
}

// resolved is a folder without links on the way to it, as a process that works in it knows
// it; of one that is yet to be made, what there is of it.
func resolved(dir string) (string, error) {
	for {
		to, err := filepath.EvalSymlinks(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return to, err
		}
		dir = filepath.Dir(dir)
	}
}
