package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// Configs is the config repository: its branch, and commits on it. *git.Config is one.
type Configs interface {
	// Fetch brings the branch and returns its head.
	Fetch(ctx context.Context) (head string, err error)
	FS(commit string) (fs.FS, error)
	// Commit and Push are git.Config's: nothing is forced, and a branch that is not at base
	// any more gives git.ErrMoved.
	Commit(ctx context.Context, base string, changes map[string][]byte, message string) (commit string, err error)
	Push(ctx context.Context, commit, base string) error
	Log(ctx context.Context, path string, n int) ([]git.Entry, error)
}

// Configuration is the fleet's files in the config repository.
type Configuration struct {
	Repo Configs
	// Name is the repository in words.
	Name string
	// Fleet is the hosts as templates see them.
	Fleet configs.Fleet
	// Paths are those outside of /etc that files may have.
	Paths []string
	// By is who runs refit.
	By string
	// Pulls is where commits are proposed instead of being pushed to the branch; nil for
	// pushing. Merge is how long a run waits until somebody has merged one.
	Pulls Pulls
	Merge time.Duration
}

// Configured is the fleet's configuration in one run.
type Configured struct {
	// Base is the commit that the plan was made on, Files the hashes of what its templates
	// give, by host and path (survey).
	Base  string                       `json:"base"`
	Files map[string]map[string]string `json:"files"`
	// Differ are, by host, the files that are not yet so there (survey).
	Differ map[string][]string `json:"differ,omitempty"`
	// Intended is the commit that hosts are brought to, pushed (intend).
	Intended string `json:"intended,omitempty"`
	// Told is the commit of how it ended (intend's undo, outcome).
	Told string `json:"told,omitempty"`
	// Owed is what could not be pushed when it ended (intend's undo, outcome).
	Owed *OwedConfigs `json:"owed,omitempty"`
}

// OwedConfigs is what the config repository does not know yet of a run.
type OwedConfigs struct {
	// Revert: the files before the run are to be put back there too.
	Revert bool `json:"revert,omitempty"`
	// Page is the page of history, Content what is in it; Message the commit's.
	Page    string `json:"page"`
	Content string `json:"content"`
	Message string `json:"message"`
	// Why it could not be pushed.
	Why string `json:"why"`
}

// ConfigsOwed says what the config repository was not told; empty for nothing.
func (f *Facts) ConfigsOwed() string {
	if f.Configs == nil || f.Configs.Owed == nil {
		return ""
	}
	return fmt.Sprintf("the config repository was not told how the run ended: %s. `refit resume` tells it", f.Configs.Owed.Why)
}

// errNoConfigs: the run has a configuration and refit.yml none.
var errNoConfigs = errors.New("the run commits to a config repository, and refit.yml has no block configs any more: put it back")

// release is the release as the lock names it.
func (f *Facts) configRelease(artifact string) configs.Release {
	r := configs.Release{Version: f.To.Version.String(), Commit: f.To.Tag.Commit, Tree: f.To.Tag.Tree, Artifact: artifact, Toolchains: map[string]string{}}
	for name, v := range map[string]string{"ruby": f.Recipe.Toolchain.Ruby.Version, "bundler": f.Recipe.Toolchain.Bundler, "node": f.Recipe.Toolchain.Node.Version} {
		if v != "" {
			r.Toolchains[name] = v
		}
	}
	return r
}

// render renders the templates of a commit.
func (c *Configuration) render(commit string, r configs.Release) (map[string][]configs.File, fs.FS, error) {
	tree, err := c.Repo.FS(commit)
	if err != nil {
		return nil, nil, err
	}
	if _, err := fs.Stat(tree, configs.Templates); errors.Is(err, fs.ErrNotExist) {
		return map[string][]configs.File{}, tree, nil
	}
	templates, err := fs.Sub(tree, configs.Templates)
	if err != nil {
		return nil, nil, err
	}
	files, err := configs.Render(templates, c.Fleet, r)
	return files, tree, err
}

func sums(files map[string][]configs.File) map[string]map[string]string {
	out := map[string]map[string]string{}
	for host, list := range files {
		out[host] = map[string]string{}
		for _, f := range list {
			out[host][f.Path] = configs.Sum(fmt.Appendf(nil, "%s %s %04o %s %s %s\n%s", f.Owner, f.Group, f.Mode.Perm(), f.Check, f.Restart, f.Reload, f.Content))
		}
	}
	return out
}

// suspects says what of some files looks like a secret.
func suspects(files map[string][]byte) []string {
	var out []string
	for _, f := range configs.Scan(files) {
		out = append(out, fmt.Sprintf("%s:%d looks like %s%s: secrets do not belong into the config repository; put a reference there, {{secret \"NAME\"}}, and the value into %s on the hosts", f.Path, f.Line, f.Rule, orWhy(f.Name != "", " ("+f.Name+")", ""), node.SecretsFile))
	}
	return out
}

