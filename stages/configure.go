package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// configure brings the files of a host to what was committed and pushed. It is called while
// nothing of the host serves, or for a proxy by its own step.
func (d Deps) configure(ctx context.Context, n Node, f *Facts, say pipeline.Say) error {
	if f.Configs == nil || f.Configs.Intended == "" || len(f.Configs.Files[n.Name]) == 0 {
		return nil
	}
	if d.Configs == nil {
		return errNoConfigs
	}
	files, err := d.filesAt(ctx, f.Configs.Intended, n.Name)
	if err != nil {
		return err
	}
	out, err := n.Agent.ApplyConfigs(ctx, d.configIn(n, files))
	if err != nil {
		return fmt.Errorf("the configuration of %s stays as it was: %w", n.Name, err)
	}
	if len(out.Changed) > 0 {
		say("%s has its configuration of %.12s: %s%s", n.Name, f.Configs.Intended, strings.Join(out.Changed, ", "), orWhy(len(out.Told) > 0, "; told "+strings.Join(out.Told, ", "), ""))
	}
	return nil
}

// unconfigure puts back the files that this run found on a host. The repository is not asked.
func (d Deps) unconfigure(ctx context.Context, n Node, f *Facts, say pipeline.Say) error {
	if f.Configs == nil || len(f.Configs.Files[n.Name]) == 0 {
		return nil
	}
	out, err := n.Agent.RestoreConfigs(ctx, node.ConfigIn{Run: n.Agent.Run, Leave: n.Units()})
	if err != nil {
		return err
	}
	if len(out.Changed) > 0 {
		say("%s has its configuration of before: %s", n.Name, strings.Join(out.Changed, ", "))
	}
	if len(out.Meddled) > 0 {
		say("%s: somebody had changed %s since this run wrote it; what it held lies in /var/lib/refit/configs/%s", n.Name, strings.Join(out.Meddled, ", "), n.Agent.Run)
	}
	return nil
}

// configsOf is the step of a host that is not rolled: a proxy, the builder, the keeper.
type configsOf struct {
	d Deps
	f *Facts
	n Node
}

func (s configsOf) Name() string {
	if s.n.Has(hosts.Proxy) {
		return "configs proxy " + s.n.Name
	}
	return "configs " + s.n.Name
}

// apart are the hosts that get their files in steps of their own, since they are not rolled
// and something there differs: the proxies last, one at a time.
func (d Deps) apart(f *Facts) Fleet {
	if f.Configs == nil {
		return nil
	}
	apps := names(d.Fleet.Apps())
	out := slices.DeleteFunc(slices.Clone(d.Fleet), func(n Node) bool {
		return slices.Contains(apps, n.Name) || len(f.Configs.Differ[n.Name]) == 0
	})
	slices.SortStableFunc(out, func(a, b Node) int {
		return len(Fleet{a}.With(hosts.Proxy)) - len(Fleet{b}.With(hosts.Proxy))
	})
	return out
}

func (s configsOf) Check(ctx context.Context, _ pipeline.Say) error {
	if err := s.othersServe(ctx); err != nil {
		return pipeline.Refuse("cannot touch %s: %w", s.n.Name, err)
	}
	return nil
}

// Run waits until every other proxy serves: refit cannot take a proxy out of the balancer,
// so nginx is reloaded gracefully while users are on it, and only with a file that nginx -t
// accepts.
func (s configsOf) Run(ctx context.Context, say pipeline.Say) error {
	g := s.d.gate("the other proxies serve while "+s.n.Name+" is changed", 0, s.othersServe)
	g.Safe = true
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	if err := s.d.configure(ctx, s.n, s.f, say); err != nil {
		return err
	}
	return s.serves(ctx, say)
}

// Undo does not wait for others: what is wrong may be this very proxy.
func (s configsOf) Undo(ctx context.Context, say pipeline.Say) error {
	if err := s.d.unconfigure(ctx, s.n, s.f, say); err != nil {
		return err
	}
	return s.serves(ctx, say)
}

func (s configsOf) serves(ctx context.Context, say pipeline.Say) error {
	if !s.n.Has(hosts.Proxy) {
		return nil
	}
	g := s.d.gate(s.n.Name+" serves with its configuration", 0, func(ctx context.Context) error { return s.d.proxyServes(ctx, s.n) })
	g.Streak = 2
	return pipeline.Await(ctx, g, say)
}

// othersServe is nil when every proxy but this one serves, by its own word and the balancer's.
func (s configsOf) othersServe(ctx context.Context) error {
	if !s.n.Has(hosts.Proxy) {
		return nil
	}
	var errs []error
	for _, p := range s.d.proxies().But(s.n.Name) {
		errs = append(errs, s.d.proxyServes(ctx, p))
	}
	if s.d.Front != nil {
		within, cancel := context.WithTimeout(ctx, frontPatience)
		defer cancel()
		state, err := s.d.Front.State(within)
		if err != nil {
			return fmt.Errorf("the balancer cannot be asked which proxies serve: %w", err)
		}
		if ill := state.ill(s.d.proxies().But(s.n.Name)); len(ill) > 0 {
			errs = append(errs, fmt.Errorf("the checks of the balancer %s fail on %s", state.Name, strings.Join(ill, ", ")))
		}
	}
	return errors.Join(errs...)
}

// proxyServes is nil when nginx runs on a proxy and has nothing fatal against itself.
func (d Deps) proxyServes(ctx context.Context, p Node) error {
	f, err := nginx.ReadFacts(ctx, p.Agent, nginx.UpstreamIn{Files: []string{d.Proxies.Web, d.Proxies.Streaming}})
	if err != nil {
		return err
	}
	for _, finding := range f.Findings() {
		if finding.Fatal {
			return fmt.Errorf("%s: %s", p.Name, finding.Text)
		}
	}
	return nil
}

// configureFor gives a node that is drained and stopped the files of a release.
func (d Deps) configureFor(ctx context.Context, n Node, f *Facts, release string, say pipeline.Say) error {
	if release == f.From.Version.String() {
		return d.unconfigure(ctx, n, f, say)
	}
	return d.configure(ctx, n, f, say)
}
