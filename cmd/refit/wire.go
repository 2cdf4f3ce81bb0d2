package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/hosts/ssh"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

//go:embed example.yml
var exampleYML []byte

// session is one command's way to the fleet: everything that refit.yml describes,
// put together. This file is the only place that builds things; it holds no logic.
type session struct {
	config config
	deps   stages.Deps
	keeper *keeper.Keeper
	// cloud is the account; nil where refit.yml names none.
	cloud  *lateCloud
	source *upstream.Source
	conns  map[string]*ssh.Conn
	dial   dialer
	// connect makes the way to a host; see ssh.Options.KnownAs.
	connect func(name, address, knownAs, run string) (*ssh.Conn, *node.Agent)
	say     func(format string, args ...any)
	// lasting are told of runs and of more: the watcher's. They take the place of a run's
	// own heartbeat; nil outside a watcher.
	lasting []teller
	// pace is shared by all that tell Slack of runs here, and by the watcher's.
	pace *report.SlackPace
	// seen is the newest run when it was last looked at; nil before that. newest is its
	// journal, nil if there is none.
	seen   *seen
	newest *pipeline.Journal
	// away is why the keeper could not be reached, once that was found out.
	away error
	// above is the highest epoch that anybody had seen when a run was rebuilt from the
	// hosts; 0 where none was.
	above int64
}

// dialer makes connections to hosts.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// newRun makes the ID of a run: when it began, and something that no other has.
func newRun() string {
	return time.Now().UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:5])
}

// canServe refuses to ask hosts from a system whose refit could not run on them: what is put
// on a host is this very program.
func canServe(system string) error {
	if system == "linux" {
		return nil
	}
	return exitWith(exitUsage, fmt.Errorf("this refit is for %s, and hosts run Linux: they are asked from a Linux machine, such as a control host beside them. Here work: refit plan --from, notes, releases --running, example", system))
}

// open reads the configuration and makes a session for the run. It connects to
// nothing yet.
func open(path, run, command string, say func(format string, args ...any)) (*session, error) {
	return openOver(path, run, command, say, nil)
}

// openOver is open for hosts that are reached in another way than over the network;
// nil for the network.
func openOver(path, run, command string, say func(format string, args ...any), dial dialer) (*session, error) {
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	if err := canServe(runtime.GOOS); err != nil {
		return nil, err
	}
	say("refit %s: %s, %d hosts", command, c.Fleet, len(c.Hosts))
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find refit's own file: %w", err)
	}
	x := &session{config: c, conns: map[string]*ssh.Conn{}, dial: dial, say: say, pace: report.NewSlackPace()}
	if err := x.wireFleet(run, binary); err != nil {
		return nil, err
	}
	x.wireFront()
	if err := x.wireStore(); err != nil {
		return nil, err
	}
	x.wireCloud()
	if err := x.wireBirths(); err != nil {
		return nil, err
	}
	var provider stages.Provider
	if x.cloud != nil {
		provider = x.cloud
	}
	if err := x.wireBackups(provider); err != nil {
		return nil, err
	}
	if err := x.wireConfigs(command); err != nil {
		return nil, err
	}
	if err := x.wireKeeper(run, command); err != nil {
		return nil, err
	}
	x.deps.Keys = x.keeper
	if x.source, err = c.source(); err != nil {
		return nil, err
	}
	builder := x.deps.Fleet.With(hosts.Builder)[0]
	x.deps.Builder = &builds.Builder{
		Host: builder.Agent, Name: builder.Name, Upstream: c.Upstream.Repository, Refit: version,
		MinFree: int64(c.Build.Disk), MinMemory: int64(c.Build.Memory), Silence: c.Build.Silence,
		KeepAge: c.Build.KeepFor, KeepBytes: int64(c.Build.KeepSize),
	}
	if x.deps.Toolchains, err = c.toolchains(); err != nil {
		return nil, err
	}
	x.deps.Source = x.source
	return x, x.wireSigning()
}

