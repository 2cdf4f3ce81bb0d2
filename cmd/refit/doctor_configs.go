package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/ssh"
)

// probeWithin bounds each question that doctor asks about the config repository.
const probeWithin = time.Minute

// commitSigner signs commits to the config repository; nil where refit.yml names no key.
func (c config) commitSigner() (git.CommitSigner, error) {
	if c.Configs.Sign == "" {
		return nil, nil
	}
	key, err := c.path(c.Configs.Sign)
	if err != nil {
		return nil, err
	}
	return ssh.NewSigner(ssh.SignOptions{KeyFile: key, AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Namespace: signedAs}), nil
}

// configsCheckup says what would keep a run from telling the config repository: it may not be
// pushed to, commits cannot be signed, pull requests cannot be opened. Nothing is written there.
func (x *session) configsCheckup(ctx context.Context) (refused []string) {
	if x.deps.Configs == nil {
		return nil
	}
	ask := func(what, remedy string, probe func(context.Context) error) {
		within, cancel := context.WithTimeout(ctx, probeWithin)
		defer cancel()
		if err := probe(within); err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v: %s", what, err, remedy))
		}
	}
	if late, ok := x.deps.Configs.Repo.(*lateConfigs); ok {
		ask("the config repository takes no push", "give the token write access to contents, or the deploy key write access", func(ctx context.Context) error {
			c, err := late.open()
			if err != nil {
				return err
			}
			return c.MayPush(ctx)
		})
	}
	ask("commits to the config repository cannot be signed", "configs.sign must name an ssh key without a passphrase, or a .pub whose other half the ssh agent has", func(ctx context.Context) error {
		signer, err := x.config.commitSigner()
		if err != nil || signer == nil {
			return err
		}
		_, err = signer.Sign(ctx, []byte("refit doctor"))
		return err
	})
	if pulls, ok := x.deps.Configs.Pulls.(*pullRequests); ok {
		ask("no pull request can be opened", "give the token write access to pull requests and contents of configs.pull_request.repository", pulls.mayOpen)
	}
	return refused
}
