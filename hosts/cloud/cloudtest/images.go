package cloudtest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
)

func imageJSON(i *image) object {
	var slug any
	if i.Slug != "" {
		slug = i.Slug
	}
	return object{
		"id": i.ID, "name": i.Name, "type": i.Kind, "distribution": i.Distribution, "slug": slug, "public": i.Slug != "",
		"regions": list(i.Regions), "created_at": date(i.Created), "min_disk_size": i.MinDisk, "size_gigabytes": gib(i.Bytes),
		"description": i.About, "tags": list(i.Tags), "status": "available", "error_message": "",
	}
}

// gib are hundredths of a thousand million, as the API rounds sizes.
func gib(bytes int64) float64 { return float64((bytes+5_000_000)/10_000_000) / 100 }

// snapshotJSON is an image as the lists of snapshots have it.
func snapshotJSON(i *image) object {
	return object{
		"id": strconv.Itoa(i.ID), "name": i.Name, "created_at": date(i.Created), "regions": list(i.Regions), "min_disk_size": i.MinDisk,
		"size_gigabytes": gib(i.Bytes), "resource_id": strconv.Itoa(i.Origin), "resource_type": "droplet", "tags": list(i.Tags),
	}
}

// keptJSON is an image as its droplet's list has it.
func keptJSON(i *image) object {
	return object{
		"id": i.ID, "name": i.Name, "created_at": date(i.Created), "regions": list(i.Regions), "min_disk_size": i.MinDisk,
		"size_gigabytes": gib(i.Bytes), "type": "snapshot",
	}
}

func (s *Server) listKept(x *exchange) {
	if d := s.droplet(x); d != nil {
		page(x, "snapshots", s.state.kept(d.ID), keptJSON)
	}
}

func (s *Server) listImages(x *exchange) {
	tag, kind, private := x.one("tag_name"), x.one("type"), x.one("private")
	if own, err := strconv.ParseBool(word(private, "false")); err != nil || (own && kind != "") {
		x.unfit("private is no boolean, or stands beside type")
		return
	}
	if kind != "" && kind != "application" && kind != "distribution" {
		x.unfit("type is neither application nor distribution")
		return
	}
	page(x, "images", only(s.state.Images, func(i *image) bool {
		return (tag == "" || slices.Contains(i.Tags, tag)) && (private != "true" || i.Slug == "") &&
			(kind == "" || (kind == "distribution" && i.Slug != ""))
	}), imageJSON)
}

func (s *Server) getImage(x *exchange) {
	of := x.r.PathValue("id")
	i := find(s.state.Images, func(i *image) bool { return strconv.Itoa(i.ID) == of || (i.Slug != "" && i.Slug == of) })
	if i == nil {
		x.notFound()
		return
	}
	x.json(http.StatusOK, object{"image": imageJSON(i)})
}

// own is the account's image that the path names; nil where the refusal is written.
func (s *Server) own(x *exchange) *image {
	id, ok := x.number("id")
	if !ok {
		return nil
	}
	i := s.state.image(id)
	if i == nil || i.Slug != "" {
		x.notFound()
		return nil
	}
	return i
}

func (s *Server) putImage(x *exchange) {
	i := s.own(x)
	if i == nil {
		return
	}
	var w struct {
		Name         *string `json:"name"`
		Distribution *string `json:"distribution"`
		About        *string `json:"description"`
	}
	if !x.read(&w) {
		return
	}
	if w.Distribution != nil && !slices.Contains([]string{"Debian", "Ubuntu", "Fedora", "Rocky Linux", "Unknown"}, *w.Distribution) {
		x.unfit("that distribution is not known")
		return
	}
	for _, f := range []struct{ from, to *string }{{w.Name, &i.Name}, {w.Distribution, &i.Distribution}, {w.About, &i.About}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	x.json(http.StatusOK, object{"image": imageJSON(i)})
}

func (s *Server) deleteImage(x *exchange) {
	if i := s.own(x); i != nil {
		s.forget(i)
		x.done()
	}
}

// forget takes an image out of the account, and off the disk behind that.
func (s *Server) forget(i *image) {
	s.state.Images = slices.DeleteFunc(s.state.Images, func(o *image) bool { return o == i })
	s.behind(func(ctx context.Context) {
		if err := s.conf.Machines.Forget(ctx, i.Key); err != nil {
			s.change(func() { s.fault("image %d (%s) was not dropped: %v", i.ID, i.Name, err) })
		}
	})
}

func (s *Server) listSnapshots(x *exchange) {
	kind := x.one("resource_type")
	if kind != "" && kind != "droplet" && kind != "volume" {
		x.unfit("resource_type is neither droplet nor volume")
		return
	}
	page(x, "snapshots", only(s.state.Images, func(i *image) bool { return i.Kind == "snapshot" && kind != "volume" }), snapshotJSON)
}

func (s *Server) getSnapshot(x *exchange) {
	if i := s.own(x); i != nil {
		x.json(http.StatusOK, object{"snapshot": snapshotJSON(i)})
	}
}

func (s *Server) deleteSnapshot(x *exchange) { s.deleteImage(x) }
