package stages

import (
	"context"
	"fmt"

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
		out, err := n.Agent.Bridge(ctx, node.BridgeIn{Home: s.d.Layout.Home, From: from, To: to})
		if err != nil {
			return fmt.Errorf("%s: cannot bridge the assets of %s and %s: %w", n.Name, from, to, err)
		}
		say("%s: %d files of %s added to %s, %d the other way", n.Name, out.ToFrom, to, from, out.ToTo)
		return nil
	})
}

// Undo leaves the added files: no page names them.
func (bridge) Undo(context.Context, pipeline.Say) error { return nil }
