package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab/bench"
	"vmst.io/refit/hosts/node"
)

func bytesWord() *cli.Command {
	return &cli.Command{
		Name: "bytes", Usage: "compare ways to bring a release to a node that has an older one: bytes, time, memory; needs no lab",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`DIRECTORY` of the built release that the node has, such as releases/v4.5.14"},
			&cli.StringFlag{Name: "to", Usage: "`DIRECTORY` of the one that it is to get"},
			&cli.StringSliceFlag{Name: "way", Usage: "`WAY`s: refit, patch-from, rsync, tar.zst (default: all)"},
			&cli.Int64SliceFlag{Name: "mbit", Usage: "`RATE`s of the link in Mbit/s; 0 for no limit (default: 0 and 100)"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "how often each way is measured"},
		},
		Action: func(c *cli.Context) (err error) {
			if c.String("from") == "" || c.String("to") == "" {
				return &usageError{"bytes needs --from and --to, two directories of built releases"}
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("cannot find the lab's own file: %w", err)
			}
			work, err := os.MkdirTemp("", "lab-bytes-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
			tell := say()
			b := bench.Bytes{From: c.String("from"), To: c.String("to"), Work: work, Ways: c.StringSlice("way"), Rounds: c.Int("rounds"), Self: self, Say: tell}
			for _, n := range c.Int64Slice("mbit") {
				b.Rates = append(b.Rates, n*1_000_000/8)
			}
			all, err := b.Run(c.Context)
			if len(all) > 0 {
				fmt.Print(bench.BytesTable(all))
			}
			return err
		},
	}
}

// agentWord is what bytes runs in a host's place: a verb with a state of its own.
func agentWord() *cli.Command {
	return &cli.Command{
		Name: "agent", Hidden: true,
		Flags: []cli.Flag{&cli.StringFlag{Name: "state", Required: true}},
		Action: func(c *cli.Context) error {
			m := node.Machine{State: c.String("state"), Agent: "/var/lib/refit/bin/refit-bench"}
			return m.Serve(c.Context, m.Verbs(), c.Args().Slice(), os.Stdin, os.Stdout)
		},
	}
}
