package git

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// FS is the tree of a commit that was fetched or made here; "" is an empty tree. A
// symlink is shown as one and is not followed; a submodule is an empty folder.
func (c *Config) FS(commit string) (fs.FS, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &treeFS{config: c, repo: c.repo, nodes: map[string]*treeNode{".": {name: ".", mode: fs.ModeDir | 0o755}}}
	if commit == "" {
		return out, nil
	}
	leaves, _, err := c.leaves(commit)
	if err != nil {
		return nil, err
	}
	_, found, err := c.treeOf(commit)
	if err != nil {
		return nil, err
	}
	out.when = found.Committer.When.UTC()
	for name, l := range leaves {
		if err := safePath(name); err != nil {
			return nil, fmt.Errorf("commit %s of the config repository: %w", short(commit), err)
		}
		size := int64(0)
		if l.mode != filemode.Submodule {
			if size, err = c.repo.Storer.EncodedObjectSize(l.hash); err != nil {
				return nil, fmt.Errorf("cannot read %s of commit %s: %w", name, short(commit), err)
			}
		}
		out.add(name, l, size)
	}
	for _, n := range out.nodes {
		slices.SortFunc(n.in, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return out, nil
}

// treeFS is the tree of a commit as a file system. What it has it read when it was
// made, but for contents.
type treeFS struct {
	config *Config
	repo   *gogit.Repository
	nodes  map[string]*treeNode
	when   time.Time
}

// treeNode is a file or folder; it is its own fs.FileInfo.
type treeNode struct {
	name string
	mode fs.FileMode
	size int64
	when time.Time
	hash plumbing.Hash
	in   []fs.DirEntry
}

func (n *treeNode) Name() string       { return n.name }
func (n *treeNode) Size() int64        { return n.size }
func (n *treeNode) Mode() fs.FileMode  { return n.mode }
func (n *treeNode) ModTime() time.Time { return n.when }
func (n *treeNode) IsDir() bool        { return n.mode.IsDir() }
func (n *treeNode) Sys() any           { return nil }

func (t *treeFS) add(name string, l leaf, size int64) {
	mode := fs.FileMode(0o644)
	switch l.mode {
	case filemode.Executable:
		mode = 0o755
	case filemode.Symlink:
		mode = fs.ModeSymlink | 0o777
	case filemode.Submodule:
		mode = fs.ModeDir | 0o755
	}
	node := &treeNode{name: path.Base(name), mode: mode, size: size, when: t.when, hash: l.hash}
	t.nodes[name] = node
	for {
		dir := path.Dir(name)
		parent, there := t.nodes[dir]
		if !there {
			parent = &treeNode{name: path.Base(dir), mode: fs.ModeDir | 0o755, when: t.when}
			t.nodes[dir] = parent
		}
		parent.in = append(parent.in, fs.FileInfoToDirEntry(node))
		if there {
			return
		}
		name, node = dir, parent
	}
}

// Open opens a file or folder.
func (t *treeFS) Open(name string) (fs.File, error) {
	node, err := t.node("open", name)
	if err != nil {
		return nil, err
	}
	if node.IsDir() {
		return &treeDir{node: node}, nil
	}
	content, err := t.read(node)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &treeFile{Reader: bytes.NewReader(content), node: node}, nil
}

// Stat is of the entry itself.
func (t *treeFS) Stat(name string) (fs.FileInfo, error) { return t.node("stat", name) }

// ReadDir lists a folder, sorted by name.
func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	node, err := t.node("readdir", name)
	if err != nil {
		return nil, err
	}
	if !node.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return slices.Clone(node.in), nil
}

func (t *treeFS) node(op, name string) (*treeNode, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	node, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return node, nil
}

// read reads a content; go-git's storage is not for several at once.
func (t *treeFS) read(node *treeNode) ([]byte, error) {
	t.config.mu.Lock()
	defer t.config.mu.Unlock()
	return (&objects{repo: t.repo}).blob(node.hash)
}

// treeFile is an open file.
type treeFile struct {
	*bytes.Reader
	node *treeNode
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *treeFile) Close() error               { return nil }

// treeDir is an open folder.
type treeDir struct {
	node *treeNode
	at   int
}

func (d *treeDir) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *treeDir) Close() error               { return nil }
func (d *treeDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.node.name, Err: fs.ErrInvalid}
}

func (d *treeDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.node.in[d.at:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.at += len(rest)
	return slices.Clone(rest), nil
}
