package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// faultWords break and mend the fleet.
func faultWords() []*cli.Command {
	// one is a word with a host and nothing else.
	one := func(name, usage string, deed func(*lab.Lab, context.Context, string) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "HOST", Category: "faults", Action: func(c *cli.Context) error {
			h, err := host(c)
			if err != nil {
				return err
			}
			if c.Args().Len() > 1 {
				return &usageError{fmt.Sprintf("%s takes one host only", name)}
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			return deed(l, c.Context, h)
		}}
	}
	// two is a word with a host and one more thing.
	two := func(name, usage, what string, deed func(*lab.Lab, context.Context, string, string) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "HOST " + what, Category: "faults", Action: func(c *cli.Context) error {
			if c.Args().Len() != 2 {
				return &usageError{fmt.Sprintf("%s needs two words: lab %s HOST %s", name, name, what)}
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			return deed(l, c.Context, c.Args().Get(0), c.Args().Get(1))
		}}
	}
	// none is a word for the whole fleet.
	none := func(name, usage string, deed func(*lab.Lab, context.Context) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, Category: "faults", Action: func(c *cli.Context) error {
			if c.Args().Len() != 0 {
				return &usageError{name + " takes no words"}
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			return deed(l, c.Context)
		}}
	}
	return []*cli.Command{
		one("cut", "take the host off the network: packets vanish", (*lab.Lab).Cut),
		one("heal", "put the host back on the network", (*lab.Lab).Heal),
		one("freeze", "stop all processes of the host; its kernel still accepts connections", (*lab.Lab).Freeze),
		one("thaw", "let the host's processes go on", (*lab.Lab).Thaw),
		one("reboot", "reboot the host and wait until it is up", (*lab.Lab).Reboot),
		one("poweroff", "switch the host off hard; its disk stays", (*lab.Lab).PowerOff),
		one("start", "boot a host that is off and wait until it is up", (*lab.Lab).Start),
		two("kill", "kill a unit's processes, or all processes of a name, with SIGKILL", "UNIT|NAME", (*lab.Lab).Kill),
		two("stop-service", "stop a unit of the host", "UNIT", (*lab.Lab).StopService),
		two("start-service", "start a unit of the host", "UNIT", (*lab.Lab).StartService),
		one("fill", "fill the host's disk", (*lab.Lab).Fill),
		one("free", "free what fill took", (*lab.Lab).Free),
		two("limit", "limit the host's link in both directions, as tc writes rates (64kbps is 64 kB/s)", "RATE", (*lab.Lab).Limit),
		one("unlimit", "take the limit off the host's link", (*lab.Lab).Unlimit),
		two("snapshot", "keep the host's disk as it is now", "NAME", (*lab.Lab).Snapshot),
		two("restore", "put a kept disk back and boot the host from it", "NAME", (*lab.Lab).Restore),
		none("promote-standby", "make the warm standby the primary; the database's address moves to it", (*lab.Lab).PromoteStandby),
		none("rebuild-standby", "copy the primary to the other database host, which then follows it", (*lab.Lab).RebuildStandby),
		none("move-redis", "move Redis to its other address", (*lab.Lab).MoveRedis),
	}
}
