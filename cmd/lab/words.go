package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

func checkWord() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "tell what the lab needs of this machine, each with its remedy",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "install", Usage: "install what Debian's packages can give"}},
		Action: func(c *cli.Context) error {
			if c.Bool("install") {
				if err := lab.Install(c.Context, say()); err != nil {
					return err
				}
			}
			bad := 0
			for _, n := range lab.Check(c.Context, c.String("cache")) {
				mark := "ok  "
				if !n.OK {
					mark = "MISS"
					bad++
				}
				fmt.Printf("%s %-12s %s\n", mark, n.Name, n.Found)
				if !n.OK {
					fmt.Printf("     %-12s %s\n", "", n.Remedy)
				}
			}
			if bad > 0 {
				return fmt.Errorf("%d needs are not met", bad)
			}
			return nil
		},
	}
}

func downWord() *cli.Command {
	return &cli.Command{
		Name: "down", Usage: "end the lab and leave nothing of it but its directory and the cache",
		Action: func(c *cli.Context) error { return lab.Down(c.Context, say()) },
	}
}

func statusWord() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the hosts as they are now",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON on standard output"}},
		Action: func(c *cli.Context) error {
			l, err := running(c)
			if err != nil {
				return err
			}
			s, err := l.Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "HOST\tADDRESS\tSTATE\tLINK\tDISK MIB\tMEMORY MIB\tLIVE\tFAILED UNITS")
			for _, h := range s.Hosts {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d of %d\t%d\t%s\t%s\n", h.Name, h.Address, h.State, h.Link, h.DiskUsed, h.Disk, h.Memory, h.Live, h.Failed)
			}
			return t.Flush()
		},
	}
}

// replace becomes another program inside the lab's network.
func replace(argv []string) error {
	runtime.LockOSThread()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	if err := lab.Enter(); err != nil {
		return err
	}
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return nil
}

func execWord() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a program of this machine in the lab's network", ArgsUsage: "-- PROGRAM [ARGUMENT...]",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return &usageError{"exec needs a program: lab exec -- PROGRAM [ARGUMENT...]"}
			}
			if _, err := running(c); err != nil {
				return err
			}
			return replace(c.Args().Slice())
		},
	}
}

func sshWord() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "log in on a host as root, or run a command there", ArgsUsage: "HOST [COMMAND...]",
		Action: func(c *cli.Context) error {
			h, err := host(c)
			if err != nil {
				return err
			}
			l, err := running(c)
			if err != nil {
				return err
			}
			args, err := l.SSHArgs(h)
			if err != nil {
				return err
			}
			return replace(append(args, c.Args().Tail()...))
		},
	}
}
