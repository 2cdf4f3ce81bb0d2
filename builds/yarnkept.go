package builds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Assets are made with yarn even where every package was installed before: Vite's plugin
// for Rails calls it. So yarn itself, and what it remembers of an install (without which
// it knows of no program of a package), are kept among the packages, under these names.
const (
	keptYarn  = ".refit-yarn.js"
	keptState = ".refit-install-state.gz"
)

// installState is where yarn remembers an install, below the release.
const installState = ".yarn/install-state.gz"

// placeYarn puts yarn.js and a program "yarn" into the build's own folder. A build
// needs it, a release does not.
func (l Layout) placeYarn(v Version, js []byte) error {
	work := l.work(v)
	file, bin := filepath.Join(work, "yarn.js"), filepath.Join(work, "bin/yarn")
	program := fmt.Sprintf("#!/bin/sh\nexec %s/.refit/bin/node %s \"$@\"\n", l.Dir(v), file)
	return errors.Join(
		os.WriteFile(file, js, 0o644), os.Chmod(file, 0o644),
		os.WriteFile(bin, []byte(program), 0o755), os.Chmod(bin, 0o755),
	)
}

// keepYarn puts yarn, and what it remembers of the packages in dir, among the packages
// that will be kept.
func (in PartIn) keepYarn(dir, tree string) error {
	if err := copyFile(filepath.Join(in.Layout.work(in.Version), "yarn.js"), filepath.Join(tree, keptYarn)); err != nil {
		return err
	}
	err := copyFile(filepath.Join(dir, installState), filepath.Join(tree, keptState))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a yarn that remembers it elsewhere
	}
	return err
}

// takeYarn puts them from the packages to where yarn and its user look for them.
func (in PartIn) takeYarn(dir string) error {
	from := filepath.Join(dir, in.Kind.place())
	js, err := os.ReadFile(filepath.Join(from, keptYarn))
	if err == nil {
		err = errors.Join(in.Layout.placeYarn(in.Version, js), os.Remove(filepath.Join(from, keptYarn)))
	}
	if err != nil {
		return err
	}
	owner, err := lookUser(in.Layout.User)
	if err != nil {
		return err
	}
	state := filepath.Join(dir, installState)
	if err := os.Mkdir(filepath.Dir(state), 0o755); err == nil {
		err = os.Lchown(filepath.Dir(state), owner.uid, owner.gid)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = copyFile(filepath.Join(from, keptState), state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.Lchown(state, owner.uid, owner.gid), os.Remove(filepath.Join(from, keptState)))
}
