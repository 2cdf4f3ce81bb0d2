package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

func statusCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show where every host and the newest run stand, and what comes next",
		Flags: []cli.Flag{configFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), "", "status", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			st := x.status(c.Context)
			s.job.status(st, st.half())
			if c.Bool("json") {
				err = printJSON(s.out, st)
			} else {
				err = st.text(s.out)
			}
			if err != nil {
				return err
			}
			if st.KeeperError != "" {
				return exitWith(exitPerson, silent{})
			}
			return nil
		},
	}
}

// status is what `refit status` shows.
type status struct {
	Schema string           `json:"schema"` // "refit.status/v1"
	Fleet  string           `json:"fleet"`
	Hosts  []report.HostRow `json:"hosts"`
	// Lease is the keeper's; KeeperError why it could not be read.
	Lease       *keeper.Lease `json:"lease,omitempty"`
	KeeperError string        `json:"keeper_error,omitempty"`
	// Run is the newest upgrade; empty if there never was one.
	Run *runStatus `json:"run,omitempty"`
	// Copy is where Run was read without the keeper: the folder of this machine's copies.
	Copy string `json:"copy,omitempty"`
	// Database says, without the keeper, which migrations of the run it has.
	Database string `json:"database,omitempty"`
	Next     string `json:"next"`

	newest *pipeline.Journal
}

type runStatus struct {
	ID      string                `json:"id"`
	From    string                `json:"from"`
	To      string                `json:"to"`
	Created time.Time             `json:"created"`
	Outcome pipeline.Status       `json:"outcome"`
	Stands  string                `json:"stands"`
	Steps   []pipeline.StepResult `json:"steps"`
	// Images are those in the cloud account, in words.
	Images []string `json:"images,omitempty"`
	// Restore says how the database gets back to what it was before a run that did not
	// end well.
	Restore []string `json:"restore,omitempty"`
	// ConfigsOwed is what the config repository was not told when the run ended.
	ConfigsOwed string `json:"configs_owed,omitempty"`
}

func (x *session) status(ctx context.Context) status {
	st := status{Schema: "refit.status/v1", Fleet: x.config.Fleet}
	// Keeper and hosts are asked at once: one that is cut takes a while to tell.
	var wg sync.WaitGroup
	wg.Go(func() { st.Hosts = x.visit(ctx) })
	lease, err := x.keeper.Show(ctx)
	wg.Wait()
	if err != nil {
		st.KeeperError = err.Error()
		st.Next = nextWithout(x.withoutKeeper(ctx, err))
		x.witnesses(ctx, &st)
		return st
	}
	st.Lease = &lease
	j, err := x.latest(ctx)
	switch {
	case err != nil:
		st.KeeperError, st.Next = err.Error(), nextWithout(err)
		x.witnesses(ctx, &st)
		return st
	case j != nil:
		st.Run, st.newest = statusOf(j), j
	}
	succeeds := x.keeper.Succeeds(lease)
	st.Next = nextOf(lease, succeeds, j)
	if (j == nil || j.Finished()) && slices.ContainsFunc(st.Hosts, func(h report.HostRow) bool { return strings.Contains(h.State, outOfRotation) }) {
		st.Next += "; but a node is out of rotation: `refit doctor --fix` puts it back"
	}
	if j == nil || j.Finished() {
		record, err := x.deps.Recorded(ctx)
		if err != nil {
			st.KeeperError = err.Error()
		}
		if lines := x.outOfStep(st.Hosts, record.Release); len(lines) > 0 {
			st.Next = strings.Join(lines, "; ")
		}
	}
	return st
}

// nextOf is the next thing to do. succeeds: the lease's holder works no more, and the
// next command takes it over by itself.
func nextOf(l keeper.Lease, succeeds bool, j *pipeline.Journal) string {
	var next, dead string
	if succeeds {
		dead = fmt.Sprintf("%s, who holds the lease, works no more: ", l.Holder)
	}
	switch {
	case l.Held && !succeeds:
		return "wait for the run at work, or `refit unlock` if its holder is dead"
	case j == nil || j.Finished():
		next = "nothing: no run was left half way"
	case j.Next != "":
		next = j.Next
	case j.OneWay() != "":
		next = "`refit resume` to go on; there is no way back any more"
	case j.Direction == pipeline.Backward:
		next = "`refit resume` to end going back"
	default:
		next = "`refit resume` to go on, or `refit rollback` to go back"
	}
	return dead + next
}

const outOfRotation = "out of rotation on "

// visit asks every host where it stands, and every proxy in the same visit whom it
// has out of rotation. Of a fleet larger than what is asked at once only so many
// connections are open: a host that has answered is hung up on.
func (x *session) visit(ctx context.Context) []report.HostRow {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	fleet := x.deps.Fleet
	rows, down := make([]report.HostRow, len(fleet)), make([]map[string]bool, len(fleet))
	many(len(fleet), func(i int) {
		n := fleet[i]
		rows[i] = report.HostRow{Name: n.Name, Roles: roles(n)}
		rows[i].State, rows[i].Release = x.stateOf(ctx, n)
		if n.Has(hosts.Proxy) && rows[i].State != silentHost && rows[i].State != unreachableHost {
			down[i] = x.downOn(ctx, n)
		}
		if len(fleet) > atOnce && !n.Has(hosts.Keeper) {
			x.hangUp(n)
		}
	})
	for i, n := range fleet {
		var on []string
		for p := range fleet {
			if n.Has(hosts.Web) && down[p][n.Name] {
				on = append(on, fleet[p].Name)
			}
		}
		if len(on) > 0 {
			rows[i].State += ", " + outOfRotation + strings.Join(on, ", ")
		}
	}
	return rows
}