func (x *session) wireFleet(run, binary string) error {
	c := x.config
	key, err := c.path(c.SSH.Key)
	if err != nil {
		return err
	}
	knownHosts, err := c.path(c.SSH.KnownHosts)
	if err != nil {
		return err
	}
	x.deps = stages.Deps{
		Layout: layout(c), Domain: c.Domain, ProbeToken: c.Mastodon.ProbeToken, Keep: c.Keep, Seal: c.Cloud != nil,
		Direct:  mastodon.Direct{Host: c.Database.Host, Port: c.Database.Port, Name: c.Database.Name},
		Proxies: stages.ProxyFiles{Web: c.Proxies.Web, Streaming: c.Proxies.Streaming, AccessLog: c.Proxies.AccessLog},
		Waits: stages.Waits{
			Drain: c.Waits.Drain, Idle: c.Waits.Idle, Stop: c.Waits.Stop, Boot: c.Waits.Boot,
			MigrateReport: c.Waits.MigrateReport, MigrateStall: c.Waits.MigrateStall,
		},
		Holds: stages.Holds(c.Holds),
		Limits: stages.Limits{
			Errors: c.Limits.Errors, Latency: c.Limits.Latency, LatencyFloor: c.Limits.LatencyFloor,
			NameErrors: c.Limits.NameErrors, Load: c.Limits.Load, DiskFree: uint64(c.Limits.DiskFree), Transfer: int64(min(c.Limits.Transfer, math.MaxInt64)),
		},
	}
	epoch := func() int64 { return x.keeper.Epoch() }
	// Once for all hosts: each connection needs the one, each host the other.
	known := ssh.NewKnown(knownHosts)
	hash := sync.OnceValues(func() ([]byte, error) { return node.HashBinary(binary) })
	x.connect = func(name, address, knownAs, run string) (*ssh.Conn, *node.Agent) {
		conn := ssh.New(ssh.Options{
			Name: name, Address: address, Port: c.SSH.Port, User: c.SSH.User, KeyFile: key, AgentSocket: agentSocket(key), KnownAs: knownAs,
			KnownHosts: []string{knownHosts}, Known: known, ConnectTimeout: c.SSH.Connect, AnswerTimeout: c.SSH.Silence, Dialer: x.dial,
		})
		return conn, &node.Agent{Host: name, Shell: conn, Binary: binary, Hash: hash, Run: run, Epoch: epoch, Sudo: c.SSH.User != "root", User: c.SSH.User, Deadline: c.SSH.Silence}
	}
	for _, h := range c.Hosts {
		conn, agent := x.connect(h.Name, h.Address, "", run)
		x.conns[h.Name] = conn
		n := stages.Node{Host: hosts.Host{Name: h.Name, Address: h.Address, Roles: h.Roles, Shell: conn}, Agent: agent}
		if h.Web != nil {
			n.Port, n.Streaming = h.Web.Port, h.Web.Streaming
		}
		for _, w := range h.Sidekiq {
			n.Workers = append(n.Workers, stages.Worker{Unit: w.Unit, Queues: w.Queues})
		}
		x.deps.Fleet = append(x.deps.Fleet, n)
	}
	return nil
}

// agentSocket is the ssh agent's, used only where no key is configured.
func agentSocket(key string) string {
	if key != "" {
		return ""
	}
	return os.Getenv("SSH_AUTH_SOCK")
}

func layout(c config) mastodon.Layout {
	l := mastodon.DefaultLayout()
	if c.Mastodon.Home != l.Home {
		l = mastodon.Layout{Home: c.Mastodon.Home}
	}
	l.User = c.Mastodon.User
	return l.Filled()
}

