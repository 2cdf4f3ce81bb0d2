package cloud_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is the account's own behaviour, as far as the stories need it.
func (w *world) answer(resp http.ResponseWriter, req *http.Request, body []byte) {
	w.settle()
	if strings.Contains(string(body), "null") || strings.Contains(string(body), `""`) { // as the official description has it
		refuse(resp, 422, "unprocessable_entity", "null or empty in "+string(body))
		return
	}
	part := strings.Split(strings.Trim(req.URL.Path, "/"), "/")[1:]
	in := decode(body)
	what := req.Method + " " + part[0]
	if len(part) > 2 {
		what += "/" + part[2]
	}
	id := 0
	if len(part) > 1 {
		id, _ = strconv.Atoi(part[1])
	}
	if _, ok := w.droplets[id]; part[0] == "droplets" && id != 0 && !ok {
		gone(resp)
		return
	}
	switch what {
	case "GET account":
		write(resp, 200, obj{"account": obj{"email": "ops@example.org", "status": "active", "droplet_limit": 25}})
	case "GET droplets":
		if id != 0 {
			write(resp, 200, obj{"droplet": w.droplets[id]})
			return
		}
		tag := req.URL.Query().Get("tag_name")
		list(w, resp, req, "droplets", slices.DeleteFunc(sorted(w.droplets), func(d obj) bool {
			return tag != "" && !slices.Contains(d["tags"].([]string), tag)
		}))
	case "POST droplets":
		w.next++
		d := droplet(w.next, in["name"].(string), "new")
		address := d["networks"]
		d["networks"] = obj{"v4": []obj{}}
		for _, t := range in["tags"].([]any) {
			d["tags"] = append(d["tags"].([]string), t.(string))
		}
		w.droplets[w.next] = d
		w.begin(w.next, "create", 0, func() {
			if !w.stuck {
				d["status"], d["networks"] = "active", address
			}
		})
		write(resp, 202, obj{"droplet": d})
	case "DELETE droplets":
		delete(w.droplets, id)
		resp.WriteHeader(204)
	case "GET droplets/actions":
		if len(part) == 4 {
			for _, a := range w.actions[id] {
				if strconv.Itoa(a["id"].(int)) == part[3] {
					write(resp, 200, obj{"action": shown(a)})
					return
				}
			}
			gone(resp)
			return
		}
		var all []obj
		for _, a := range w.actions[id] {
			all = append(all, shown(a))
		}
		list(w, resp, req, "actions", all)
	case "POST droplets/actions":
		w.act(resp, id, in)
	case "GET droplets/snapshots":
		list(w, resp, req, "snapshots", slices.DeleteFunc(sorted(w.images), func(i obj) bool { return i["of"] != id }))
	case "GET images":
		if id == 0 {
			tag := req.URL.Query().Get("tag_name")
			list(w, resp, req, "images", slices.DeleteFunc(sorted(w.images), func(i obj) bool {
				return tag != "" && !slices.Contains(i["tags"].([]string), tag)
			}))
		} else if i, ok := w.images[id]; ok {
			write(resp, 200, obj{"image": i})
		} else {
			gone(resp)
		}
	case "DELETE images":
		if _, ok := w.images[id]; !ok {
			gone(resp)
			return
		}
		delete(w.images, id)
		resp.WriteHeader(204)
	case "GET tags":
		var all []obj
		for _, t := range w.tags {
			all = append(all, obj{"name": t})
		}
		list(w, resp, req, "tags", all)
	case "POST tags":
		w.tags = append(w.tags, in["name"].(string))
		write(resp, 201, obj{"tag": obj{"name": in["name"]}})
	case "POST tags/resources", "DELETE tags/resources":
		w.mark(resp, part[1], in, req.Method == "POST")
	case "GET load_balancers":
		if len(part) == 1 {
			list(w, resp, req, "load_balancers", w.lbs)
		} else if i := slices.IndexFunc(w.lbs, func(b obj) bool { return b["id"] == part[1] }); i >= 0 {
			write(resp, 200, obj{"load_balancer": w.lbs[i]})
		} else {
			gone(resp)
		}
	case "GET monitoring/load_balancer":
		write(resp, 200, nil)
		resp.Write([]byte(w.metrics[part[3]]))
	case "GET databases/backups":
		write(resp, 200, obj{"backups": []obj{{"created_at": "1999-12-30T03:00:00Z", "size_gigabytes": 1.5}, {"created_at": "1999-12-31T03:00:00Z", "size_gigabytes": 1.6}}})
	case "GET databases", "POST databases", "DELETE databases":
		w.crud(resp, req.Method, "database", part, in, w.dbs)
	case "GET firewalls", "POST firewalls", "DELETE firewalls":
		w.crud(resp, req.Method, "firewall", part, in, w.walls)
	default:
		gone(resp)
	}
}

func (w *world) act(resp http.ResponseWriter, id int, in obj) {
	d := w.droplets[id]
	if d["locked"] == true {
		refuse(resp, 422, "unprocessable_entity", "Droplet already has a pending event.")
		return
	}
	kind := in["type"].(string)
	late, then := time.Duration(0), func() {}
	set := func(status string) func() { return func() { d["status"] = status } }
	switch kind {
	case "snapshot":
		late = w.late
		then = func() {
			w.next++
			w.images[w.next] = image(w.next, id, in["name"].(string))
		}
	case "power_on":
		late, then = w.lame, set("active")
	case "power_off", "shutdown":
		late, then = w.lame, set("off")
	case "restore":
		if w.images[int(in["image"].(float64))]["type"] != "backup" {
			refuse(resp, 422, "unprocessable_entity", "The image is no backup of this droplet.")
			return
		}
	}
	if late < 0 {
		then = func() {}
	}
	write(resp, 201, obj{"action": shown(w.begin(id, kind, late, then))})
}

func image(id, of int, name string) obj {
	return obj{
		"id": id, "name": name, "of": of, "type": "snapshot", "regions": []string{"tor1"}, "min_disk_size": 80, "size_gigabytes": 12.5,
		"created_at": time.Now().UTC().Format(time.RFC3339), "tags": []string{}, "public": false, "status": "available",
	}
}

// mark puts a tag on something, or takes it off.
func (w *world) mark(resp http.ResponseWriter, tag string, in obj, on bool) {
	if !slices.Contains(w.tags, tag) {
		gone(resp)
		return
	}
	for _, r := range in["resources"].([]any) {
		res := r.(obj)
		id, err := strconv.Atoi(res["resource_id"].(string))
		of := map[any]map[int]obj{"droplet": w.droplets, "image": w.images}[res["resource_type"]]
		if err != nil || of[id] == nil {
			gone(resp)
			return
		}
		has := slices.DeleteFunc(slices.Clone(of[id]["tags"].([]string)), func(t string) bool { return t == tag })
		if on {
			has = append(has, tag)
		}
		of[id]["tags"] = has
	}
	resp.WriteHeader(204)
}

func (w *world) crud(resp http.ResponseWriter, method, kind string, part []string, in obj, all map[string]obj) {
	switch {
	case method == "POST":
		w.next++
		in["id"] = uuid(w.next)
		in["status"] = "creating"
		all[uuid(w.next)] = in
		write(resp, 201, obj{kind: in})
	case len(part) == 1:
		write(resp, 200, obj{kind + "s": slices.AppendSeq([]obj{}, maps.Values(all))})
	case all[part[1]] == nil:
		gone(resp)
	case method == "DELETE":
		delete(all, part[1])
		resp.WriteHeader(204)
	default:
		write(resp, 200, obj{kind: all[part[1]]})
	}
}
