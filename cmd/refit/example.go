package main

import (
	"fmt"
	"os"
	"regexp"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/node"
)

// loginName is a user's name as sudoers takes it without quotes.
var loginName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func exampleCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "example",
		Usage: "print a commented refit.yml, or the sudoers file that hosts need for this refit",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "sudoers", Usage: "print the sudoers file instead: the exact right that the ssh user needs"},
			&cli.StringFlag{Name: "user", Value: "refit", Usage: "the ssh `USER` of refit.yml, for --sudoers"},
		},
		Action: func(c *cli.Context) error {
			if !c.Bool("sudoers") {
				_, err := s.out.Write(exampleYML)
				return err
			}
			if user := c.String("user"); !loginName.MatchString(user) || user == "root" {
				return exitWith(exitUsage, fmt.Errorf("--user %q: name the user who logs in on hosts; root needs no sudoers", user))
			}
			text, err := sudoers(c.String("user"))
			if err != nil {
				return err
			}
			_, err = s.out.Write([]byte(text))
			return err
		},
	}
}

// sudoers is the file for this very program: root puts the program on the hosts, and
// the user may run it, and nothing else, as root. docs/adopt.md weighs it against
// the other forms.
func sudoers(user string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find refit's own file: %w", err)
	}
	f, err := os.Open(self)
	if err != nil {
		return "", fmt.Errorf("cannot read refit's own file: %w", err)
	}
	defer f.Close()
	agent, sum, err := node.AgentPath(f)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`# /etc/sudoers.d/refit for refit %[1]s, on every host of the fleet (mode 0440; visudo -cf checks it).
# SHA-256 of this refit: %[2]s
#
# Root puts this refit on every host itself, into a folder that is root's:
#   install -d -o root -g root -m 755 %[3]s %[4]s
#   install -o root -g root -m 755 refit %[5]s
# Each version of refit has its own name and needs its own line. For sudo to compare
# the content at each call too (some 60 ms of CPU), write sha256:DIGEST before the
# path; where %[6]s can write to the folder, that alone keeps nobody out.
%[7]s
`, version, sum, node.StateDir, node.BinDir, agent, user, node.SudoersLine(user, agent)), nil
}
