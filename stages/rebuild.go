package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Rebuilt is the state of a run whose journal is lost, put together from what the
// hosts say and, where there is one, from a copy of the journal.
type Rebuilt struct {
	Facts   *Facts
	Plan    pipeline.Plan
	Journal *pipeline.Journal
	// Why tells of each step where its mark was taken from.
	Why map[string]string
	// Said is what the person must know who accepts it.
	Said []string
}

// errNotRebuilt begins what is said when nothing can be rebuilt.
var errNotRebuilt = errors.New("the run cannot be rebuilt, and nothing was changed")

func notRebuilt(reasons ...string) error {
	return pipeline.Refuse("%w:\n  - %s", errNotRebuilt, strings.Join(reasons, "\n  - "))
}

// CameFrom is the release before to, as the hosts show it: the one that other nodes
// still run, or where all run to, the newest older one that lies on every node.
func (d Deps) CameFrom(t *Testimony, to builds.Version) (builds.Version, error) {
	var none builds.Version
	if r := t.refusals(d); len(r) > 0 {
		return none, notRebuilt(r...)
	}
	by := d.releases(t)
	delete(by, to.String())
	var names []string
	switch len(by) {
	case 0:
		var older []builds.Version
		for _, r := range t.Hosts[d.Fleet.Apps()[0].Name].Facts.Releases {
			v, err := builds.ParseVersion(r.Name)
			if err != nil || v.Compare(to) >= 0 || slices.ContainsFunc(d.Fleet.Apps(), func(n Node) bool { return !t.Hosts[n.Name].lies(r.Name) }) {
				continue
			}
			older = append(older, v)
		}
		if len(older) == 0 {
			return none, notRebuilt(fmt.Sprintf("every node runs %s, and no older release lies on all of them: there is nothing to go back to and nothing half way; `refit upgrade` begins the next", to))
		}
		return slices.MaxFunc(older, builds.Version.Compare), nil
	case 1:
		names = slices.Collect(maps.Keys(by))
	default:
		return none, notRebuilt(ambiguous(by, to.String()))
	}
	v, err := builds.ParseVersion(names[0])
	if err != nil {
		return none, notRebuilt(fmt.Sprintf("%s run %s, which is no release that refit knows: bring them to the release that the others run, or take them out of refit.yml", strings.Join(by[names[0]], ", "), orUnknown(names[0])))
	}
	if v.Compare(to) > 0 {
		return none, notRebuilt(fmt.Sprintf("%s run %s, which is newer than %s: name with --to the release that the run went to", strings.Join(by[names[0]], ", "), v, to))
	}
	return v, nil
}

// releases are the nodes by the releases that they run or that their links name.
func (d Deps) releases(t *Testimony) map[string][]string {
	by := map[string][]string{}
	for _, n := range d.Fleet.Apps() {
		for _, r := range t.Hosts[n.Name].runs() {
			by[r] = append(by[r], n.Name)
		}
	}
	return by
}

func ambiguous(by map[string][]string, but ...string) string {
	var parts []string
	for _, r := range slices.Sorted(maps.Keys(by)) {
		if !slices.Contains(but, r) {
			parts = append(parts, orUnknown(r)+" on "+strings.Join(by[r], ", "))
		}
	}
	return fmt.Sprintf("beside %s there is %s: which release the run came from cannot be told. Bring those nodes by hand to the release that they shall have, or take them out of refit.yml, then try again",
		strings.Join(but, " and "), strings.Join(parts, "; "))
}

func (w Witness) lies(release string) bool {
	return slices.ContainsFunc(w.Facts.Releases, func(r node.ReleaseFact) bool { return r.Name == release })
}

// Recover finds out the facts of an upgrade without any journal: what both releases
// are, how they differ, and how the fleet does now, which is the best baseline that
// is left.
func (d Deps) Recover(ctx context.Context, r Request, t *Testimony, say pipeline.Say) (*Facts, error) {
	from, err := d.CameFrom(t, r.To)
	if err != nil {
		return nil, err
	}
	r.First = true // the rules of a fresh upgrade do not hold half way
	f, v, refused, err := d.Survey(ctx, r, say)
	if err != nil {
		return nil, err
	}
	if len(refused) > 0 {
		return nil, notRebuilt(refused...)
	}
	if f.From, err = r.Source.Tag(ctx, from); err != nil {
		return nil, err
	}
	if f.Facets, err = r.Source.Facets(ctx, f.From, f.To); err != nil {
		return nil, err
	}
	d.order(v, f)
	if d.Cloud != nil {
		d.recoverImages(ctx, v, f)
	}
	f.Pre, f.Post = split(ofTheRun(f, t))
	f.Baseline = baseline(v)
	return f, nil
}

