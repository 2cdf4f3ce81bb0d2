package builds

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"vmst.io/refit/builds/attest"
)

// yarnMark is in every lock of yarn 2 and later.
const yarnMark = "__metadata:"

// ReadYarnLock reads what a yarn.lock of yarn 2 and later has fetched from somewhere:
// the tree's own workspaces are no packages of it.
func ReadYarnLock(text string) ([]attest.Package, error) {
	if text == "" {
		return nil, nil
	}
	if !strings.Contains(text, yarnMark) {
		return nil, fmt.Errorf("cannot read yarn.lock: it has no __metadata, so yarn 2 or later did not write it")
	}
	all, err := attest.ReadPackages(text)
	if errors.Is(err, attest.ErrNoPackage) {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(p attest.Package) bool { return p.Workspace }), err
}
