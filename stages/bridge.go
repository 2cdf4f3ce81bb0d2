package stages

import (
	"context"
	"fmt"

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
