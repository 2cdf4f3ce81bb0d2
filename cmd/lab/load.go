package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

func loadWord() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "send users to the site for some time and tell what they met",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for", Value: 30 * time.Second, Usage: "how long; ctrl-c ends it earlier"},
			&cli.IntFlag{Name: "rate", Value: 60, Usage: "requests a second"},
			&cli.IntFlag{Name: "sockets", Value: 6, Usage: "open websockets"},
			&cli.StringSliceFlag{Name: "token", Usage: "access `TOKEN`s that post and ask in turn, the first also listens (default: the lab's own)"},
			&cli.DurationFlag{Name: "arrive", Value: 5 * time.Second, Usage: "how long a post may take to reach a client that listens before it is lost"},
			&cli.StringSliceFlag{Name: "page", Usage: "`PATH`s of pages (default: the stand-in's)"},
			&cli.StringSliceFlag{Name: "api", Usage: "`PATH`s asked for with the token (default: the stand-in's)"},
			&cli.StringSliceFlag{Name: "slow", Usage: "`PATH`s that take their time (default: the stand-in's)"},
			&cli.BoolFlag{Name: "json", Usage: "the report as JSON on standard output"},
		},
		Action: func(c *cli.Context) error {
			l, err := running(c)
			if err != nil {
				return err
			}
			load, err := l.StartLoad(c.Context, lab.LoadOptions{
				Rate: c.Int("rate"), Sockets: c.Int("sockets"), Tokens: c.StringSlice("token"), Arrive: c.Duration("arrive"),
				Pages: c.StringSlice("page"), API: c.StringSlice("api"), Slow: c.StringSlice("slow"),
			})
			if err != nil {
				return err
			}
			select {
			case <-c.Context.Done():
			case <-time.After(c.Duration("for")):
			}
			r := load.Stop()
			if c.Bool("json") {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			fmt.Print(r)
			return nil
		},
	}
}
