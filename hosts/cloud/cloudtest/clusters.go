package cloudtest

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// passwordOf is every database's password: a client that lets it out is found by it.
const passwordOf = "simulated-password-that-nobody-may-show"

// connection is how a cluster is reached at a host.
func (c *cluster) connection(host string) object {
	if c.Engine != "valkey" && c.Engine != "redis" {
		return connectionJSON(host, c.Port, "defaultdb")
	}
	scheme := "rediss"
	if c.Plain {
		scheme = "redis"
	}
	return object{
		"uri": fmt.Sprintf("%s://default:%s@%s:%d", scheme, passwordOf, host, c.Port), "database": "", "host": host, "port": c.Port,
		"user": "default", "password": passwordOf, "ssl": !c.Plain,
	}
}

func connectionJSON(host string, port int, database string) object {
	return object{
		"uri":      fmt.Sprintf("postgresql://doadmin:%s@%s:%d/%s?sslmode=require", passwordOf, host, port, database),
		"database": database, "host": host, "port": port, "user": "doadmin", "password": passwordOf, "ssl": true,
	}
}

func clusterJSON(c *cluster) object {
	out := object{
		"id": c.ID, "name": c.Name, "engine": c.Engine, "version": c.Version, "semantic_version": c.Version + ".4", "num_nodes": c.Nodes,
		"size": c.Size, "region": c.Region, "status": c.Status, "created_at": date(c.Created), "private_network_uuid": c.VPC,
		"tags": list(c.Tags), "db_names": []string{"defaultdb"}, "users": []object{{"name": "doadmin", "role": "primary", "password": passwordOf}},
		"maintenance_window": object{"day": "saturday", "hour": "08:45:12", "pending": false, "description": []string{}},
		"rules":              []object{}, "storage_size_mib": c.Storage, "project_id": c.Project,
	}
	if c.Host != "" {
		out["connection"] = c.connection("public-" + c.Host)
		out["private_connection"] = c.connection(c.Host)
	}
	return out
}

func (s *Server) listClusters(x *exchange) {
	tag := x.one("tag_name")
	all := only(s.state.Clusters, func(c *cluster) bool { return tag == "" || slices.Contains(c.Tags, tag) })
	x.json(http.StatusOK, object{"databases": each(all, clusterJSON)})
}

// cluster is the one that the path names; nil where the refusal is written.
func (s *Server) cluster(x *exchange) *cluster {
	id := x.r.PathValue("id")
	c := find(s.state.Clusters, func(c *cluster) bool { return c.ID == id })
	if c == nil {
		x.notFound()
	}
	return c
}

func (s *Server) getCluster(x *exchange) {
	if c := s.cluster(x); c != nil {
		x.json(http.StatusOK, object{"database": clusterJSON(c)})
	}
}

var clusterForm = regexp.MustCompile(`^[a-z][a-z0-9-]{1,62}$`)

// clusterWish is the body of a request to create a cluster.
type clusterWish struct {
	Name    string     `json:"name"`
	Engine  string     `json:"engine"`
	Version string     `json:"version"`
	Nodes   int        `json:"num_nodes"`
	Size    string     `json:"size"`
	Region  string     `json:"region"`
	VPC     string     `json:"private_network_uuid"`
	Tags    []string   `json:"tags"`
	Project *string    `json:"project_id"`
	Rules   []struct{} `json:"rules"`
	Storage int        `json:"storage_size_mib"`
	Restore *struct {
		From string     `json:"database_name"`
		At   *time.Time `json:"backup_created_at"`
	} `json:"backup_restore"`
}

// unfit tells why such a cluster cannot be, "" where it can.
func (w clusterWish) unfit(s *Server) string {
	switch {
	case !clusterForm.MatchString(w.Name):
		return "name must begin with a lower-case letter and have lower-case letters, digits and dashes alone"
	case s.state.cluster(w.Name) != nil:
		return "cluster name is not available"
	case !slices.Contains([]string{"pg", "mysql", "redis", "valkey", "mongodb", "kafka", "opensearch"}, w.Engine):
		return "invalid engine"
	case w.Nodes < 1 || w.Nodes > 3:
		return "invalid num_nodes"
	case w.Size == "" || !slices.Contains(regionSlugs(), w.Region):
		return "invalid size or region"
	case w.VPC != "" && s.state.vpc(w.VPC) == nil:
		return "the VPC does not exist"
	case w.Project != nil && !uuidForm.MatchString(*w.Project):
		return "project_id is no UUID"
	case len(w.Rules) > 0:
		return "rules are not simulated"
	case w.Restore == nil:
		return ""
	}
	from := s.state.cluster(w.Restore.From)
	switch {
	case from == nil || from.Name != w.Restore.From:
		return "the cluster of backup_restore does not exist"
	case from.Engine != w.Engine || from.Status != online:
		return "the cluster of backup_restore has another engine, or is not online"
	case w.Restore.At != nil && (w.Restore.At.After(s.now()) || s.now().Sub(*w.Restore.At) > 7*24*time.Hour):
		return "backup_created_at is not within the last seven days"
	}
	return ""
}

func (s *Server) createCluster(x *exchange) {
	var w clusterWish
	if !x.read(&w, "tags") || !x.tags(w.Tags) || (len(w.Tags) > 0 && !x.may("tag:create")) {
		return
	}
	if why := w.unfit(s); why != "" {
		x.unfit(why)
		return
	}
	s.state.know(w.Tags)
	c := &cluster{
		ID: s.state.uuid(), Name: w.Name, Engine: w.Engine, Version: word(w.Version, "16"), Size: w.Size, Region: w.Region, Nodes: w.Nodes,
		VPC: w.VPC, Status: "creating", Tags: w.Tags, Created: s.now(), Storage: number(w.Storage, 30720),
	}
	if w.Project != nil {
		c.Project = *w.Project
	} else {
		c.Project = s.state.uuid()
	}
	from := ""
	if w.Restore != nil {
		c.Status, from = "forking", w.Restore.From
	}
	s.state.Clusters = append(s.state.Clusters, c)
	t := Trouble{}
	if x.met != nil {
		t = *x.met
	}
	s.behind(func(ctx context.Context) { s.raise(ctx, c, from, t) })
	x.json(http.StatusCreated, object{"database": clusterJSON(c)})
}

