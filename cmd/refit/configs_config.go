package main

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/stages"
)

// configsConfig is the config repository (docs/configs.md).
type configsConfig struct {
	Repository string `yaml:"repository"`
	Branch     string `yaml:"branch"`
	// Token is for https, Key and KnownHosts are for ssh; those of the block ssh where they
	// are left out.
	Token      *secretConfig `yaml:"token"`
	Key        string        `yaml:"key"`
	KnownHosts string        `yaml:"known_hosts"`
	// Sign is the ssh key that signs commits; "" for none.
	Sign   string              `yaml:"sign"`
	Author configsAuthorConfig `yaml:"author"`
	// Cache is the folder of the clone; "" for one in the user's cache.
	Cache string `yaml:"cache"`
	// Paths are those outside of /etc that files may have, beside .env.production.
	Paths []string `yaml:"paths"`
	// PullRequest is for a branch that takes no pushes; nil for pushing.
	PullRequest *pullRequestConfig `yaml:"pull_request"`
}

type configsAuthorConfig struct {
	Name  string `yaml:"name"`
	Email string `yaml:"email"`
}

// signedAs is the namespace of git's signatures (gpg.format=ssh).
const signedAs = "git"

func (c config) checkConfigs(w *wrongs) {
	r := c.Configs
	if r == nil {
		return
	}
	web := strings.HasPrefix(r.Repository, "https://") || strings.HasPrefix(r.Repository, "http://")
	switch {
	case r.Repository == "":
		w.say("configs.repository", "is missing: the URL of the config repository")
	case strings.Contains(strings.TrimPrefix(strings.TrimPrefix(r.Repository, "https://"), "http://"), "@") && web:
		w.say("configs.repository", "has a name or a password in it: give configs.token instead")
	case r.Token != nil && !web:
		w.say("configs.token", "is for https, and the repository is reached otherwise: leave it out, or give the https URL")
	}
	r.Token.check(w, "configs.token")
	if strings.ContainsAny(r.Branch, " ~^:?*[\\") || strings.HasPrefix(r.Branch, "-") || strings.HasPrefix(r.Branch, "refs/") {
		w.say("configs.branch", "%q is no branch's name", r.Branch)
	}
	if strings.ContainsAny(r.Author.Name+r.Author.Email, "<>\n") {
		w.say("configs.author", "a name and an address have no <, > or line breaks in them")
	}
	for _, p := range r.Paths {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			w.say("configs.paths", "%q is no clean absolute path", p)
		}
	}
	r.checkPullRequest(w)
}

// lateConfigs is the config repository, opened at the first question: what asks nothing of
// it, such as status, works without it.
type lateConfigs struct {
	open func() (*git.Config, error)
}

func (l *lateConfigs) Fetch(ctx context.Context) (string, error) {
	c, err := l.open()
	if err != nil {
		return "", err
	}
	return c.Fetch(ctx)
}

func (l *lateConfigs) FS(commit string) (fs.FS, error) {
	c, err := l.open()
	if err != nil {
		return nil, err
	}
	return c.FS(commit)
}

func (l *lateConfigs) Commit(ctx context.Context, base string, changes map[string][]byte, message string) (string, error) {
	c, err := l.open()
	if err != nil {
		return "", err
	}
	return c.Commit(ctx, base, changes, message)
}

func (l *lateConfigs) Push(ctx context.Context, commit, base string) error {
	c, err := l.open()
	if err != nil {
		return err
	}
	return c.Push(ctx, commit, base)
}

func (l *lateConfigs) Log(ctx context.Context, path string, n int) ([]git.Entry, error) {
	c, err := l.open()
	if err != nil {
		return nil, err
	}
	return c.Log(ctx, path, n)
}

// wireConfigs puts in the config repository that was written down. It asks it nothing, and
// reads no token and no key.
func (x *session) wireConfigs(command string) error {
	c := x.config
	if c.Configs == nil {
		return nil
	}
	me, err := keeper.Me(command)
	if err != nil {
		return err
	}
	late := &lateConfigs{open: sync.OnceValues(func() (*git.Config, error) { return openConfigs(c, x.say) })}
	x.deps.Configs = &stages.Configuration{
		Repo:  late,
		Name:  "the config repository",
		Fleet: c.asTemplatesSee(),
		Paths: append([]string{x.deps.Layout.EnvFile}, c.Configs.Paths...),
		By:    me.User + "@" + me.Host,
	}
	return c.wirePulls(x.deps.Configs, late, x.say)
}

func openConfigs(c config, say func(string, ...any)) (*git.Config, error) {
	r := *c.Configs
	o := git.ConfigOptions{
		URL: r.Repository, Branch: cmp.Or(r.Branch, "main"),
		Author: git.Person{Name: cmp.Or(r.Author.Name, "refit"), Email: cmp.Or(r.Author.Email, "refit@"+c.Domain)},
	}
	var err error
	for _, p := range []struct {
		to   *string
		from string
	}{{&o.Key, cmp.Or(r.Key, c.SSH.Key)}, {&o.KnownHosts, cmp.Or(r.KnownHosts, c.SSH.KnownHosts)}, {&o.Dir, r.Cache}} {
		if *p.to, err = c.path(p.from); err != nil {
			return nil, err
		}
	}
	if r.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		o.Dir = filepath.Join(dir, "refit", "configs", c.Fleet)
	}
	if r.Token != nil {
		o.Token = func() (string, error) {
			text, known, err := c.secret(r.Token, "configs.token")
			if known != "" {
				say("%s", known)
			}
			return text, err
		}
	}
	signer, err := c.commitSigner()
	if err != nil {
		return nil, err
	}
	o.Sign = signer
	return git.OpenConfig(context.Background(), o)
}

// asTemplatesSee is the fleet in the words of templates.
func (c config) asTemplatesSee() configs.Fleet {
	f := configs.Fleet{Name: c.Fleet, Domain: c.Domain}
	for _, h := range c.Hosts {
		host := configs.Host{Name: h.Name, Address: h.Address, Droplet: h.Droplet}
		for _, r := range h.Roles {
			host.Roles = append(host.Roles, string(r))
		}
		if h.Web != nil {
			host.Web = configs.Web{Port: h.Web.Port, Streaming: h.Web.Streaming}
		}
		for _, u := range h.Sidekiq {
			host.Sidekiq = append(host.Sidekiq, configs.Unit{Unit: u.Unit, Queues: u.Queues})
		}
		f.Hosts = append(f.Hosts, host)
	}
	return f
}
