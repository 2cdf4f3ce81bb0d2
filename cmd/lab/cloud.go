package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// cloudWord is what happens to the cloud account of a lab that was raised with one.
func cloudWord() *cli.Command {
	wrong := func(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error()} }
	one := func(name, usage, what string, deed func(*cli.Context, *lab.Lab, string) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: what, OnUsageError: wrong, Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return &usageError{"cloud " + name + " needs one word: lab cloud " + name + " " + what}
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			return deed(c, l, c.Args().First())
		}}
	}
	none := func(name, usage string, deed func(*cli.Context, *lab.Lab) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, OnUsageError: wrong, Action: func(c *cli.Context) error {
			if c.Args().Len() != 0 {
				return &usageError{"cloud " + name + " takes no words"}
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			return deed(c, l)
		}}
	}
	return &cli.Command{
		Name: "cloud", Usage: "trouble the cloud account of a lab that was raised with --cloud",
		Action: func(c *cli.Context) error {
			return &usageError{"cloud needs a word: trouble, calm, faults, backup-age, restart"}
		},
		Subcommands: []*cli.Command{
			one("trouble", "let the account fail by a rule (`JSON` of cloudtest.Trouble)", "JSON", func(c *cli.Context, l *lab.Lab, rule string) error {
				return l.CloudTrouble(c.Context, rule)
			}),
			one("backup-age", "make the newest backup of the database so old (30h)", "DURATION", func(_ *cli.Context, l *lab.Lab, word string) error {
				age, err := time.ParseDuration(word)
				if err != nil || age < 0 {
					return &usageError{"cloud backup-age needs a duration such as 30h, not " + word}
				}
				return l.SetBackupAge(age)
			}),
			none("calm", "end all troubles of the account", func(c *cli.Context, l *lab.Lab) error { return l.CloudCalm(c.Context) }),
			none("faults", "tell what went wrong behind the account where no answer could", func(c *cli.Context, l *lab.Lab) error {
				faults, err := l.CloudFaults(c.Context)
				fmt.Print(faults)
				return err
			}),
			none("restart", "kill the account's server, whatever it is at, and start it again", func(c *cli.Context, l *lab.Lab) error {
				return l.RestartCloud(c.Context)
			}),
		},
	}
}
