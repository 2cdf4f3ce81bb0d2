package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// RecordPath is where the keeper remembers what the fleet runs.
const RecordPath = "/var/lib/refit/fleet.json"

// Record is what the fleet runs, and since when.
type Record struct {
	Schema string `json:"schema"` // "refit.fleet/v1"
	// Release, Commit and Tree identify the upstream source; Digest the manifest of
	// what was built from it.
	Release string `json:"release"`
	Commit  string `json:"commit"`
	Tree    string `json:"tree"`
	Digest  string `json:"digest,omitempty"`
	// Digests are those of nodes that have another build than Digest's, being of another
	// system, by the node's name.
	Digests map[string]string `json:"digests,omitempty"`
	// Overrides are the departures from the release's pins.
	Overrides []string `json:"overrides,omitempty"`
	// Unverified says what of it was held to no checksum of the release's own.
	Unverified []string `json:"unverified,omitempty"`
	// Before is the release before this one; Run the run that changed it.
	Before string    `json:"before"`
	Run    string    `json:"run"`
	At     time.Time `json:"at"`
}

// of is the digest of what a node has.
func (r Record) of(host string) string {
	if d, ok := r.Digests[host]; ok {
		return d
	}
	return r.Digest
}

// record writes down on the keeper what the fleet runs now.
type record struct {
	d Deps
	f *Facts
}

func (record) Name() string { return "record" }

func (record) Check(context.Context, pipeline.Say) error { return nil }

func (s record) Run(ctx context.Context, say pipeline.Say) error {
	return s.write(ctx, s.f.To, s.f.From, s.f.Digest, say)
}

// Undo writes down that the fleet runs the release before this one again.
func (s record) Undo(ctx context.Context, say pipeline.Say) error {
	return s.write(ctx, s.f.From, s.f.To, "", say)
}

func (s record) write(ctx context.Context, now, before builds.Release, digest string, say pipeline.Say) error {
	keeper := s.d.Fleet.With(hosts.Keeper)[0]
	r := Record{
		Schema: "refit.fleet/v1", Release: now.Version.String(), Commit: now.Tag.Commit, Tree: now.Tag.Tree, Digest: digest,
		Before: before.Version.String(), Run: keeper.Agent.Run, At: time.Now().UTC().Truncate(time.Second),
	}
	if digest != "" {
		r.Overrides, r.Unverified = s.f.Recipe.Toolchain.Overrides(), s.f.Unverified
		for _, m := range s.f.Others {
			for _, n := range m.Nodes {
				if r.Digests == nil {
					r.Digests = map[string]string{}
				}
				r.Digests[n] = m.Digest
			}
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if _, err := keeper.Agent.FilePut(ctx, node.FilePutIn{Path: RecordPath, Content: append(b, '\n'), Mode: 0o644}); err != nil {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s; only %s could not be written on %s", now.Version, RecordPath, keeper.Name),
			Next:  "mend that, then `refit resume`", Err: err,
		}
	}
	say("%s remembers that the fleet runs %s", keeper.Name, r.Release)
	return nil
}
