package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
)

// Rehearsing is the kind of plans that upgrade a copy of the fleet and destroy it.
const Rehearsing = "rehearsal"

// rehearsalLife is for how long what a rehearsal makes may stay, should it never end.
const rehearsalLife = 6 * time.Hour

// CopyAPI is what a rehearsal asks of the account beside what others do. *cloud.Client is one.
type CopyAPI interface {
	CloudAPI
	Account(ctx context.Context) (cloud.Account, error)
	Database(ctx context.Context, idOrName string) (cloud.Database, error)
	Fork(ctx context.Context, n cloud.NewDatabase) (cloud.Database, error)
	Login(ctx context.Context, idOrName string) (cloud.Login, error)
}

// Rehearsals is what it takes to upgrade a copy of the fleet.
type Rehearsals struct {
	API CopyAPI
	// Database is the fleet's managed database, by its name or ID.
	Database string
	// Valkey is the size of the Redis that is made, as the API has it.
	Valkey string
	// Closed are addresses, "host:port", that a copy must not reach, beside those that the
	// fleet's own settings lead to.
	Closed []string
	// Resolve finds the addresses of a name: copies can ask no name server.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Rehearsal is the upgrade of a copy. It stands in the facts of its run; each field names
// the stage that writes it.
type Rehearsal struct {
	// Until is when what was made may be swept (survey).
	Until time.Time `json:"until"`
	// Copies are one node of each tier; their images and models are chosen by the survey.
	Copies []*Birth `json:"copies"`
	// From is the database that is copied, Fork the copy, Valkey a Redis of its own (copy data).
	From   string `json:"from"`
	Fork   Copied `json:"fork"`
	Valkey Copied `json:"valkey"`
	// Firewall is around the copies from their birth on (firewall).
	Firewall string `json:"firewall,omitempty"`
	// Outside is what they must not reach, by copy; Name and User are the database's (shut in).
	Outside map[string][]string `json:"outside,omitempty"`
	Name    string              `json:"name,omitempty"`
	User    string              `json:"user,omitempty"`
	// Lost: the account never answered whether it made something, which may come yet.
	Lost bool `json:"lost,omitempty"`
	// Measured is what was found out (all that run).
	Measured Measured `json:"measured"`
}

// Copied is a database that was made for a rehearsal.
type Copied struct {
	// Name is by which it is found again, ID the account's.
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
	// Host is as the account names it, Address what that resolved to.
	Host    string `json:"host,omitempty"`
	Port    int    `json:"port,omitempty"`
	Address string `json:"address,omitempty"`
	// Took is how long it took to be there.
	Begun time.Time     `json:"begun,omitzero"`
	Took  time.Duration `json:"took_ns,omitempty"`
}

// Measured is what a rehearsal found out.
type Measured struct {
	// At is when the post-migrations had ended and every gate had passed; zero before.
	At time.Time `json:"at,omitzero"`
	// Migrations are in the order in which they ran.
	Migrations []Timed `json:"migrations,omitempty"`
	// Pre and Post are the phases as a whole, with Rails' own start.
	Pre  time.Duration `json:"pre_ns,omitempty"`
	Post time.Duration `json:"post_ns,omitempty"`
	// Boots is how long each copy took from its start to its gate, "web v4.5.15".
	Boots map[string]time.Duration `json:"boots_ns,omitempty"`
	// Tables are the largest ones before the migrations, Size the whole database's in bytes.
	Tables []mastodon.Table `json:"tables,omitempty"`
	Size   int64            `json:"size,omitempty"`
	// Gates are those that passed, in words.
	Gates []string `json:"gates,omitempty"`
}

// Timed is one migration with the time that it took.
type Timed struct {
	Version string        `json:"version"`
	Name    string        `json:"name"`
	Post    bool          `json:"post,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// rehearsing is what all stages of a rehearsal have.
type rehearsing struct {
	d  Deps
	f  *Facts
	id string
}

func (s rehearsing) r() *Rehearsal { return s.f.Rehearsal }

// oneCopy is what the stages of one copy have. It is found by its name each time: facts that
// are read back from a journal are others.
type oneCopy struct {
	rehearsing
	host string
}

func (s oneCopy) b() *Birth { return s.copyOf(s.host) }

// birthOf is one copy as the stages have it that make nodes from images.
func (s rehearsing) birthOf(b *Birth, release string) birth {
	f := &Facts{To: s.f.From, Birth: b}
	if release == s.f.To.Version.String() {
		f.To, f.Made = s.f.To, s.made(b)
	}
	return birth{s.d, f, s.id}
}

// made is what the copied node's system gets.
func (s rehearsing) made(b *Birth) Made {
	like, _ := s.d.Fleet.Named(b.Like)
	m := *s.f.of(like)
	m.Nodes = nil
	return m
}

// copies is the fleet of copies, with the fork as its database.
func (s rehearsing) copies(ctx context.Context) (Deps, error) {
	d, r := s.d, s.r()
	d.Fleet, d.Front, d.CDN, d.Backups, d.at = nil, nil, nil, nil, ""
	d.Direct = mastodon.Direct{Host: r.Fork.Host, Port: r.Fork.Port, Name: r.Name, User: r.User}
	for _, b := range r.Copies {
		w := s.birthOf(b, "")
		n := w.node("")
		if err := w.fence(ctx, n); err != nil {
			return d, err
		}
		d.Fleet = append(d.Fleet, n)
	}
	return d, nil
}

// plainly is an error without what would leave a run to a person: a copy is destroyed and
// made anew, never mended.
func plainly(err error) error {
	person, ok := errors.AsType[*pipeline.NeedsPerson](err)
	if !ok {
		return err
	}
	if person.Err != nil {
		return fmt.Errorf("%s: %w", person.State, plainly(person.Err))
	}
	return errors.New(person.State)
}

// Rehearse is the table of `refit rehearse`: the upgrade of a copy, on real data, after
// which nothing of it is left. Nothing of the fleet's own is changed but on the builder,
// which builds the release, and in the store.
func Rehearse(id string, d Deps, f *Facts) pipeline.Plan {
	p := pipeline.Plan{ID: id, Kind: Rehearsing, From: f.From.Version.String(), To: f.To.Version.String(), Facts: f}
	add := func(s pipeline.Step) { p.Steps = append(p.Steps, s) }
	s := rehearsing{d, f, id}
	r := s.r()

	add(pipeline.Step{Stage: lookAround{s}, Why: "ask the account for the images, room for droplets and the database"})
	// A copy takes the account as long as a build.
	add(pipeline.Step{Stage: copyData{s}, Why: fmt.Sprintf("begin a copy of the database %s, and a Redis of its own", r.From)})
	making(d, f, "build "+p.To+" from its unmodified tag", add)
	add(pipeline.Step{Stage: dataReady{s}, Why: "wait until both are there"})
	// Before any machine is made.
	add(pipeline.Step{Stage: wallIn{s}, Why: "a firewall that lets nothing out but to those two"})
	for _, b := range r.Copies {
		one := oneCopy{s, b.Host}
		add(pipeline.Step{Stage: makeCopy{one}, Why: fmt.Sprintf("make a droplet from image %d, behind that firewall", b.Image), Host: b.Host})
	}
	for _, b := range r.Copies {
		one := oneCopy{s, b.Host}
		add(pipeline.Step{Stage: meetCopy{one}, Why: "meet it by its image's host key, and bring it to " + p.From, Host: b.Host})
		add(pipeline.Step{Stage: shutIn{one}, Why: "take the fleet's addresses and keys from it, and prove that nothing gets out", Host: b.Host})
	}
	add(pipeline.Step{Stage: startOld{s}, Why: "permits for the copies; boot " + p.From + ", gate"})
	add(pipeline.Step{Stage: placeNew{s}, Why: "put " + p.To + " on the copies, and boot it there once"})
	add(pipeline.Step{Stage: timeMigrations{s, false}, Why: orWhy(len(f.Pre) > 0, "apply and time "+count(len(f.Pre), "migration"), "nothing to apply")})
	add(pipeline.Step{Stage: rollCopies{s}, Why: "stop, switch, start, gate, one after the other"})
	add(pipeline.Step{Stage: timeMigrations{s, true}, Why: orWhy(len(f.Post) > 0, "apply and time "+count(len(f.Post), "migration")+"; then every gate again", "nothing to apply; every gate again")})
	add(pipeline.Step{Stage: destroyCopies{s}, Why: "destroy the droplets, the databases and the firewall"})
	return p
}
