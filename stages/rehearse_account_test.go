package stages

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
)

// copyAccount is the account for a rehearsal.
type copyAccount struct {
	*account
	th *theatre
}

// ask is what every call begins with; the answer of one is lost if the test says so.
func (a copyAccount) ask(method string) (func() error, error) {
	if err := a.th.fails[method]; err != nil {
		return nil, err
	}
	return func() error {
		if a.th.lost == method {
			a.th.lost = ""
			return cloud.ErrLost
		}
		return a.th.deed(method)
	}, nil
}

func (a copyAccount) Account(context.Context) (cloud.Account, error) {
	return cloud.Account{DropletLimit: a.th.limit}, a.th.fails["Account"]
}

func (a copyAccount) Login(context.Context, string) (cloud.Login, error) {
	return cloud.Login{User: "default", Password: redisPassword, TLS: true}, a.th.fails["Login"]
}

func (a copyAccount) Database(_ context.Context, idOrName string) (cloud.Database, error) {
	defer a.enter("Database")()
	if err := a.th.fails["Database"]; err != nil {
		return cloud.Database{}, err
	}
	for _, x := range a.bases {
		if x.ID == idOrName || x.Name == idOrName {
			if began, ok := a.th.begun[x.ID]; ok && time.Since(began) >= a.th.took {
				x.Status, x.Host, x.Port = online, x.Name+".db.example", 25060
				if x.Engine == "valkey" {
					x.Port = 25061
				}
			}
			return x, nil
		}
	}
	return cloud.Database{}, cloud.ErrNotFound
}

func (a copyAccount) Fork(ctx context.Context, n cloud.NewDatabase) (cloud.Database, error) {
	defer a.enter("Fork")()
	method := "Fork " + orWhy(n.From == "", n.Engine, "pg")
	answered, err := a.ask(method)
	if err := cmpErr(err, ctx.Err()); err != nil {
		return cloud.Database{}, err
	}
	for _, x := range a.bases {
		if x.Name == n.Name {
			return x, nil
		}
	}
	a.next++
	x := cloud.Database{ID: fmt.Sprintf("db-%d", a.next), Name: n.Name, Engine: orWhy(n.From == "", n.Engine, "pg"), Status: "forking", Tags: slices.Clone(n.Tags)}
	a.bases, a.th.begun[x.ID] = append(a.bases, x), time.Now()
	return x, answered()
}

func (a copyAccount) CreateFirewall(ctx context.Context, f cloud.Firewall) (cloud.Firewall, error) {
	answered, err := a.ask("CreateFirewall")
	if err := cmpErr(err, ctx.Err()); err != nil {
		return cloud.Firewall{}, err
	}
	f, err = a.account.CreateFirewall(ctx, f)
	return f, cmpErr(err, answered())
}

func (a copyAccount) Create(ctx context.Context, in cloud.NewDroplet) (cloud.Droplet, error) {
	defer a.enter("Create")()
	method := "Create " + strings.Split(in.Name, "-")[1]
	answered, err := a.ask(method)
	if err := cmpErr(err, ctx.Err()); err != nil {
		return cloud.Droplet{}, err
	}
	for _, x := range a.droplets {
		if x.Name == in.Name && !slices.ContainsFunc(in.Tags, func(t string) bool { return !slices.Contains(x.Tags, t) }) {
			return x, nil
		}
	}
	if !slices.ContainsFunc(a.walls, func(w cloud.Firewall) bool {
		return len(w.Out) == 2 && len(w.Tags) == 1 && slices.Contains(in.Tags, w.Tags[0])
	}) {
		a.th.t.Errorf("%s is born without its firewall: %v", in.Name, a.walls)
	}
	a.next++
	x := cloud.Droplet{ID: a.next, Name: in.Name, Status: "active", Image: in.Image, VPC: in.VPC, Tags: slices.Clone(in.Tags), Private: netip.AddrFrom4([4]byte{10, 77, 0, byte(a.next)})}
	a.droplets = append(a.droplets, x)
	a.born[x.ID] = true
	key := a.key(x.ID)
	a.w.live[key], a.w.placed[key] = "v4.5.14", []string{"v4.5.14"}
	a.w.permits[key] = node.PermitOut{Instance: node.Instance{ID: strconv.Itoa(x.ID)}, Refused: "sealed", Permit: &node.Permit{Instance: "13"}}
	a.nursery.shows[key] = "key of " + map[int]string{900: "kirk", 901: "scotty"}[in.Image]
	return x, answered()
}

func (a copyAccount) Destroy(ctx context.Context, id int) error {
	if err := a.th.fails["Destroy"]; err != nil {
		return err
	}
	err := a.account.Destroy(ctx, id)
	return cmpErr(err, a.th.deed("Destroy"))
}

func (a copyAccount) DestroyDatabase(ctx context.Context, id string) error {
	if err := a.th.fails["DestroyDatabase"]; err != nil {
		return err
	}
	err := a.account.DestroyDatabase(ctx, id)
	return cmpErr(err, a.th.deed("DestroyDatabase"))
}