func (x *session) wireKeeper(run, command string) error {
	me, err := keeper.Me(command)
	if err != nil {
		return err
	}
	host := x.deps.Fleet.With(hosts.Keeper)[0]
	x.keeper = &keeper.Keeper{
		Caller: host.Agent, Name: host.Name, Me: me, Run: run, Above: x.highestFence,
		Say: func(text string) { x.say("%s", text) },
	}
	return nil
}

// shelf is where journals lie: on the keeper, and mirrored on this machine.
func (x *session) shelf() (*keeper.Mirror, error) {
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		return nil, err
	}
	return &keeper.Mirror{Main: x.keeper, Local: &keeper.Dir{Path: dir}, Say: func(text string) { x.say("%s", text) }}, nil
}

// highestFence is the highest epoch that any host has seen.
func (x *session) highestFence(ctx context.Context) (int64, error) {
	var mu sync.Mutex
	var highest int64
	err := x.everywhere(func(n stages.Node) error {
		f, err := n.Agent.FenceShow(ctx)
		mu.Lock()
		defer mu.Unlock()
		highest = max(highest, f.Epoch)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFences, err)
	}
	return highest, nil
}

// raiseFencesFor is raiseFences for an epoch that is not this session's.
func (x *session) raiseFencesFor(ctx context.Context, epoch int64, holder string) error {
	return x.raiseFencesOn(ctx, x.deps.Fleet, epoch, holder)
}

func (x *session) raiseFencesOn(ctx context.Context, fleet stages.Fleet, epoch int64, holder string) error {
	errs := make([]error, len(fleet))
	many(len(errs), func(i int) {
		_, errs[i] = fleet[i].Agent.FenceRaise(ctx, node.RaiseIn{Epoch: epoch, Holder: holder, Kill: true})
	})
	return errors.Join(errs...)
}

// errFences tells that a host could not be asked for its fence.
var errFences = errors.New("cannot read the fence of every host")

// raiseFences makes every host refuse what an earlier holder of the lease may
// still try. A host that cannot be reached refuses the run.
func (x *session) raiseFences(ctx context.Context, holder string) error {
	return x.raiseFencesFor(ctx, x.keeper.Epoch(), holder)
}

// everywhere asks all hosts, many at once, and joins their errors.
func (x *session) everywhere(do func(stages.Node) error) error {
	errs := make([]error, len(x.deps.Fleet))
	many(len(errs), func(i int) { errs[i] = do(x.deps.Fleet[i]) })
	return errors.Join(errs...)
}

// atOnce is how many hosts are asked at the same time: each costs a handshake and its
// buffers, and one that is dead keeps its place for ssh.connect.
const atOnce = 128

// many calls do for every number below n, at most atOnce at the same time, and
// returns when all have ended.
func many(n int, do func(int)) {
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			do(i)
		})
	}
	wg.Wait()
}

// request is the survey's question for an upgrade to a release.
func (x *session) request(to builds.Version, first bool) stages.Request {
	r := stages.Request{Source: x.source, To: to, First: first, Precompile: x.config.Build.Precompile, Mirrors: builds.Mirrors{
		Gems: x.config.Mirrors.Gems, NPM: x.config.Mirrors.NPM,
		YarnChecksums: x.config.Mirrors.YarnChecksums, YarnChecksumsWhy: x.config.Mirrors.YarnChecksumsWhy,
	}}
	for _, from := range slices.Sorted(maps.Keys(x.config.Mirrors.Git)) {
		r.Mirrors.Git = append(r.Mirrors.Git, git.Rewrite{From: from, To: x.config.Mirrors.Git[from]})
	}
	r.Overrides.Ruby, r.Overrides.Node = override(x.config.Toolchain.Ruby), override(x.config.Toolchain.Node)
	return r
}

func override(o *overrideConfig) *toolchain.Override {
	if o == nil {
		return nil
	}
	return &toolchain.Override{Version: o.Version, Prefix: o.Prefix, Why: o.Why}
}

// Close ends the connections.
func (x *session) Close() error {
	var errs []error
	for _, c := range x.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
