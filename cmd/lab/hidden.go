package main

import (
	"fmt"
	"net"
	"net/http"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// hiddenWords are run by the lab itself: the mirrors on this machine, the others on
// its hosts.
func hiddenWords() []*cli.Command {
	serve := func(c *cli.Context, h http.Handler) error {
		ln, err := net.Listen("tcp", c.String("listen"))
		if err != nil {
			return fmt.Errorf("cannot listen: %w", err)
		}
		return lab.Serve(c.Context, ln, h)
	}
	return []*cli.Command{
		{
			Name: "mirrors", Hidden: true,
			Action: func(c *cli.Context) error {
				l, err := running(c)
				if err != nil {
					return err
				}
				return l.Mirrors(c.Context)
			},
		},
		{
			Name: "opensearch", Hidden: true,
			Flags: []cli.Flag{&cli.StringFlag{Name: "listen", Required: true}, &cli.StringFlag{Name: "data", Required: true}},
			Action: func(c *cli.Context) error {
				s, err := lab.NewSearch(c.String("data"))
				if err != nil {
					return err
				}
				return serve(c, s)
			},
		},
		{
			Name: "git-http", Hidden: true,
			Flags:  []cli.Flag{&cli.StringFlag{Name: "listen", Required: true}, &cli.StringFlag{Name: "root", Required: true}},
			Action: func(c *cli.Context) error { return serve(c, lab.GitHTTP(c.String("root"))) },
		},
	}
}
