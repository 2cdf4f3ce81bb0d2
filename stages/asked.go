package stages

import "errors"

// Asked is what refit.yml asks for, as far as it decides which steps an upgrade has. It
// is journalled with the plan: a run that is gone on with, or taken back, has the steps
// that it was begun with, whatever became of refit.yml since.
type Asked struct {
	// Seal: no unit of Mastodon's starts on a clone of a node.
	Seal bool `json:"seal,omitempty"`
	// Dump is when the database is dumped first; empty for never.
	Dump DumpPolicy `json:"dump,omitempty"`
	// Restore: the instants are noted to which the database could be restored.
	Restore bool `json:"restore,omitempty"`
	// CDN is the CDN_HOST whose bucket gets the assets; empty for none.
	CDN string `json:"cdn,omitempty"`
}

var (
	errNoBackups = errors.New("the run dumps the database first, and refit.yml asks for no dump any more: put the block `backups` back, or take the run back with `refit rollback`")
	errNoCDN     = errors.New("the run copies assets to the bucket behind CDN_HOST, and refit.yml names none any more: put the block `cdn` back, or take the run back with `refit rollback`")
)

// asks is what refit.yml asks for now.
func (d Deps) asks() *Asked {
	a := &Asked{Seal: d.Seal}
	if d.Backups != nil {
		a.Dump, a.Restore = d.Backups.Dump, true
	}
	if d.CDN != nil {
		a.CDN = d.CDN.Host
	}
	return a
}

// asked is what the plan was made by. A journal that does not say it is of a refit that
// went by refit.yml as it stood.
func (f *Facts) asked(d Deps) *Asked {
	if f.Asked != nil {
		return f.Asked
	}
	return d.asks()
}

// dumps tells whether the upgrade dumps the database first.
func (a *Asked) dumps(f *Facts) bool {
	return a.Dump == DumpAlways || a.Dump == DumpOneWay && len(f.Post) > 0
}
