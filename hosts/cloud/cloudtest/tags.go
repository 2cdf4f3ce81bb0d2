package cloudtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

func (s *Server) tagJSON(tag string) object {
	has := func(tags []string) bool { return slices.Contains(tags, tag) }
	droplets := only(s.state.Droplets, func(d *droplet) bool { return has(d.Tags) })
	images := only(s.state.Images, func(i *image) bool { return has(i.Tags) })
	clusters := only(s.state.Clusters, func(c *cluster) bool { return has(c.Tags) })
	count := func(n int, last string) object {
		out := object{"count": n}
		if n > 0 {
			out["last_tagged_uri"] = "https://api.digitalocean.com/v2/" + last
		}
		return out
	}
	last := ""
	of := object{"volumes": count(0, ""), "volume_snapshots": count(0, "")}
	if n := len(clusters); n > 0 {
		last = "databases/" + clusters[n-1].ID
	}
	of["databases"] = count(len(clusters), last)
	if n := len(images); n > 0 {
		last = fmt.Sprintf("images/%d", images[n-1].ID)
	}
	of["imgages"] = count(len(images), last) // so the official description spells it
	if n := len(droplets); n > 0 {
		last = fmt.Sprintf("droplets/%d", droplets[n-1].ID)
	}
	of["droplets"] = count(len(droplets), last)
	for k, v := range count(len(droplets)+len(images)+len(clusters), last) {
		of[k] = v
	}
	return object{"name": tag, "resources": of}
}

func (s *Server) listTags(x *exchange) { page(x, "tags", s.state.Tags, s.tagJSON) }

// createTag answers a tag that is there already like a new one.
func (s *Server) createTag(x *exchange) {
	var w struct {
		Name string `json:"name"`
	}
	if x.read(&w) && x.tags([]string{w.Name}) {
		s.state.know([]string{w.Name})
		x.json(http.StatusCreated, object{"tag": s.tagJSON(w.Name)})
	}
}

// tag is the one that the path names; "" where the refusal is written.
func (s *Server) tag(x *exchange) string {
	tag := x.r.PathValue("tag")
	if !slices.Contains(s.state.Tags, tag) {
		x.notFound()
		return ""
	}
	return tag
}

func (s *Server) getTag(x *exchange) {
	if tag := s.tag(x); tag != "" {
		x.json(http.StatusOK, object{"tag": s.tagJSON(tag)})
	}
}

func (s *Server) deleteTag(x *exchange) {
	tag := s.tag(x)
	if tag == "" {
		return
	}
	s.rewall(func() {
		s.state.Tags = without(s.state.Tags, tag)
		for _, d := range s.state.Droplets {
			d.Tags = without(d.Tags, tag)
		}
		for _, i := range s.state.Images {
			i.Tags = without(i.Tags, tag)
		}
		for _, c := range s.state.Clusters {
			c.Tags = without(c.Tags, tag)
		}
		for _, f := range s.state.Firewalls {
			f.Tags = without(f.Tags, tag)
		}
	})
	x.done()
}

// without is a list less one of its words, in memory of its own.
func without(all []string, one string) []string {
	return only(all, func(s string) bool { return s != one })
}

func with(all []string, one string) []string { return append(without(all, one), one) }

func (s *Server) tagResources(x *exchange)   { s.retag(x, with) }
func (s *Server) untagResources(x *exchange) { s.retag(x, without) }

// retag changes what has a tag, all of it or nothing.
func (s *Server) retag(x *exchange, change func([]string, string) []string) {
	tag := s.tag(x)
	if tag == "" {
		return
	}
	var w struct {
		Resources []struct {
			ID   string `json:"resource_id"`
			Type string `json:"resource_type"`
		} `json:"resources"`
	}
	if !x.read(&w) {
		return
	}
	if len(w.Resources) == 0 {
		x.unfit("resources is missing or empty")
		return
	}
	var all []*[]string
	for _, r := range w.Resources {
		id, err := strconv.Atoi(r.ID)
		switch d, i := s.state.droplet(id), s.state.image(id); {
		case !slices.Contains([]string{"droplet", "image", "volume", "volume_snapshot"}, r.Type):
			x.unfit(fmt.Sprintf("resource_type %q is none", r.Type))
			return
		case err == nil && r.Type == "droplet" && d != nil:
			all = append(all, &d.Tags)
		case err == nil && r.Type == "image" && i != nil && i.Slug == "":
			all = append(all, &i.Tags)
		default:
			x.notFound()
			return
		}
	}
	s.rewall(func() {
		for _, tags := range all {
			*tags = change(*tags, tag)
		}
	})
	x.done()
}
