package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func doctorCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look for what would stop every upgrade, and for what crashed runs left behind",
		Flags: []cli.Flag{configFlag(), jsonFlag(), &cli.BoolFlag{Name: "fix", Usage: "remove what crashed runs left and put drained nodes back into rotation"}},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), newRun(), "doctor", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if c.Bool("fix") {
				if err := x.fix(c.Context, s.progress()); err != nil {
					return err
				}
			}
			v := x.deps.Look(c.Context, nil, s.progress())
			refused, said := x.deps.Fleetwide(v)
			left, err := x.leftovers(c.Context, false)
			if err != nil {
				refused = append(refused, err.Error())
			}
			if c.Bool("json") {
				if err := printJSON(s.out, map[string]any{"schema": "refit.doctor/v1", "faults": refused, "known": said, "left": left}); err != nil {
					return err
				}
			} else {
				for _, part := range []struct {
					title string
					lines []string
				}{{"stands against every upgrade", refused}, {"to be known", said}, {"left by earlier runs (refit doctor --fix removes it)", left}} {
					if len(part.lines) > 0 {
						fmt.Fprintf(s.out, "%s\n  - %s\n", part.title, strings.Join(part.lines, "\n  - "))
					}
				}
			}
			if len(refused) > 0 {
				return exitWith(exitRefused, silent{})
			}
			if !c.Bool("json") {
				_, err = fmt.Fprintln(s.out, "nothing stands against an upgrade")
			}
			return err
		},
	}
}

// leftovers lists, or clears, what crashed runs left on hosts.
func (x *session) leftovers(ctx context.Context, clear bool) ([]string, error) {
	var mu sync.Mutex
	var out []string
	err := x.everywhere(func(n stages.Node) error {
		ask := n.Agent.SweepShow
		if clear {
			ask = n.Agent.Sweep
		}
		found, err := ask(ctx, node.SweepIn{Home: x.deps.Layout.Home, Clear: clear})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, item := range found.Items {
			if item.Kind == "job" && !item.Active {
				continue // a job's record stays until the next of its name: it is how resume finds its result
			}
			out = append(out, fmt.Sprintf("%s: %s %s%s", n.Name, item.Kind, item.Path, map[bool]string{true: " (at work)"}[item.Active]))
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

// fix clears what crashed runs left, under the lease. While a run stands half
// way, its drains are part of it and stay.
func (x *session) fix(ctx context.Context, say pipeline.Say) error {
	if err := x.noneLeft(ctx); err != nil {
		return err
	}
	held, err := pipeline.Hold(ctx, x.keeper, "doctor --fix", pipeline.HoldOptions{})
	if err != nil {
		return lockError(ctx, err)
	}
	defer func() {
		if err := release(ctx, held); err != nil {
			say("%v", err)
		}
	}()
	if err := x.raiseFences(held.Context, x.keeper.Me.String()); err != nil {
		return exitWith(exitRefused, err)
	}
	cleared, err := x.leftovers(held.Context, true)
	if err != nil {
		return err
	}
	for _, line := range cleared {
		say("cleared %s", line)
	}
	var proxies []*node.Agent
	for _, p := range x.deps.Fleet.With(hosts.Proxy) {
		proxies = append(proxies, p.Agent)
	}
	for _, n := range x.deps.Fleet.With(hosts.Web) {
		o := nginx.DrainOptions{Files: []string{x.deps.Proxies.Web, x.deps.Proxies.Streaming}, Address: n.Address}
		out, err := nginx.DrainState(held.Context, proxies, o)
		if err != nil {
			return err
		}
		for proxy, down := range out {
			if !down {
				continue
			}
			if err := x.deps.Answers(held.Context, n); err != nil {
				say("%s is out of rotation on %s and stays so, since it does not answer: %v", n.Name, proxy, err)
				break
			}
			if err := nginx.Undrain(held.Context, proxies, o, func(line string) { say("%s", line) }); err != nil {
				return err
			}
			say("%s is back in rotation", n.Name)
			break
		}
	}
	return nil
}