// raise makes a cluster, as a copy where from is not empty. One that fails stays as it
// is: the description has no word for that.
func (s *Server) raise(ctx context.Context, c *cluster, from string, t Trouble) {
	host, port := c.Name+".db.example", 25060
	var err error
	makers, real := s.conf.Databases.(Makers)
	switch {
	case t.Errored, from == "" && !real:
		s.sleep(ctx, s.conf.Pace)
	case from == "":
		host, port, err = makers.Make(ctx, c.Engine, c.Name, passwordOf)
	default:
		host, port, err = s.conf.Databases.Fork(ctx, from, c.Name)
	}
	s.sleep(ctx, t.Linger)
	s.change(func() {
		switch {
		case err != nil:
			s.fault("cluster %s was not made: %v", c.Name, err)
		case !t.Errored:
			c.Host, c.Port, c.Status, c.Plain = host, port, online, from == "" && real
		}
	})
}

func (s *Server) deleteCluster(x *exchange) {
	c := s.cluster(x)
	if c == nil {
		return
	}
	s.state.Clusters = slices.DeleteFunc(s.state.Clusters, func(o *cluster) bool { return o == c })
	s.behind(func(ctx context.Context) {
		if err := s.conf.Databases.Destroy(ctx, c.Name); err != nil {
			s.change(func() { s.fault("cluster %s was not destroyed: %v", c.Name, err) })
		}
	})
	x.done()
}

func (s *Server) listBackups(x *exchange) {
	c := s.cluster(x)
	if c == nil {
		return
	}
	if c.Engine != "pg" && c.Engine != "mysql" {
		x.unfit("clusters of that engine have no backups")
		return
	}
	name := c.Name
	x.later = func() {
		at, err := s.conf.Databases.Backups(x.r.Context(), name)
		if err != nil {
			x.fail(http.StatusInternalServerError, "server_error", "the backups are not known: "+err.Error())
			return
		}
		x.json(http.StatusOK, object{"backups": each(at, func(t time.Time) object {
			return object{"created_at": date(t), "size_gigabytes": 0.4, "incremental": false}
		})})
	}
}

// pool is a connection pool, as callers say it.
type pool struct {
	Name string `json:"name"`
	Mode string `json:"mode"`
	Size int    `json:"size"`
	DB   string `json:"db"`
	User string `json:"user"`
}

func (c *cluster) poolJSON(p pool) object {
	out := object{"name": p.Name, "mode": p.Mode, "size": p.Size, "db": p.DB, "user": p.User}
	if c.Host != "" {
		out["connection"] = connectionJSON("public-"+c.Host, c.Port+1, p.Name)
		out["private_connection"] = connectionJSON(c.Host, c.Port+1, p.Name)
	}
	return out
}

func (p pool) unfit() string {
	switch {
	case p.Name == "" || p.DB == "":
		return "a pool needs a name and a db"
	case !slices.Contains([]string{"transaction", "session", "statement"}, p.Mode):
		return "mode is not transaction, session or statement"
	case p.Size < 1:
		return "size is less than 1"
	}
	return ""
}

func (s *Server) listPools(x *exchange) {
	if c := s.cluster(x); c != nil {
		x.json(http.StatusOK, object{"pools": each(c.Pools, c.poolJSON)})
	}
}

func (s *Server) createPool(x *exchange) {
	c := s.cluster(x)
	var p pool
	if c == nil || !x.read(&p) {
		return
	}
	why := p.unfit()
	if why == "" && slices.ContainsFunc(c.Pools, func(o pool) bool { return o.Name == p.Name }) {
		why = "a pool of that name is there"
	}
	if why != "" {
		x.unfit(why)
		return
	}
	c.Pools = append(c.Pools, p)
	x.json(http.StatusCreated, object{"pool": c.poolJSON(p)})
}

// pool is the one that the path names; -1 where the refusal is written.
func (s *Server) pool(x *exchange) (*cluster, int) {
	c := s.cluster(x)
	if c == nil {
		return nil, -1
	}
	i := slices.IndexFunc(c.Pools, func(p pool) bool { return p.Name == x.r.PathValue("pool") })
	if i < 0 {
		x.notFound()
	}
	return c, i
}

func (s *Server) getPool(x *exchange) {
	if c, i := s.pool(x); i >= 0 {
		x.json(http.StatusOK, object{"pool": c.poolJSON(c.Pools[i])})
	}
}

func (s *Server) putPool(x *exchange) {
	c, i := s.pool(x)
	var w struct {
		Mode string `json:"mode"`
		Size int    `json:"size"`
		DB   string `json:"db"`
		User string `json:"user"`
	}
	if i < 0 || !x.read(&w) {
		return
	}
	p := pool{Name: c.Pools[i].Name, Mode: w.Mode, Size: w.Size, DB: w.DB, User: w.User}
	if why := p.unfit(); why != "" {
		x.unfit(why)
		return
	}
	c.Pools[i] = p
	x.done()
}

func (s *Server) deletePool(x *exchange) {
	if c, i := s.pool(x); i >= 0 {
		c.Pools = slices.Delete(c.Pools, i, i+1)
		x.done()
	}
}
