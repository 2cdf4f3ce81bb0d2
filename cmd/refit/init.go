package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/cloud"
)

// cloudTokenEnv is where the provider's own tools look for the token too.
const cloudTokenEnv = "DIGITALOCEAN_ACCESS_TOKEN"

// cloudAPI is the provider's own.
const cloudAPI = "https://api.digitalocean.com/"

// inventory is what `refit init` reads of an account. *cloud.Client is one.
type inventory interface {
	Account(ctx context.Context) (cloud.Account, error)
	Droplets(ctx context.Context, tag string) ([]cloud.Droplet, error)
	Balancers(ctx context.Context) ([]cloud.Balancer, error)
	Databases(ctx context.Context) ([]cloud.Database, error)
}

// initRequest is what `refit init` was asked.
type initRequest struct {
	// Token is where the secret is, never the secret: it is what the file will say.
	Token secretConfig
	API   string
	// Tag narrows the account to droplets that have it; "" for all.
	Tag string
	// Domain and Fleet are as given; "" to guess.
	Domain, Fleet string
}

func initCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write what a config repository begins with: a refit.yml from a cloud account, or the workflows; never over a file",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "cloud", Usage: "read the account at DigitalOcean; nothing there is changed"},
			&cli.StringFlag{Name: "token-file", Usage: "the `FILE` that holds the account's token; without it the environment's " + cloudTokenEnv + " is taken"},
			&cli.StringFlag{Name: "tag", Usage: "only droplets that have this `TAG`"},
			&cli.StringFlag{Name: "domain", Usage: "LOCAL_DOMAIN of your Mastodon, such as vmst.io"},
			&cli.StringFlag{Name: "fleet", Usage: "the fleet's `NAME`; the domain without it"},
			&cli.StringFlag{Name: "api", Value: cloudAPI, Usage: "the `URL` of another API of the same kind"},
			&cli.StringFlag{Name: "out", Usage: "write `FILE` instead of standard output; one that is there is left alone"},
		}, gitHubFlags()...),
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("github") && c.Bool("cloud"):
				return exitWith(exitUsage, errors.New("init takes --cloud or --github, not both at once"))
			case c.Bool("github"):
				return s.initGitHub(c)
			case !c.Bool("cloud"):
				return exitWith(exitUsage, errors.New("init needs --cloud or --github; `refit example` prints a commented refit.yml to fill in by hand"))
			}
			if api := c.String("api"); secretIn(api) || !isURL(api, "https", "http") {
				return exitWith(exitUsage, errors.New("--api is no URL such as "+cloudAPI+" without a name or a password in it"))
			}
			r := initRequest{API: c.String("api"), Tag: c.String("tag"), Domain: c.String("domain"), Fleet: c.String("fleet"), Token: secretConfig{Env: cloudTokenEnv}}
			if file := c.String("token-file"); file != "" {
				abs, err := filepath.Abs(file)
				if err != nil {
					return err
				}
				r.Token = secretConfig{File: abs}
			}
			ctx, _, done := trap(c.Context, s.notice)
			defer done()
			api, known, err := openCloud(config{}, cloudConfig{Token: &r.Token, API: r.API}, s.progress())
			if err != nil {
				return exitWith(exitUsage, fmt.Errorf("cannot use the cloud account: %w: set %s, or name the token's file with --token-file", err, cloudTokenEnv))
			}
			if known != "" {
				s.notice(known)
			}
			return r.write(ctx, api, c.String("out"), s)
		},
	}
}

// write reads the account and writes the file, to out or, if that is "", to the
// standard output.
func (r initRequest) write(ctx context.Context, api inventory, out string, s streams) error {
	if out != "" {
		if _, err := os.Lstat(out); err == nil {
			return thereAlready(out)
		}
	}
	seen, err := r.read(ctx, api)
	if err != nil {
		return err
	}
	text := r.render(seen)
	name := out
	if name == "" {
		name = "refit.yml"
		if _, err := s.out.Write(text); err != nil {
			return err
		}
	} else if err := createFile(out, text); err != nil {
		return err
	}
	var wrong *configError
	switch _, err := parseConfig(name, text); {
	case err == nil:
		s.notice(fmt.Sprintf("%s: nothing is left to answer; read the guesses in it, then run `refit doctor`, which holds them to the hosts", name))
	case errors.As(err, &wrong):
		s.notice(fmt.Sprintf("%s asks for what could not be guessed, and refit takes it when that is answered:\n  %s", name, strings.Join(wrong.wrong, "\n  ")))
	default:
		return err
	}
	return nil
}

func thereAlready(path string) error {
	return exitWith(exitRefused, fmt.Errorf("%s is there already and was left as it is: name another with --out, or compare with what init prints without --out", path))
}

// createFile writes a new file whole, or none.
func createFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return thereAlready(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// inventoried is an account as it was read.
type inventoried struct {
	account   cloud.Account
	droplets  []cloud.Droplet
	balancers []cloud.Balancer
	databases []cloud.Database
	// unread is what could not be read and why: it becomes a question.
	unread []string
	// noBalancers and noDatabases: these are of it, so nobody knows whether there are any.
	noBalancers, noDatabases bool
}

func (r initRequest) read(ctx context.Context, api inventory) (inventoried, error) {
	var in inventoried
	var err error
	if in.droplets, err = api.Droplets(ctx, r.Tag); err != nil {
		return in, err
	}
	if len(in.droplets) == 0 {
		if r.Tag != "" {
			return in, fmt.Errorf("the account has no droplet with the tag %s: name another with --tag, or none", r.Tag)
		}
		return in, errors.New("the account has no droplet: is the token of the right team?")
	}
	note := func(what string, err error) {
		if err != nil {
			in.unread = append(in.unread, fmt.Sprintf("%s could not be read: %v", what, err))
		}
	}
	in.account, err = api.Account(ctx)
	note("the account itself", err)
	in.balancers, err = api.Balancers(ctx)
	note("load balancers", err)
	in.noBalancers = err != nil
	in.databases, err = api.Databases(ctx)
	note("databases", err)
	in.noDatabases = err != nil
	return in, ctx.Err()
}
