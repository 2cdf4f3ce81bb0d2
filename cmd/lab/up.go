package main

import (
	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// standinGems are what the stand-in's Gemfile names.
var standinGems = []string{
	"railties", "activerecord", "actionpack", "puma", "sidekiq", "pg", "redis", "bootsnap", "dotenv", "connection_pool",
}

func upWord() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "boot the fleet and put the first release on it",
		Description: "With --app nothing of the stand-in is asked for: the registry holds the gems of --gems\n" +
			"alone, git sources come from --git, and the database gets the application's own schema\n" +
			"and seeds, then what --seed makes: it finds the tokens of the lab's own users, of whom the\n" +
			"gates and the load are two, as SEED_ADMIN_TOKEN, SEED_PROBE_TOKEN and SEED_LOAD_TOKEN. With --bare the hosts are raised and nothing is built, filled or started.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "app", Usage: "raise the fleet around the git repository in `DIRECTORY` instead of the stand-in; its gems are those of --gems, its seeds its own"},
			&cli.StringFlag{Name: "release", Value: demoPath[0], Usage: "first release (`TAG`)"},
			&cli.BoolFlag{Name: "bare", Usage: "only the hosts: no release is built, placed and started"},
			&cli.BoolFlag{Name: "cloud", Usage: "name the cloud account in refit.yml whose droplets the hosts are"},
			refitFlag(),
			&cli.StringFlag{Name: "gems", Usage: "serve the static gem registry in `DIRECTORY` instead of a made one"},
			&cli.StringFlag{Name: "seed", Usage: "run the Ruby `FILE` by the first release's rails runner once the database is filled"},
			&cli.StringSliceFlag{Name: "package", Usage: "Debian `PACKAGE`s that the hosts have beyond every lab's"},
			&cli.StringFlag{Name: "npm-overlay", Usage: "answer npm packages from the tarballs in `DIRECTORY` first"},
			&cli.StringFlag{Name: "git", Usage: "serve the bare repositories below `DIRECTORY` in the place of public ones (OWNER/NAME.git); the stand-in puts its own gem there"},
		},
		Action: func(c *cli.Context) error {
			tell := say()
			o, err := options(c, tell)
			if err != nil {
				return err
			}
			l, err := lab.Up(c.Context, o)
			if err != nil || c.Bool("bare") {
				return err
			}
			return deploy(c.Context, l, c.String("refit"), tell)
		},
	}
}

// options are those of a fleet: the stand-in's, unless --app names another application.
func options(c *cli.Context, tell lab.Say) (lab.Options, error) {
	o, err := standinOptions(c, c.String("release"), tell)
	if err != nil {
		return o, err
	}
	o.GemRegistry, o.NpmOverlay, o.Git = c.String("gems"), c.String("npm-overlay"), c.String("git")
	o.Cloud = c.Bool("cloud")
	o.Seed, o.More = c.String("seed"), c.StringSlice("package")
	if app := c.String("app"); app != "" {
		return around(o, app), nil
	}
	o.Prepare = prepareServing(o.Cache, o.Git, o.Files, tell)
	return o, nil
}

// around are the options for another application than the stand-in: none of its
// gems is made, and no repository of it.
func around(o lab.Options, app string) lab.Options {
	o.App, o.Prepare, o.Gems = app, nil, nil
	return o
}

// standinOptions are those of a fleet that runs the stand-in, after seeing to it
// that this machine can raise one.
func standinOptions(c *cli.Context, release string, tell lab.Say) (lab.Options, error) {
	if err := lab.Install(c.Context, tell); err != nil {
		return lab.Options{}, err
	}
	if err := lab.Missing(lab.Check(c.Context, c.String("cache"))); err != nil {
		return lab.Options{}, err
	}
	files := c.String("files")
	if files == "" {
		var err error
		if files, err = lab.FindFiles(); err != nil {
			return lab.Options{}, err
		}
	}
	return lab.Options{
		Dir: c.String("dir"), Cache: c.String("cache"), Files: files, Release: release, Gems: standinGems, Say: tell,
		Prepare: prepareStandin(c.String("cache"), files, tell),
	}, nil
}