// downOn are the web nodes that a proxy has out of rotation. Of one that cannot be
// read nothing is said here: doctor names it.
func (x *session) downOn(ctx context.Context, proxy stages.Node) map[string]bool {
	out, err := nginx.GetUpstream(ctx, proxy.Agent, nginx.UpstreamIn{Files: []string{x.deps.Proxies.Web, x.deps.Proxies.Streaming}})
	if err != nil {
		return nil
	}
	names := map[string]bool{}
	for _, n := range x.deps.Fleet.With(hosts.Web) {
		if down, known := out.Down(n.Address); known && down {
			names[n.Name] = true
		}
	}
	return names
}

// hangUp ends a host's connection; asked again, it is reached by another one.
func (x *session) hangUp(n stages.Node) {
	if c := x.conns[n.Name]; c != nil {
		if err := c.HangUp(); err != nil {
			x.say("%s: %v", n.Name, err)
		}
	}
}

func statusOf(j *pipeline.Journal) *runStatus {
	st := &runStatus{ID: j.ID, From: j.From, To: j.To, Created: j.Created, Outcome: j.Outcome, Stands: standingOf(j), Steps: j.Progress(), Images: imagesOf(j)}
	f := &stages.Facts{}
	if err := j.LoadFacts(f); err != nil {
		st.Restore = []string{"what the database could be restored to cannot be read: " + err.Error()}
	} else {
		st.Restore, st.ConfigsOwed = restores(j.Outcome, f), f.ConfigsOwed()
	}
	return st
}

// witnesses completes a status without the keeper's journals: by this machine's copy,
// and by what the hosts and the database say themselves.
func (x *session) witnesses(ctx context.Context, st *status) {
	facts := &stages.Facts{}
	if dir, err := keeper.MirrorDir(x.config.Fleet); err == nil {
		if j, _, err := readable(ctx, &keeper.Dir{Path: dir}); err == nil && j != nil && halfWay(j) && j.LoadFacts(facts) == nil {
			st.Run, st.Copy, st.newest = statusOf(j), dir, j
		}
	}
	// Who did not answer just now is not waited for again.
	deps := x.deps
	for _, row := range st.Hosts {
		if row.State == silentHost || row.State == unreachableHost {
			deps.Fleet = deps.Fleet.But(row.Name)
		}
	}
	if len(deps.Fleet.With(hosts.Sidekiq)) == 0 {
		return
	}
	t := deps.Testify(ctx)
	for i, row := range st.Hosts {
		if w, ok := t.Hosts[row.Name]; ok {
			st.Hosts[i].State = w.Stands()
		}
	}
	st.Database = t.Migrations(facts)
}

// nextWithout is the next thing to do where the keeper's files cannot be read.
func nextWithout(err error) string {
	if gone, ok := errors.AsType[*keeperGone](err); ok {
		if errors.Is(err, keeper.ErrDamaged) {
			return "the lease cannot be read: `refit unlock` replaces it"
		}
		return gone.next()
	}
	if exitCode(err) == exitAuth {
		return "let the keeper accept this key, or compare its host key, then see `refit status`"
	}
	if errors.Is(err, keeper.ErrNewerFormat) || errors.Is(err, pipeline.ErrNewerFormat) {
		return "use the newer refit: an older one cannot read what it wrote"
	}
	return "`refit resume --from-hosts` rebuilds where the run stands from this machine's copy and from what the hosts say, shows it, and asks"
}

// half tells that the newest run must be ended before another begins.
func (st status) half() bool { return st.newest != nil && halfWay(st.newest) }

func (st status) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n\n", st.Fleet)
	for _, h := range st.Hosts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", h.Name, h.Roles, h.Release, h.State)
	}
	if st.Run != nil {
		fmt.Fprintf(t, "\nrun %s, %s → %s: %s\n", st.Run.ID, st.Run.From, st.Run.To, st.Run.Stands)
		for _, line := range st.Run.Images {
			fmt.Fprintf(t, "  %s\n", line)
		}
		for _, line := range st.Run.Restore {
			fmt.Fprintf(t, "%s\n", line)
		}
		if st.Run.ConfigsOwed != "" {
			fmt.Fprintf(t, "%s\n", st.Run.ConfigsOwed)
		}
	}
	if st.Copy != "" {
		fmt.Fprintf(t, "(by this machine's copy in %s, which may be older than what the hosts say)\n", st.Copy)
	}
	if st.Database != "" {
		fmt.Fprintf(t, "database: %s\n", st.Database)
	}
	if st.Lease != nil && st.Lease.Held {
		fmt.Fprintf(t, "lease: %s, since %s, last sign of life %s ago, at %q\n", st.Lease.Holder, st.Lease.Acquired.UTC().Format(time.DateTime), st.Lease.Age().Round(time.Second), st.Lease.Step)
	}
	if st.KeeperError != "" {
		fmt.Fprintf(t, "\nkeeper: %s\n", st.KeeperError)
	}
	fmt.Fprintf(t, "\nnext: %s\n", st.Next)
	return t.Flush()
}