// recoverImages finds what of the run is kept in the cloud account. The site matters more
// than its images, and the account, or its token, may be what was lost with the journal.
func (d Deps) recoverImages(ctx context.Context, v *View, f *Facts) {
	refused, said := d.Cloud.choose(ctx, d, v, f)
	if len(refused) > 0 {
		f.Snapshots, f.Golden = nil, nil
		said = []string{"the run goes on without its snapshots, golden images and the removal of old ones, since of the cloud account: " + strings.Join(refused, "; ") + ". What it kept there stays"}
	}
	f.Said = append(f.Said, said...)
}

// ofTheRun are the migrations that the run applied or has to apply: those that only
// the new release has, and those that the database lacks.
func ofTheRun(f *Facts, t *Testimony) []builds.Migration {
	return slices.DeleteFunc(slices.Clone(f.To.Contents.Migrations), func(m builds.Migration) bool {
		added := slices.ContainsFunc(f.Facets.MigrationsAdded, func(a builds.Migration) bool { return a.Version == m.Version })
		return !added && t.Database.Has(m.Version)
	})
}

// Rebuild puts the run's state together. The hosts' word counts; the copy, nil for
// none, is never trusted for more than they confirm.
func (d Deps) Rebuild(id string, t *Testimony, f *Facts, copied *pipeline.Journal, now time.Time) (*Rebuilt, error) {
	if r := t.refusals(d); len(r) > 0 {
		return nil, notRebuilt(r...)
	}
	b := &rebuilding{d: d, t: t, f: f, copied: copied, from: f.From.Version.String(), to: f.To.Version.String(), marks: map[string]pipeline.Mark{}, why: map[string]string{}}
	if reasons := b.doubts(); len(reasons) > 0 {
		return nil, notRebuilt(reasons...)
	}
	b.reorder()
	p := Upgrade(id, d, f)
	b.look()
	for _, s := range p.Steps {
		m, why := b.mark(s)
		b.why[s.Name()] = why
		if m.State != pipeline.Pending {
			m.Started = cmp.Or(m.Started, now.UTC().Truncate(time.Millisecond))
			b.marks[s.Name()] = m
		}
	}
	if copied == nil && !b.sign {
		return nil, notRebuilt(fmt.Sprintf("every node serves %s and no migration of %s that it could not run with is applied: nothing was left half way. `refit upgrade --to %s` finds again what was built, placed and applied", b.from, b.to, b.to))
	}
	direction := pipeline.Forward
	if copied != nil {
		direction = copied.Direction
	}
	j, err := pipeline.RestoreJournal(p, copied, b.marks, direction, now)
	if err != nil {
		return nil, err
	}
	b.tell()
	return &Rebuilt{Facts: f, Plan: p, Journal: j, Why: b.why, Said: b.said}, nil
}

// rebuilding is the work on one Rebuilt.
type rebuilding struct {
	d        Deps
	t        *Testimony
	f        *Facts
	copied   *pipeline.Journal
	from, to string

	rolled bool // a node is not as it was before the rolls
	all    bool // every node serves the new release
	placed int  // nodes on which the new release lies whole
	sign   bool // something shows that the run had begun
	marks  map[string]pipeline.Mark
	why    map[string]string
	said   []string
}

// doubts are what keeps a person from being shown one clear state.
func (b *rebuilding) doubts() []string {
	by := b.d.releases(b.t)
	delete(by, b.from)
	delete(by, b.to)
	var out []string
	if len(by) > 0 {
		return []string{ambiguous(b.d.releases(b.t), b.from, b.to)}
	}
	for _, n := range b.d.sidekiqs() {
		for _, j := range b.t.Hosts[n.Name].Jobs {
			if j.State == node.JobRunning && !b.ours(j) {
				out = append(out, fmt.Sprintf("%s runs on %s for another release (%s): wait for its end, never kill it, and try again", j.Unit, n.Name, strings.Join(j.Argv, " ")))
			}
		}
	}
	return out
}

// ours tells whether a migration's record is of the release that the run goes to.
func (b *rebuilding) ours(j node.Job) bool {
	return (migration{b.d, b.f, j.Unit == postUnit}).ours(j)
}

