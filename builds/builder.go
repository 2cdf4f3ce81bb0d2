package builds

import (
	"context"
	"io"
	"time"

	"vmst.io/refit/hosts/node"
)

// Host is the builder host as the build needs it. *node.Agent is one.
type Host interface {
	// Call runs a verb there; say gets what it reports on the way.
	Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error
}

// Builder builds releases on one host.
type Builder struct {
	// Host is the builder host.
	Host Host
	// Name is its name, for messages.
	Name string
	// Upstream is the repository's URL as the builder host names it.
	Upstream string
	// KnownHosts and KeyFile are files on the builder host, for an Upstream or a
	// mirror reached by ssh; empty where none is.
	KnownHosts, KeyFile string
	// MinFree is the room that a build needs below Layout.Home and
	// Layout.Cache, bytes; 0 for 4 GiB (a tree of Mastodon 4.6 with all its node
	// packages takes 1.5 GB, the packages' own cache 0.5 GB, temporary files the rest).
	MinFree int64
	// MinMemory is the memory that must be available, bytes; 0 for 3 GiB (the
	// front end's compiler was seen to take 2.8 GB).
	MinMemory int64
	// Signer signs what was built here; nil for no signatures. A build that lies on the
	// builder and is not signed by it is made again.
	Signer Signer
	// Refit is refit's own version, for the provenance.
	Refit string
	// Poll is how often a running step is asked for; 0 for 500 ms.
	Poll time.Duration
	// Silence is how long a step that fetches may say nothing; 0 for five minutes. Those
	// that compile may be silent for as long as they like.
	Silence time.Duration
	// KeepAge is how long the builder keeps what no build uses, KeepBytes how much it
	// keeps in all; 0 for 60 days and 10 GiB.
	KeepAge   time.Duration
	KeepBytes int64
	// Patience is how registries are asked for what refit fetches itself.
	Patience Patience
}

// Built is a release that lies whole on the builder.
type Built struct {
	Manifest node.Head `json:"manifest"`
	// SignedBy is the fingerprint of the key that signed it; empty for none.
	SignedBy string `json:"signed_by,omitempty"`
	// Recipe is the digest of the recipe it was built by.
	Recipe string `json:"recipe"`
	// Cached: it lay there already; nothing was done.
	Cached bool `json:"cached"`
	// Departures from what the tag asks for, one line each.
	Departures []string `json:"departures,omitempty"`
	// Unverified says what was held to no checksum of the release's own, one line each.
	Unverified []string `json:"unverified,omitempty"`
	// Kept are the parts that were kept from earlier builds and used again.
	Kept []Kind `json:"kept,omitempty"`
	// Seconds per step, in order.
	Steps []StepTime `json:"steps"`
}

// StepTime is how long a step of the build took.
type StepTime struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}
