package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func initCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write what a config repository begins with; never over a file",
		Flags: gitHubFlags(),
		Action: func(c *cli.Context) error {
			if !c.Bool("github") {
				return exitWith(exitUsage, errors.New("init needs --github; `refit example > refit.yml` begins a configuration"))
			}
			return s.initGitHub(c)
		},
	}
}
