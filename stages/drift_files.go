package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/stages/drift"
)

// Committed is the configuration repository as far as drift goes.
type Committed interface {
	// Rendered is the branch's head, and what it has rendered for each host.
	Rendered(ctx context.Context) (commit string, byHost map[string][]configs.File, err error)
}

// Branch is the configuration repository's one; *git.Config is one.
type Branch interface {
	// Fetch brings the branch and returns its head, "" where it does not exist yet.
	Fetch(ctx context.Context) (head string, err error)
	FS(commit string) (fs.FS, error)
}

// LastCommit is what the head of a branch has rendered. Where refit never committed to it,
// that is nothing.
func LastCommit(b Branch) Committed { return lastCommit{b} }

type lastCommit struct{ Branch }

func (l lastCommit) Rendered(ctx context.Context) (string, map[string][]configs.File, error) {
	head, err := l.Fetch(ctx)
	if err != nil {
		return "", nil, err
	}
	tree, err := l.FS(head)
	if err != nil {
		return head, nil, err
	}
	_, files, err := configs.ReadTree(tree)
	if errors.Is(err, configs.ErrNoLock) {
		return head, nil, nil
	}
	if err != nil {
		return head, nil, fmt.Errorf("commit %.12s: %w", head, err)
	}
	return head, files, nil
}

// others are the files of a host that are not what the repository has for it.
func others(ctx context.Context, n Node, files []configs.File) ([]drift.Other, error) {
	in := node.StateFilesIn{Contents: true}
	for _, f := range files {
		in.Files = append(in.Files, node.StateFile{Path: f.Path, Content: f.Content, Owner: f.Owner, Group: f.Group, Mode: f.Mode})
	}
	out, err := n.Agent.ReadStateFiles(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(out.Files) != len(files) {
		return nil, fmt.Errorf("%s told of %d files, and was asked for %d", n.Name, len(out.Files), len(files))
	}
	var found []drift.Other
	for i, l := range out.Files {
		if l.State != node.FileSame {
			found = append(found, other(files[i], l))
		}
	}
	return found, nil
}

// other is one file that is not what it is to be, in words.
func other(f configs.File, l node.FileSeen) drift.Other {
	o := drift.Other{Path: f.Path, Expected: "as the last commit renders it, " + rights(f.Owner, f.Group, f.Mode)}
	switch l.State {
	case node.FileMissing:
		o.Found = "no such file"
	case node.FileRights:
		o.Found = "its content, but " + rights(l.Owner, l.Group, l.Mode)
	case node.FileOther:
		o.Found = "other content, " + rights(l.Owner, l.Group, l.Mode)
		o.Difference = drift.Diff(string(f.Content), string(l.Content))
		if l.Hidden > 0 {
			o.Found += fmt.Sprintf(" (%d values that look like secrets are not shown)", l.Hidden)
		}
	default:
		o.Found = "not known: " + l.Error
		o.Unknown = true
	}
	return o
}

func rights(owner, group string, mode fs.FileMode) string {
	return fmt.Sprintf("%s:%s %04o", owner, group, mode.Perm())
}
