package main

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/stages"
)

// pullRequestConfig is for a config repository whose branch takes no pushes.
type pullRequestConfig struct {
	// Repository is OWNER/NAME on GitHub; "" for the one of configs.repository.
	Repository string `yaml:"repository"`
	// Wait is how long a run waits until somebody has merged what hosts are to be; 0 for an hour.
	Wait time.Duration `yaml:"wait"`
	// Token may open pull requests and push; nil for configs.token.
	Token *secretConfig `yaml:"token"`
	API   string        `yaml:"api"`
}

// mergeWait is how long a merge is waited for by default, mergeLeast how short that may be:
// a pull request is looked at every quarter of a minute.
const (
	mergeWait  = time.Hour
	mergeLeast = time.Minute
)

// repo is where pull requests are opened.
func (r *configsConfig) repo() (github.Repo, error) {
	return github.ParseRepo(cmp.Or(r.PullRequest.Repository, r.Repository))
}

func (r *configsConfig) checkPullRequest(w *wrongs) {
	p := r.PullRequest
	if p == nil {
		return
	}
	if _, err := r.repo(); err != nil {
		w.say("configs.pull_request.repository", "%v", err)
	}
	if p.Wait != 0 && p.Wait < mergeLeast {
		w.say("configs.pull_request.wait", "%s is less than a minute: a person has to read it", p.Wait)
	}
	if p.Token == nil && r.Token == nil {
		w.say("configs.pull_request.token", "is missing, and so is configs.token: GitHub opens no pull request without one, also where git goes over ssh")
	}
	p.Token.check(w, "configs.pull_request.token")
	if p.API != "" && !isURL(p.API, "https", "http") {
		w.say("configs.pull_request.api", "%q is no URL such as %s", p.API, github.DefaultBaseURL)
	}
}

// wirePulls lets commits be proposed, where refit.yml says so. It asks nobody and reads no
// token yet.
func (c config) wirePulls(to *stages.Configuration, late *lateConfigs, say func(string, ...any)) error {
	p := c.Configs.PullRequest
	if p == nil {
		return nil
	}
	repo, err := c.Configs.repo()
	if err != nil {
		return err
	}
	client := sync.OnceValues(func() (*github.Client, error) {
		o := github.Options{BaseURL: p.API, UserAgent: "refit/" + version, Answer: 10 * time.Second, Patience: 20 * time.Second}
		token, field := p.Token, "configs.pull_request.token"
		if token == nil {
			token, field = c.Configs.Token, "configs.token"
		}
		text, known, err := c.secret(token, field)
		if known != "" {
			say("%s", known)
		}
		if err != nil {
			return nil, err
		}
		o.Token = text
		return github.New(o)
	})
	to.Pulls = &pullRequests{late: late, client: client, repo: repo, base: cmp.Or(c.Configs.Branch, "main")}
	to.Merge = cmp.Or(p.Wait, mergeWait)
	return nil
}

// pullRequests are the config repository's: branches by git, the rest by GitHub's API.
type pullRequests struct {
	late   *lateConfigs
	client func() (*github.Client, error)
	repo   github.Repo
	base   string
}

// Push implements stages.Pulls, as do those that follow.
func (p *pullRequests) Push(ctx context.Context, commit, branch string) error {
	return p.git(func(c *git.Config) error { return c.Propose(ctx, commit, branch) })
}

func (p *pullRequests) git(do func(*git.Config) error) error {
	c, err := p.late.open()
	if err != nil {
		return err
	}
	return do(c)
}

// Head is a branch's.
func (p *pullRequests) Head(ctx context.Context, branch string) (commit string, err error) {
	err = p.git(func(c *git.Config) error { commit, err = c.Proposed(ctx, branch); return err })
	return commit, err
}

// Tree is a commit's.
func (p *pullRequests) Tree(commit string) (tree string, err error) {
	err = p.git(func(c *git.Config) error { tree, err = c.Tree(commit); return err })
	return tree, err
}

// Find looks for one by its branch.
func (p *pullRequests) Find(ctx context.Context, branch string) (github.Pull, error) {
	return p.ask(func(c *github.Client) (github.Pull, error) { return c.FindPull(ctx, p.repo, branch, p.base) })
}

// Open opens one.
func (p *pullRequests) Open(ctx context.Context, branch, title, body string) (github.Pull, error) {
	return p.ask(func(c *github.Client) (github.Pull, error) {
		return c.OpenPull(ctx, p.repo, github.Proposal{Branch: branch, Base: p.base, Title: title, Body: body})
	})
}

// Look is how one stands.
func (p *pullRequests) Look(ctx context.Context, known github.Pull) (github.Pull, error) {
	return p.ask(func(c *github.Client) (github.Pull, error) { return c.LookAtPull(ctx, p.repo, known) })
}

// Close closes one.
func (p *pullRequests) Close(ctx context.Context, number int, why string) (github.Pull, error) {
	return p.ask(func(c *github.Client) (github.Pull, error) { return c.ClosePull(ctx, p.repo, number, why) })
}

func (p *pullRequests) ask(do func(*github.Client) (github.Pull, error)) (github.Pull, error) {
	c, err := p.client()
	if err != nil {
		return github.Pull{}, err
	}
	return do(c)
}

// mayOpen asks whether the token may open pull requests, without opening one: one from the
// branch to itself has no commits, which GitHub refuses to who may, after it has refused
// who may not.
func (p *pullRequests) mayOpen(ctx context.Context) error {
	_, err := p.Open(ctx, p.base, "refit doctor", "Asked by refit doctor, whether the token may open pull requests.")
	if errors.Is(err, github.ErrRefused) {
		return nil
	}
	return err
}
