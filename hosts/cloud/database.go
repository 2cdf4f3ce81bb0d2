package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/digitalocean/godo"
)

// identifier is the form of the IDs of balancers, databases and firewalls.
var identifier = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// checked refuses what is no ID before it gets into an address.
func checked(id string) error {
	if !identifier.MatchString(id) {
		return fmt.Errorf("%q is no ID of the API's; give one as the control panel's address shows it", id)
	}
	return nil
}

// Balancer is a load balancer by its ID or its name.
func (c *Client) Balancer(ctx context.Context, idOrName string) (Balancer, error) {
	k := c.begin()
	d := deed{what: "read the balancer " + idOrName, scope: "load_balancer:read"}
	if identifier.MatchString(idOrName) {
		got, err := fetch(ctx, k, d, func(ctx context.Context) (*godo.LoadBalancer, *godo.Response, error) {
			return c.api.LoadBalancers.Get(ctx, idOrName)
		})
		return toBalancer(got), err
	}
	list, err := all(ctx, k, d, c.api.LoadBalancers.List)
	if err != nil {
		return Balancer{}, err
	}
	got, ok, err := named(list, "balancer", idOrName, func(b godo.LoadBalancer) (string, string) { return b.ID, b.Name })
	if err == nil && !ok {
		err = fmt.Errorf("the account has no balancer %s: %w; see cloud.balancer", idOrName, ErrNotFound)
	}
	return toBalancer(got), err
}

// Database is a database cluster by its ID or its name.
func (c *Client) Database(ctx context.Context, idOrName string) (Database, error) {
	got, err := c.database(ctx, c.begin(), idOrName)
	return toDatabase(got), err
}

func (c *Client) database(ctx context.Context, k call, idOrName string) (godo.Database, error) {
	if identifier.MatchString(idOrName) {
		d := deed{what: "read the database " + idOrName, scope: "database:read"}
		return fetch(ctx, k, d, func(ctx context.Context) (*godo.Database, *godo.Response, error) {
			return c.api.Databases.Get(ctx, idOrName)
		})
	}
	got, ok, err := c.databaseNamed(ctx, k, idOrName)
	if err == nil && !ok {
		err = fmt.Errorf("the account has no database %s: %w; see cloud.database", idOrName, ErrNotFound)
	}
	return got, err
}

func (c *Client) databaseNamed(ctx context.Context, k call, name string) (godo.Database, bool, error) {
	// This list has no pages (official description); an account may have some ten of them.
	list, _, err := get(ctx, k, deed{what: "list the databases", scope: "database:read"}, func(ctx context.Context) ([]godo.Database, *godo.Response, error) {
		list, resp, err := c.api.Databases.List(ctx, nil)
		if err == nil && list == nil {
			err = errHollow
		}
		return list, resp, err
	})
	if err != nil {
		return godo.Database{}, false, err
	}
	return named(list, "database", name, func(d godo.Database) (string, string) { return d.ID, d.Name })
}

// Backups are those that the provider made of a database, the newest first. The API makes
// none on demand.
func (c *Client) Backups(ctx context.Context, database string) ([]Backup, error) {
	k := c.begin()
	db, err := c.database(ctx, k, database)
	if err != nil {
		return nil, err
	}
	d := deed{what: "list the backups of the database " + db.Name, scope: "database:read"}
	list, _, err := get(ctx, k, d, func(ctx context.Context) ([]godo.DatabaseBackup, *godo.Response, error) {
		return c.api.Databases.ListBackups(ctx, db.ID, nil)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Backup, len(list))
	for i, b := range list {
		out[i] = Backup{At: b.CreatedAt, GiB: b.SizeGigabytes}
	}
	slices.SortFunc(out, func(a, b Backup) int { return b.At.Compare(a.At) })
	return out, nil
}

// newDatabase is what is sent. godo's own sends "" and null for what is not given, which
// the API refuses.
type newDatabase struct {
	Name    string                      `json:"name"`
	Engine  string                      `json:"engine"`
	Version string                      `json:"version,omitempty"`
	Size    string                      `json:"size"`
	Region  string                      `json:"region"`
	Nodes   int                         `json:"num_nodes"`
	VPC     string                      `json:"private_network_uuid,omitempty"`
	Tags    []string                    `json:"tags,omitempty"`
	Backup  *godo.DatabaseBackupRestore `json:"backup_restore,omitempty"`
}

// Fork makes a database, a copy of From (an ID or a name) where that is given; what n
// leaves out is then as it is there. One of that name that is there already is taken for
// it. It does not wait: the status is "creating" or "forking" for many minutes, and then
// "online".
func (c *Client) Fork(ctx context.Context, n NewDatabase) (Database, error) {
	if n.Name == "" {
		return Database{}, errors.New("a database needs a name: by it, it is found again")
	}
	got, ok, err := c.databaseNamed(ctx, c.begin(), n.Name)
	if ok || err != nil {
		return toDatabase(got), err
	}
	req := newDatabase{
		Name: n.Name, Engine: n.Engine, Version: n.Version, Size: n.Size, Region: n.Region,
		Nodes: n.Nodes, VPC: n.VPC, Tags: n.Tags,
	}
	what := "make the database " + n.Name
	if n.From != "" {
		from, err := c.database(ctx, c.begin(), n.From)
		if err != nil {
			return Database{}, err
		}
		what += " as a copy of " + from.Name
		req.Engine, req.Version = cmp.Or(n.Engine, from.EngineSlug), cmp.Or(n.Version, from.VersionSlug)
		req.Size, req.Region = cmp.Or(n.Size, from.SizeSlug), cmp.Or(n.Region, from.RegionSlug)
		req.VPC = cmp.Or(n.VPC, from.PrivateNetworkUUID)
		req.Backup = &godo.DatabaseBackupRestore{DatabaseName: from.Name}
		if !n.At.IsZero() {
			req.Backup.BackupCreatedAt = n.At.UTC().Format(time.RFC3339)
		}
	}
	req.Nodes = cmp.Or(req.Nodes, 1)
	made, err := write[godo.Database]{
		deed: deed{what: what, scope: "database:create"},
		send: func(ctx context.Context) (godo.Database, *godo.Response, error) {
			var root struct {
				Database *godo.Database `json:"database"`
			}
			r, err := c.api.NewRequest(ctx, http.MethodPost, "v2/databases", req)
			if err != nil {
				return godo.Database{}, nil, err
			}
			resp, err := c.api.Do(ctx, r, &root)
			if err == nil && root.Database == nil {
				err = errHollow
			}
			if err != nil {
				return godo.Database{}, resp, err
			}
			return *root.Database, resp, nil
		},
		found: func(ctx context.Context, k call) (godo.Database, bool, error) { return c.databaseNamed(ctx, k, n.Name) },
	}.do(ctx, c)
	return toDatabase(made), err
}

// DestroyDatabase deletes a database with all that is in it; one that is gone already is
// no error.
func (c *Client) DestroyDatabase(ctx context.Context, id string) error {
	if err := checked(id); err != nil {
		return err
	}
	return c.remove(ctx, removal{
		deed: deed{what: "destroy the database " + id, scope: "database:delete"},
		send: func(ctx context.Context) (*godo.Response, error) { return c.api.Databases.Delete(ctx, id) },
		look: func(ctx context.Context, k call) error { _, err := c.database(ctx, k, id); return err },
	})
}
