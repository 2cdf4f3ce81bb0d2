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
		Name: "up", Usage: "boot the fleet",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "app", Usage: "raise the fleet around the git repository in `DIRECTORY` instead of the stand-in"},
			&cli.StringFlag{Name: "release", Usage: "first release, whose unit files the nodes get (`TAG`)"},
			&cli.StringFlag{Name: "gems", Usage: "serve the static gem registry in `DIRECTORY` instead of a made one"},
			&cli.StringFlag{Name: "npm-overlay", Usage: "answer npm packages from the tarballs in `DIRECTORY` first"},
		},
		Action: func(c *cli.Context) error {
			tell := say()
			if err := lab.Install(c.Context, tell); err != nil {
				return err
			}
			if err := lab.Missing(lab.Check(c.Context, c.String("cache"))); err != nil {
				return err
			}
			files := c.String("files")
			if files == "" {
				var err error
				if files, err = lab.FindFiles(); err != nil {
					return err
				}
			}
			o := lab.Options{
				Dir: c.String("dir"), Cache: c.String("cache"), Files: files, App: c.String("app"), Release: c.String("release"),
				Gems: standinGems, GemRegistry: c.String("gems"), NpmOverlay: c.String("npm-overlay"), Say: tell,
			}
			if o.App == "" {
				o.Prepare = prepareStandin(o.Cache, files, tell)
				if o.Release == "" {
					o.Release = "v4.5.0"
				}
			}
			_, err := lab.Up(c.Context, o)
			return err
		},
	}
}
