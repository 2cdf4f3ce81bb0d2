package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// demoPath is the way that the demo upgrades: a patch, a minor with migrations
// that old code lives with, and one with migrations that it does not.
var demoPath = []string{"v4.5.1", "v4.5.2", "v4.6.0", "v4.7.0"}

func demoWord() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "raise the fleet and upgrade it three times under load, watched live",
		Flags: []cli.Flag{refitFlag(), &cli.BoolFlag{Name: "keep", Usage: "leave the lab up afterwards"}},
		Action: func(c *cli.Context) (err error) {
			ctx, tell := c.Context, say()
			o, err := standinOptions(c, demoPath[0], tell)
			if err != nil {
				return err
			}
			l, err := lab.Up(ctx, o)
			if err != nil {
				return err
			}
			if !c.Bool("keep") {
				defer func() {
					if derr := lab.Down(context.WithoutCancel(ctx), tell); derr != nil && err == nil {
						err = derr
					}
				}()
			}
			if err := deploy(ctx, l, c.String("refit"), tell); err != nil {
				return err
			}
			return demo(ctx, l, c.String("refit"), tell)
		},
	}
}

// demoReport is .lab/demo/report.json.
type demoReport struct {
	Schema   string        `json:"schema"` // "refit.demo/v1"
	Requests requestsCount `json:"requests"`
	Events   eventsCount   `json:"events"`
	// Upgrades in their order.
	Upgrades []upgradeReport `json:"upgrades"`
}

type requestsCount struct {
	Sent   int `json:"sent"`
	Failed int `json:"failed"`
}

// eventsCount: lost means not delivered to a client that was connected throughout.
type eventsCount struct {
	Sent int `json:"sent"`
	Lost int `json:"lost"`
}

type upgradeReport struct {
	From    string       `json:"from"`
	To      string       `json:"to"`
	Seconds float64      `json:"seconds"`
	Steps   []stepReport `json:"steps"`
}

type stepReport struct {
	Name    string  `json:"name"`
	Host    string  `json:"host,omitempty"`
	Seconds float64 `json:"seconds"`
}

// demo upgrades the fleet along demoPath under load and writes the report.
func demo(ctx context.Context, l *lab.Lab, program string, tell lab.Say) error {
	load, err := l.StartLoad(ctx, lab.LoadOptions{})
	if err != nil {
		return err
	}
	r := demoReport{Schema: "refit.demo/v1"}
	for i, to := range demoPath[1:] {
		tell("refit upgrade --to %s --yes, with users at work", to)
		u, err := upgradeLive(ctx, l, program, demoPath[i], to)
		if err != nil {
			met := load.Stop()
			return fmt.Errorf("%w (users: %d requests, %d failed%s)", err, met.Requests.Sent, met.Requests.Failed, failures(met))
		}
		r.Upgrades = append(r.Upgrades, u)
	}
	met := load.Stop()
	r.Requests = requestsCount{met.Requests.Sent, met.Requests.Failed}
	r.Events = eventsCount{met.Events.Sent, met.Events.Lost}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(l.Dir, "demo", "report.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Println()
	for _, u := range r.Upgrades {
		fmt.Printf("%s → %s in %.0f s\n", u.From, u.To, u.Seconds)
		for _, s := range u.Steps {
			fmt.Printf("  %6.1f s  %s\n", s.Seconds, s.Name)
		}
	}
	fmt.Printf("\nusers sent %d requests, %d failed; %d posts were streamed, %d were not delivered to a client connected throughout\nreport: %s\n",
		r.Requests.Sent, r.Requests.Failed, r.Events.Sent, r.Events.Lost, file)
	if r.Requests.Failed > 0 || r.Events.Lost > 0 {
		return fmt.Errorf("users noticed: %d requests failed, %d events were lost%s", r.Requests.Failed, r.Events.Lost, failures(met))
	}
	return nil
}

// upgradeLive runs one upgrade with refit's own live view on this terminal.
func upgradeLive(ctx context.Context, l *lab.Lab, program, from, to string) (upgradeReport, error) {
	c, err := refitCommand(ctx, l, program, "upgrade", "--to", to, "--yes", "--json")
	if err != nil {
		return upgradeReport{}, err
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	began := time.Now()
	if err := c.Run(); err != nil {
		return upgradeReport{}, fmt.Errorf("refit upgrade --to %s: %w", to, err)
	}
	u := upgradeReport{From: from, To: to, Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds()}
	var answer struct {
		Steps []stepReport `json:"steps"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return u, fmt.Errorf("cannot read refit's report: %w", err)
	}
	u.Steps = answer.Steps
	return u, nil
}

// failures lists what users would have seen fail, a line each.
func failures(met lab.LoadReport) string {
	var b strings.Builder
	for _, f := range met.Failures {
		fmt.Fprintf(&b, "\n  %s %s %s %s", f.At.Format(time.TimeOnly), f.Kind, f.Node, f.Text)
	}
	return b.String()
}