// templatesOf are the team's files, to be looked through for secrets.
func templatesOf(tree fs.FS) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(tree, configs.Templates, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == configs.Templates {
			return fs.SkipAll
		}
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		out[name] = b
		return err
	})
	return out, err
}

// surveyConfigs finds out what the configuration is to be and where hosts differ from it.
// The refusals name their remedy.
func (d Deps) surveyConfigs(ctx context.Context, f *Facts) (refused []string) {
	if d.Configs == nil {
		return nil
	}
	head, err := d.Configs.Repo.Fetch(ctx)
	if err != nil {
		return []string{fmt.Sprintf("the config repository cannot be read: %v", err)}
	}
	files, tree, err := d.Configs.render(head, f.configRelease(""))
	if err != nil {
		return []string{fmt.Sprintf("the config repository at %.12s: %v", head, err)}
	}
	templates, err := templatesOf(tree)
	if err != nil {
		return []string{fmt.Sprintf("the config repository at %.12s: %v", head, err)}
	}
	refused = suspects(templates)
	f.Configs = &Configured{Base: head, Files: sums(files), Differ: map[string][]string{}}
	var mu sync.Mutex
	gather(d.Fleet, func(n Node) {
		if len(files[n.Name]) == 0 {
			return
		}
		out, err := n.Agent.LookConfigs(ctx, d.configIn(n, files[n.Name]))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			refused = append(refused, fmt.Sprintf("the configuration cannot be compared: %v", err))
			return
		}
		if len(out.Lacks) > 0 {
			refused = append(refused, fmt.Sprintf("%s: %s has no value for %s, which its configuration refers to: add each there as a line NAME=value", n.Name, node.SecretsFile, strings.Join(out.Lacks, ", ")))
		}
		if differ := out.Differs(); len(differ) > 0 {
			f.Configs.Differ[n.Name] = differ
		}
	})
	slices.Sort(refused)
	for _, host := range slices.Sorted(maps.Keys(f.Configs.Differ)) {
		f.Said = append(f.Said, fmt.Sprintf("configuration of %s: changes %s", host, strings.Join(f.Configs.Differ[host], ", ")))
	}
	return refused
}

func (d Deps) configIn(n Node, files []configs.File) node.ConfigIn {
	in := node.ConfigIn{Run: n.Agent.Run, Never: []string{d.Proxies.Web, d.Proxies.Streaming}, Leave: n.Units()}
	if in.Run == "" {
		in.Run = "look"
	}
	if d.Configs != nil {
		in.Paths = d.Configs.Paths
	}
	for _, f := range files {
		in.Files = append(in.Files, node.ConfigFile{
			Path: f.Path, Content: f.Content, Owner: f.Owner, Group: f.Group, Mode: uint32(f.Mode.Perm()), Check: f.Check, Restart: f.Restart, Reload: f.Reload,
		})
	}
	return in
}

// staleConfigs refuses a plan whose templates somebody has pushed over. It is asked before
// the run's own first commit alone.
func (d Deps) staleConfigs(ctx context.Context, f *Facts) []string {
	if f.Configs == nil || f.Configs.Intended != "" {
		return nil
	}
	if d.Configs == nil {
		return []string{errNoConfigs.Error()}
	}
	head, err := d.Configs.Repo.Fetch(ctx)
	if err != nil {
		return []string{fmt.Sprintf("the config repository cannot be read: %v", err)}
	}
	if head != f.Configs.Base {
		return []string{stale(d.Configs.Name, f.Configs.Base, head)}
	}
	return nil
}

func stale(name, base, head string) string {
	return fmt.Sprintf("%s has moved: the plan was made on %.12s, and its branch is at %.12s, so what hosts would be given was not looked at by anybody. Plan again", name, base, head)
}

// filesAt are the files of one host as a commit of refit's has them.
func (d Deps) filesAt(ctx context.Context, commit, host string) ([]configs.File, error) {
	tree, err := d.Configs.Repo.FS(commit)
	if err != nil {
		// This machine may not have seen it yet.
		if _, ferr := d.Configs.Repo.Fetch(ctx); ferr != nil {
			return nil, errors.Join(err, ferr)
		}
		if tree, err = d.Configs.Repo.FS(commit); err != nil {
			return nil, err
		}
	}
	_, files, err := configs.ReadTree(tree)
	if err != nil {
		return nil, fmt.Errorf("the config repository at %.12s: %w", commit, err)
	}
	return files[host], nil
}

// own are refit's files in a tree: what is rendered, and the lock.
func own(tree fs.FS) (map[string][]byte, error) {
	out, err := configs.Removed(tree, nil)
	if err != nil {
		return nil, err
	}
	out[configs.LockFile] = nil
	for name := range out {
		b, err := fs.ReadFile(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			delete(out, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", path.Clean(name), err)
		}
		out[name] = append([]byte{}, b...)
	}
	return out, nil
}
