package stages

import (
	"context"
	"fmt"
	"path"
	"slices"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// bridge gives both releases on each web node the other's hashed assets: a page
// that one node rendered loads its scripts from whichever node answers. Manifests
// stay each release's own, or a page would name files of the other.
type bridge struct {
	d Deps
	f *Facts
}

func (bridge) Name() string { return "bridge assets" }

func (bridge) Check(context.Context, pipeline.Say) error { return nil }

func (s bridge) Run(ctx context.Context, say pipeline.Say) error {
	if err := s.alike(ctx, say); err != nil {
		return err
	}
	from, to := s.f.From.Version.String(), s.f.To.Version.String()
	return s.d.webs().each(ctx, func(ctx context.Context, n Node) error {
		out, err := n.Agent.Bridge(ctx, node.BridgeIn{Home: s.d.Layout.Home, From: from, To: to, Keep: s.d.KeepAssets})
		if err != nil {
			return fmt.Errorf("%s: cannot bridge the assets of %s and %s: %w", n.Name, from, to, err)
		}
		say("%s: %d files of %s added to %s, %d the other way", n.Name, out.ToFrom, to, from, out.ToTo)
		return s.answered(ctx, n, say)
	})
}

// alike asks whether the builds for several systems have the same hashed assets: a page
// that a node of one renders loads its scripts from a node of the other.
func (s bridge) alike(ctx context.Context, say pipeline.Say) error {
	all := s.f.all()
	if len(all) == 1 {
		return nil
	}
	var first map[string]string
	for _, m := range all {
		n := s.d.on(m.Builder).builder()
		list, err := mastodon.ListPacks(ctx, n.Agent, mastodon.ListPacksIn{Layout: s.d.Layout, Release: s.f.To.Version.String()})
		if err != nil {
			return fmt.Errorf("cannot list the assets of %s on %s: %w", s.f.To.Version, n.Name, err)
		}
		have := map[string]string{}
		for _, e := range list.Files {
			if path.Ext(e.Path) != ".map" { // no page loads one, and two builds may write it differently
				have[e.Path] = e.SHA256
			}
		}
		if first == nil {
			first = have
			continue
		}
		if other := unlikeIn(first, have); len(other) > 0 {
			return fmt.Errorf("the builds of %s on %s and %s differ in %s, %s first: pages of one node would load what the other does not have. Nothing was switched; look into what differs on the two builders",
				s.f.To.Version, all[0].Builder, m.Builder, count(len(other), "hashed asset"), other[0])
		}
	}
	say("the builds on all builders have the same %d hashed files", len(first))
	return nil
}

// unlikeIn are the names that two sets of files do not share, or share with other content.
func unlikeIn(a, b map[string]string) []string {
	var out []string
	for name, sum := range a {
		if b[name] != sum {
			out = append(out, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// answered asks the node's Puma for every hashed file of both releases. A node that
// was restarted a moment ago answers refit before its Puma has booted.
func (s bridge) answered(ctx context.Context, n Node, say pipeline.Say) error {
	g := s.d.gate(n.Name+" serves", 0, func(ctx context.Context) error { return s.d.Answers(ctx, n) })
	g.Safe = true
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	out, err := mastodon.AskPacks(ctx, n.Agent, mastodon.PacksIn{
		Layout: s.d.Layout, Domain: s.d.Domain, Address: n.Address, WebPort: n.Port,
		Releases: []string{s.f.From.Version.String(), s.f.To.Version.String()},
	}, sayer(n, say))
	if err != nil {
		return fmt.Errorf("%s: cannot ask for the assets: %w", n.Name, err)
	}
	if len(out.Failed) > 0 {
		return fmt.Errorf("%s: %d of %d assets are not answered, %s first (%s): Puma must serve them (RAILS_SERVE_STATIC_FILES=true)",
			n.Name, len(out.Failed)+out.More, out.Asked, out.Failed[0].Path, out.Failed[0].Error)
	}
	say("%s: answers all %d hashed files of both releases", n.Name, out.Asked)
	return nil
}

// Undo leaves the added files: no page names them.
func (bridge) Undo(context.Context, pipeline.Say) error { return nil }
