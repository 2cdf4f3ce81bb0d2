package builds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
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

// keepYarn puts yarn, and what it remembers of the packages in the release, among the
// packages that will be kept.
func (in PartIn) keepYarn(release inside, tree string) error {
	if err := copyFile(filepath.Join(in.Layout.work(in.Version), "yarn.js"), filepath.Join(tree, keptYarn)); err != nil {
		return err
	}
	err := release.copyOut(installState, filepath.Join(tree, keptState))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a yarn that remembers it elsewhere
	}
	return err
}

// takeYarn puts them from the packages to where yarn and its user look for them.
func (in PartIn) takeYarn(release inside) error {
	from := in.Kind.place()
	js, err := release.text(path.Join(from, keptYarn))
	if err == nil {
		err = errors.Join(in.Layout.placeYarn(in.Version, js), release.Remove(path.Join(from, keptYarn)))
	}
	if err != nil {
		return err
	}
	owner, err := lookUser(in.Layout.User)
	if err != nil {
		return err
	}
	folder := path.Dir(installState)
	if err := release.Mkdir(folder, 0o755); err == nil {
		err = release.Lchown(folder, owner.uid, owner.gid)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := release.folders(folder); err != nil {
		return err
	}
	state := path.Join(from, keptState)
	text, err := release.text(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	to, err := release.OpenFile(installState, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = to.Write(text)
	return errors.Join(err, to.Chown(owner.uid, owner.gid), to.Chmod(0o644), to.Close(), release.Remove(state))
}
