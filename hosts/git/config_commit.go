package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// leaf is a tree's entry that is no folder.
type leaf struct {
	mode filemode.FileMode
	hash plumbing.Hash
}

// Commit makes a commit on base ("" for the first one): base's tree with the changes,
// by path; a nil content removes the file. It is not pushed. The same inputs and second
// give the same hash, as far as the key's signatures are always the same (ed25519's are).
// Where nothing changes it returns base.
func (c *Config) Commit(ctx context.Context, base string, changes map[string][]byte, message string) (commit string, err error) {
	err = c.locked(ctx, func() error {
		commit, err = c.commit(ctx, base, changes, message)
		return err
	})
	return commit, err
}

func (c *Config) commit(ctx context.Context, base string, changes map[string][]byte, message string) (string, error) {
	if strings.TrimSpace(message) == "" || strings.ContainsRune(message, 0) {
		return "", errors.New("cannot commit without a message")
	}
	leaves, was, err := c.leaves(base)
	if err != nil {
		return "", err
	}
	if err := c.change(leaves, changes); err != nil {
		return "", err
	}
	tree, err := c.writeTree(leaves, "")
	if err != nil {
		return "", fmt.Errorf("cannot write the tree of a commit to the config repository: %w", err)
	}
	if tree == was || (base == "" && len(leaves) == 0) {
		return base, nil
	}
	at := object.Signature{Name: c.opts.Author.Name, Email: c.opts.Author.Email, When: c.opts.Now().UTC().Truncate(time.Second)}
	made := &object.Commit{Author: at, Committer: at, Message: strings.TrimRight(message, "\n ") + "\n", TreeHash: tree}
	if base != "" {
		made.ParentHashes = []plumbing.Hash{plumbing.NewHash(base)}
	}
	if err := c.sign(ctx, made); err != nil {
		return "", err
	}
	hash, err := c.write(made)
	if err != nil {
		return "", fmt.Errorf("cannot write a commit to the config repository: %w", err)
	}
	return hash.String(), nil
}

// sign signs the commit as git does: over all of it but the signature itself.
func (c *Config) sign(ctx context.Context, made *object.Commit) error {
	if c.opts.Sign == nil {
		return nil
	}
	plain := &plumbing.MemoryObject{}
	if err := made.EncodeWithoutSignature(plain); err != nil {
		return fmt.Errorf("cannot write a commit to sign: %w", err)
	}
	r, err := plain.Reader()
	if err != nil {
		return fmt.Errorf("cannot write a commit to sign: %w", err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("cannot write a commit to sign: %w", err)
	}
	signature, err := c.opts.Sign.Sign(ctx, text)
	if err != nil {
		return fmt.Errorf("cannot sign the commit to the config repository, nothing was committed: %w", err)
	}
	made.PGPSignature = string(signature)
	return nil
}

// leaves are all files of a commit's tree by path, and the tree's hash.
func (c *Config) leaves(commit string) (map[string]leaf, plumbing.Hash, error) {
	out := map[string]leaf{}
	if commit == "" {
		return out, plumbing.ZeroHash, nil
	}
	tree, _, err := c.treeOf(commit)
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			return out, tree.Hash, nil
		}
		if err != nil {
			return nil, plumbing.ZeroHash, fmt.Errorf("cannot read the tree of commit %s: %w", commit, err)
		}
		if entry.Mode != filemode.Dir {
			out[name] = leaf{entry.Mode, entry.Hash}
		}
	}
}

func (c *Config) treeOf(commit string) (*object.Tree, *object.Commit, error) {
	hash, err := wholeHash("a commit of the config repository", commit)
	if err != nil {
		return nil, nil, err
	}
	found, err := c.repo.CommitObject(hash)
	if err != nil {
		return nil, nil, fmt.Errorf("the clone in %s has no commit %s (%w): fetch first", c.opts.Dir, commit, err)
	}
	tree, err := found.Tree()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the tree of commit %s: %w", commit, err)
	}
	return tree, found, nil
}

// change makes the changes in leaves. A file that is there keeps its mode.
func (c *Config) change(leaves map[string]leaf, changes map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if err := safePath(name); err != nil || !fs.ValidPath(name) {
			return fmt.Errorf("%w: path %q cannot be committed", ErrUnsafe, name)
		}
		content := changes[name]
		if content == nil {
			delete(leaves, name)
			continue
		}
		blob := &plumbing.MemoryObject{}
		blob.SetType(plumbing.BlobObject)
		if _, err := blob.Write(content); err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
		hash, err := c.keep(blob)
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
		mode := filemode.Regular
		if leaves[name].mode == filemode.Executable {
			mode = filemode.Executable
		}
		leaves[name] = leaf{mode, hash}
	}
	for name := range leaves {
		for i := range len(name) {
			if name[i] != '/' {
				continue
			}
			if _, file := leaves[name[:i]]; file {
				return fmt.Errorf("cannot commit %s: %s is a file in the repository, not a folder", name, name[:i])
			}
		}
	}
	return nil
}

// writeTree writes the folder whose files begin with prefix, and those below it.
func (c *Config) writeTree(leaves map[string]leaf, prefix string) (plumbing.Hash, error) {
	below := map[string]map[string]leaf{}
	tree := &object.Tree{}
	for name, l := range leaves {
		first, rest, folder := strings.Cut(name, "/")
		if !folder {
			tree.Entries = append(tree.Entries, object.TreeEntry{Name: first, Mode: l.mode, Hash: l.hash})
			continue
		}
		if below[first] == nil {
			below[first] = map[string]leaf{}
		}
		below[first][rest] = l
	}
	for name, in := range below {
		hash, err := c.writeTree(in, prefix+name+"/")
		if err != nil {
			return plumbing.ZeroHash, err
		}
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: hash})
	}
	slices.SortFunc(tree.Entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	hash, err := c.write(tree)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("%s: %w", prefix, err)
	}
	return hash, nil
}

// write writes a tree or commit, unless the clone has it.
func (c *Config) write(o interface {
	Encode(plumbing.EncodedObject) error
},
) (plumbing.Hash, error) {
	encoded := &plumbing.MemoryObject{}
	if err := o.Encode(encoded); err != nil {
		return plumbing.ZeroHash, err
	}
	return c.keep(encoded)
}

func (c *Config) keep(o *plumbing.MemoryObject) (plumbing.Hash, error) {
	if c.repo.Storer.HasEncodedObject(o.Hash()) == nil {
		return o.Hash(), nil
	}
	return c.repo.Storer.SetEncodedObject(o)
}
