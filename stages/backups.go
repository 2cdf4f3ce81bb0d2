package stages

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
)

// Backups is what the database could be restored from, and how fresh that must be before
// it is changed.
type Backups struct {
	// Provider tells of the backups of Database, a name or an ID, which must not be older
	// than MaxAge; nil for none.
	Provider Provider
	Database string
	MaxAge   time.Duration
	// Own is a backup that the fleet makes itself; nil for none.
	Own *OwnBackup
	// Dump says when refit dumps the database to the store before it is changed, Keep how
	// many dumps of Fleet stay there.
	Dump  DumpPolicy
	Keep  int
	Fleet string
}

// Provider tells of the backups that a provider made. *cloud.Client is one.
type Provider interface {
	Backups(ctx context.Context, database string) ([]cloud.Backup, error)
}

// OwnBackup is how the time of the newest backup of one's own is found out: by the
// command Argv on Host, or as that of the newest object in Bucket.
type OwnBackup struct {
	Host   string
	Argv   []string
	Bucket Lister
	// MaxAge is how old it may be.
	MaxAge time.Duration
}

// Lister lists the objects of a bucket. A store.Bucket is one.
type Lister interface {
	List(ctx context.Context, prefix string) ([]store.Item, error)
	String() string
}

// DumpPolicy says when refit dumps the database.
type DumpPolicy string

// The policies.
const (
	DumpNever DumpPolicy = "never"
	// DumpOneWay: before an upgrade from which there is no way back.
	DumpOneWay DumpPolicy = "one-way"
	DumpAlways DumpPolicy = "always"
)

const (
	// backupAnswer bounds each question for a backup's time.
	backupAnswer = 2 * time.Minute
	// clockSkew is how far ahead of this machine's clock a backup's time may be.
	clockSkew = 5 * time.Minute
)

// BackupAge is what was found out about the newest backup of one kind.
type BackupAge struct {
	// What is the backup in words, Limit how old it may be and Field where refit.yml says
	// so, Remedy what to do about one that is older.
	What, Field, Remedy string
	Limit               time.Duration
	// At is when it was made; zero for never. Err is why that is not known.
	At  time.Time
	Err error
}

// ages asks for every backup at once.
func (d Deps) ages(ctx context.Context) []BackupAge {
	b := d.Backups
	if b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, backupAnswer)
	defer cancel()
	var wg sync.WaitGroup
	var out []*BackupAge
	if b.Provider != nil {
		a := &BackupAge{What: "the provider's newest backup of " + b.Database, Field: "backups.max_age", Limit: b.MaxAge, Remedy: "find out in the provider's panel why there is no newer one"}
		out = append(out, a)
		wg.Go(func() { a.At, a.Err = b.provided(ctx) })
	}
	if own := b.Own; own != nil {
		a := &BackupAge{What: "the newest backup of your own in " + name(own), Field: "backups.own.max_age", Limit: own.MaxAge, Remedy: "have one made now, and find out why there is none"}
		out = append(out, a)
		wg.Go(func() { a.At, a.Err = d.owned(ctx) })
	}
	wg.Wait()
	var ages []BackupAge
	for _, a := range out {
		ages = append(ages, *a)
	}
	return ages
}

// lookAtBackups asks for what the rules on backups need.
func (d Deps) lookAtBackups(ctx context.Context, v *View, wg *sync.WaitGroup, mu *sync.Mutex) {
	if d.Backups == nil {
		return
	}
	wg.Go(func() {
		ages := d.ages(ctx)
		mu.Lock()
		defer mu.Unlock()
		v.Backups = ages
	})
	if d.Backups.Dump == DumpNever {
		return
	}
	wg.Go(func() {
		have := d.lookForDumpers(ctx)
		var err error
		if d.Store != nil {
			_, err = d.Store.Bucket.List(ctx, "dump/"+d.Backups.Fleet+"/")
		}
		mu.Lock()
		defer mu.Unlock()
		v.Dumpers, v.StoreErr = have, err
	})
}

func name(own *OwnBackup) string {
	if own.Bucket != nil {
		return own.Bucket.String()
	}
	return fmt.Sprintf("%s (as %s says)", own.Host, own.Argv[0])
}

// provided is the time of the provider's newest backup.
func (b *Backups) provided(ctx context.Context) (time.Time, error) {
	var newest time.Time
	all, err := b.Provider.Backups(ctx, b.Database)
	for _, each := range all {
		if each.At.After(newest) {
			newest = each.At
		}
	}
	return newest, err
}

// owned is the time of the newest backup of one's own.
func (d Deps) owned(ctx context.Context) (time.Time, error) {
	own := d.Backups.Own
	if own.Bucket != nil {
		var newest time.Time
		items, err := own.Bucket.List(ctx, "")
		for _, item := range items {
			// An empty object is a folder's mark, or a backup that failed.
			if item.Size > 0 && item.Modified.After(newest) {
				newest = item.Modified
			}
		}
		return newest, err
	}
	n, ok := d.Fleet.Named(own.Host)
	if !ok {
		return time.Time{}, fmt.Errorf("the fleet has no host %s", own.Host)
	}
	out, err := n.Agent.LastBackup(ctx, node.LastBackupIn{Argv: own.Argv, Within: backupAnswer / 2})
	return out.At, err
}

// refusal says what stands against changing the database now; "" for nothing.
func (a BackupAge) refusal(now time.Time) string {
	age := now.Sub(a.At)
	switch {
	case a.Err != nil:
		return fmt.Sprintf("the age of %s is not known, and %s is %s: %v", a.What, a.Field, a.Limit, a.Err)
	case a.At.IsZero():
		return fmt.Sprintf("%s: there is none, and %s is %s: %s", a.What, a.Field, a.Limit, a.Remedy)
	case age < -clockSkew:
		return fmt.Sprintf("%s is of %s, which is %s ahead of this machine's clock: set the clock that is wrong", a.What, instant(a.At), (-age).Round(time.Second))
	case age > a.Limit:
		return fmt.Sprintf("%s is %s old (of %s), and %s is %s: %s", a.What, age.Round(time.Second), instant(a.At), a.Field, a.Limit, a.Remedy)
	}
	return ""
}

// String tells a backup that is fresh.
func (a BackupAge) String() string { return fmt.Sprintf("%s is of %s", a.What, instant(a.At)) }

func instant(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// backups: they are as fresh as refit.yml asks for. What cannot be asked for counts as none.
func (j *judgement) backups() {
	for _, a := range j.v.Backups {
		if r := a.refusal(j.v.At); r != "" {
			j.refuse("%s", r)
		}
	}
}

// fresh tells what stands against changing the database now, as asked this moment.
func (d Deps) fresh(ctx context.Context) (said []string, err error) {
	var refused []string
	for _, a := range d.ages(ctx) {
		if r := a.refusal(time.Now()); r != "" {
			refused = append(refused, r)
		}
		said = append(said, a.String())
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(refused, "; "))
	}
	return said, nil
}