// job is the record of a migration unit of this run, JobNone without one.
func (b *rebuilding) job(unit string) node.Job {
	for _, n := range b.d.sidekiqs() {
		for _, j := range b.t.Hosts[n.Name].Jobs {
			if j.Unit == unit && b.ours(j) {
				return j
			}
		}
	}
	return node.Job{Unit: unit, State: node.JobNone}
}

// reorder keeps the copy's order of the nodes, without those that refit.yml no
// longer names and with the new ones last.
func (b *rebuilding) reorder() {
	if b.copied == nil {
		return
	}
	missing, added := b.f.FleetChanged(b.d.Fleet)
	gone := func(name string) bool { return slices.Contains(missing, name) }
	b.f.Web = slices.DeleteFunc(slices.Clone(b.f.Web), gone)
	b.f.Sidekiq = slices.DeleteFunc(slices.Clone(b.f.Sidekiq), gone)
	for _, name := range added {
		if n, ok := b.d.webs().Named(name); ok {
			b.f.Web = append(b.f.Web, n.Name)
		}
		if n, ok := b.d.sidekiqs().Named(name); ok {
			b.f.Sidekiq = append(b.f.Sidekiq, n.Name)
		}
	}
	if len(missing) > 0 {
		b.said = append(b.said, "refit.yml no longer names "+strings.Join(missing, ", ")+": their steps are left out")
	}
	if len(added) > 0 {
		b.said = append(b.said, "refit.yml names "+strings.Join(added, ", ")+" beside the hosts of the run: they are rolled last")
	}
}

// look finds what several marks follow from.
func (b *rebuilding) look() {
	b.all = true
	digests := map[*Made][]string{}
	for _, n := range b.d.Fleet.Apps() {
		w := b.t.Hosts[n.Name]
		b.rolled = b.rolled || w.settled(b.from) != nil
		b.all = b.all && w.settled(b.to) == nil
		if w.has(b.to) {
			b.placed++
		}
		for _, r := range w.Facts.Releases {
			if r.Name == b.to && r.Digest != "" {
				digests[b.f.of(n)] = append(digests[b.f.of(n)], r.Digest)
			}
		}
	}
	for m, found := range digests {
		slices.Sort(found)
		if found = slices.Compact(found); len(found) == 1 && m.Digest == "" {
			m.Digest = found[0]
		}
	}
	b.f.Applied = without(b.f.Pre, lacking(b.f.To.Contents, *b.t.Database, false))
	b.sign = b.rolled || b.job(preUnit).State == node.JobRunning || len(b.applied(b.f.Post)) > 0
}

// applied are those of the list that the database has.
func (b *rebuilding) applied(list []builds.Migration) []builds.Migration {
	return without(list, lacking(b.f.To.Contents, *b.t.Database, true))
}

// tell says what was taken on trust.
func (b *rebuilding) tell() {
	epoch, holder, run := b.t.Epoch()
	switch {
	case b.copied == nil:
		b.said = append(b.said, b.f.Said...)
		b.said = append(b.said, "no copy of the journal was used: whether the run went forward or back is not known. `refit resume` goes forward; to go back, say no and give `refit rollback --from-hosts`",
			fmt.Sprintf("how the site did before the run is lost: what was measured now (%s a page, no errors) stands for it", b.f.Baseline.Latency.Round(time.Millisecond)))
	case epoch > b.copied.Epoch:
		b.said = append(b.said, fmt.Sprintf("the copy was saved under epoch %d, and the hosts have seen epoch %d (%s%s): somebody went on after it, and whether forward or back is not known. What the hosts say counts; to go back, say no and give `refit rollback --from-hosts`",
			b.copied.Epoch, epoch, holder, orWhy(run == b.copied.ID, ", the same run", "")))
	}
}

// FleetChanged names the hosts of the run that a fleet lacks, and those of the fleet
// that the run does not know.
func (f *Facts) FleetChanged(fleet Fleet) (missing, added []string) {
	var have []string
	for _, n := range fleet.Apps() {
		have = append(have, n.Name)
		if !slices.Contains(f.Web, n.Name) && !slices.Contains(f.Sidekiq, n.Name) {
			added = append(added, n.Name)
		}
	}
	for _, name := range slices.Concat(f.Web, f.Sidekiq) {
		if !slices.Contains(have, name) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return missing, added
}
