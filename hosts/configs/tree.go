package configs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// lockHead begins every lock.
const lockHead = "# Written by refit with each run; not by hand. docs/configs.md says what it holds.\n"

// Sum is the hash of a content as the lock has it.
func Sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Tree gives the files of the repository that are refit's, by path: rendered/… and
// refit.lock. The same inputs give the same bytes.
func Tree(rendered map[string][]File, r Release) (map[string][]byte, error) {
	lock := Lock{
		Schema: Schema, Version: r.Version, Commit: r.Commit, Tree: r.Tree, Artifact: r.Artifact,
		Toolchains: maps.Clone(r.Toolchains), Images: maps.Clone(r.Images), Rendered: map[string]map[string]Locked{},
	}
	out := map[string][]byte{}
	for host, files := range rendered {
		if len(files) == 0 {
			continue
		}
		if err := (Fleet{Hosts: []Host{{Name: host}}}).fault(); err != nil {
			return nil, err
		}
		lock.Rendered[host] = map[string]Locked{}
		for _, f := range files {
			if err := hostPath(f.Path); err != nil {
				return nil, fmt.Errorf("host %s: %w", host, err)
			}
			at := path.Join(Rendered, host, f.Path)
			if _, twice := out[at]; twice {
				return nil, fmt.Errorf("host %s has two files for %s", host, f.Path)
			}
			out[at] = append([]byte{}, f.Content...)
			lock.Rendered[host][f.Path] = Locked{
				SHA256: Sum(f.Content), Owner: f.Owner, Group: f.Group, Mode: fmt.Sprintf("%04o", f.Mode.Perm()),
				Check: f.Check, Restart: sorted(f.Restart), Reload: sorted(f.Reload), Secrets: sorted(f.Secrets),
			}
		}
	}
	text, err := yaml.MarshalWithOptions(lock, yaml.Indent(2), yaml.IndentSequence(false))
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", LockFile, err)
	}
	out[LockFile] = append([]byte(lockHead), text...)
	return out, nil
}

// ErrNoLock: the repository has no refit.lock yet: refit has never committed to it.
var ErrNoLock = errors.New("the repository has no refit.lock")

// ReadTree reads the lock and the rendered files back, and holds them to each other: a
// rendered file that the lock does not know, one that is missing and one whose content
// is not the lock's are errors. Of a newer schema nothing is read.
func ReadTree(repo fs.FS) (Lock, map[string][]File, error) {
	text, err := fs.ReadFile(repo, LockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil, ErrNoLock
	}
	if err != nil {
		return Lock{}, nil, fmt.Errorf("cannot read %s: %w", LockFile, err)
	}
	lock, err := readLock(text)
	if err != nil {
		return Lock{}, nil, err
	}
	out := map[string][]File{}
	for host, files := range lock.Rendered {
		if err := (Fleet{Hosts: []Host{{Name: host}}}).fault(); err != nil {
			return Lock{}, nil, fmt.Errorf("%s: %w", LockFile, err)
		}
		for p, l := range files {
			f, err := readBack(repo, host, p, l)
			if err != nil {
				return Lock{}, nil, err
			}
			out[host] = append(out[host], f)
		}
		slices.SortFunc(out[host], byPath)
	}
	return lock, out, noStrays(repo, lock)
}

func readLock(text []byte) (Lock, error) {
	var head struct {
		Schema int `yaml:"schema"`
	}
	if err := loosely(text, &head); err != nil {
		return Lock{}, err
	}
	if head.Schema != Schema {
		return Lock{}, fmt.Errorf("%s has schema %d, and this refit reads %d: another version of refit wrote it; use that one", LockFile, head.Schema, Schema)
	}
	var lock Lock
	if err := strictly(LockFile, text, &lock); err != nil {
		return Lock{}, err
	}
	return lock, nil
}

// readBack is one file as the lock and the tree have it.
func readBack(repo fs.FS, host, p string, l Locked) (File, error) {
	at := path.Join(Rendered, host, p)
	bad := func(why string, args ...any) (File, error) {
		return File{}, fmt.Errorf("%s: %s: %s", LockFile, strconv.QuoteToASCII(at), fmt.Sprintf(why, args...))
	}
	if err := hostPath(p); err != nil {
		return bad("%v", err)
	}
	if !octal.MatchString(l.Mode) || !accountName.MatchString(l.Owner) || !accountName.MatchString(l.Group) {
		return bad("its owner, group or mode is none that a file can have")
	}
	if !slices.Contains([]string{CheckNginx, CheckSystemd, CheckStunnel, CheckNone}, l.Check) {
		return bad("its check is none that this refit knows")
	}
	for _, unit := range slices.Concat(l.Restart, l.Reload) {
		if !unitName.MatchString(unit) {
			return bad("what it restarts or reloads is no unit")
		}
	}
	info, err := fs.Stat(repo, at)
	if err != nil || !info.Mode().IsRegular() {
		return bad("the repository has no such file: somebody removed it, or a merge went wrong; refit renders it anew with the next commit")
	}
	content, err := fs.ReadFile(repo, at)
	if err != nil {
		return bad("cannot be read: %v", err)
	}
	if Sum(content) != l.SHA256 {
		return bad("its content is not the one that the lock names: what is rendered is changed in templates/ and by refit, not by hand")
	}
	secrets, err := Secrets(content)
	if err != nil {
		return bad("%v", err)
	}
	if !slices.Equal(secrets, sorted(l.Secrets)) {
		return bad("it refers to other secrets than the lock says")
	}
	mode, err := strconv.ParseUint(l.Mode, 8, 32)
	if err != nil {
		return bad("its mode is no number")
	}
	return File{
		Path: p, Content: content, Owner: l.Owner, Group: l.Group, Mode: fs.FileMode(mode), Check: l.Check,
		Restart: sorted(l.Restart), Reload: sorted(l.Reload), Secrets: secrets,
	}, nil
}

// noStrays refuses rendered files that the lock does not name.
func noStrays(repo fs.FS, lock Lock) error {
	if _, err := fs.Stat(repo, Rendered); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fs.WalkDir(repo, Rendered, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", name, err)
		}
		if d.IsDir() {
			return nil
		}
		host, p, _ := strings.Cut(strings.TrimPrefix(name, Rendered+"/"), "/")
		if _, known := lock.Rendered[host]["/"+p]; !known {
			return fmt.Errorf("%q is in the repository and not in %s: rendered/ is refit's; move it to templates/ if hosts are to have it", name, LockFile)
		}
		return nil
	})
}

// Removed are the files that the repository has below rendered/ and the new tree does
// not: with nil content, as a commit takes them.
func Removed(repo fs.FS, tree map[string][]byte) (map[string][]byte, error) {
	out := map[string][]byte{}
	if _, err := fs.Stat(repo, Rendered); errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	err := fs.WalkDir(repo, Rendered, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, stays := tree[name]; !stays {
			out[name] = nil
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", Rendered, err)
	}
	return out, nil
}

// loosely decodes the keys that are asked for and heeds no others.
func loosely(text []byte, into any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is no YAML that can be read", LockFile)
		}
	}()
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Errorf("%s is empty", LockFile)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s is no YAML that can be read: the file is broken, or a merge left its marks in it", LockFile)
	}
	return nil
}
