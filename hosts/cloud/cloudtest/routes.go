package cloudtest

import "net/http"

// route is an endpoint. Its scopes are those of the description.
type route struct {
	at     string
	handle func(*exchange)
	query  []string
	scopes []string
}

func (s *Server) routes() {
	pages := []string{"page", "per_page"}
	with := func(more ...string) []string { return append(more, pages...) }
	body := map[string]bool{http.MethodPost: true, http.MethodPut: true}
	read := map[string]bool{ // DELETE with a body
		"DELETE /v2/tags/{tag}/resources": true, "DELETE /v2/load_balancers/{id}/droplets": true,
		"DELETE /v2/firewalls/{id}/droplets": true, "DELETE /v2/firewalls/{id}/tags": true,
	}
	for _, e := range []route{
		{"GET /v2/account", s.getAccount, nil, []string{"account:read"}},
		{"GET /v2/actions/{id}", s.getAnyAction, nil, []string{"actions:read"}},
		{"GET /v2/regions", s.listRegions, pages, []string{"regions:read"}},
		{"GET /v2/sizes", s.listSizes, pages, []string{"sizes:read", "regions:read"}},

		{"GET /v2/droplets", s.listDroplets, with("tag_name", "name", "type"), []string{"droplet:read"}},
		{"POST /v2/droplets", s.createDroplet, nil, []string{"droplet:create"}},
		{"DELETE /v2/droplets", s.deleteDroplets, []string{"tag_name"}, []string{"droplet:delete"}},
		{"GET /v2/droplets/{id}", s.getDroplet, nil, []string{"droplet:read"}},
		{"DELETE /v2/droplets/{id}", s.deleteDroplet, nil, []string{"droplet:delete"}},
		{"GET /v2/droplets/{id}/snapshots", s.listKept, pages, []string{"droplet:read"}},
		{"GET /v2/droplets/{id}/firewalls", s.listFirewallsOf, pages, []string{"firewall:read"}},
		{"GET /v2/droplets/{id}/actions", s.listActions, pages, []string{"droplet:read"}},
		{"POST /v2/droplets/{id}/actions", s.act, nil, []string{"droplet:update"}},
		{"GET /v2/droplets/{id}/actions/{action}", s.getAction, nil, []string{"droplet:read"}},

		{"GET /v2/images", s.listImages, with("type", "private", "tag_name"), []string{"image:read"}},
		{"GET /v2/images/{id}", s.getImage, nil, []string{"image:read"}},
		{"PUT /v2/images/{id}", s.putImage, nil, []string{"image:update"}},
		{"DELETE /v2/images/{id}", s.deleteImage, nil, []string{"image:delete"}},
		{"GET /v2/snapshots", s.listSnapshots, with("resource_type"), []string{"snapshot:read"}},
		{"GET /v2/snapshots/{id}", s.getSnapshot, nil, []string{"snapshot:read"}},
		{"DELETE /v2/snapshots/{id}", s.deleteSnapshot, nil, []string{"image:delete", "snapshot:delete"}},

		{"GET /v2/tags", s.listTags, pages, []string{"tag:read"}},
		{"POST /v2/tags", s.createTag, nil, []string{"tag:create"}},
		{"GET /v2/tags/{tag}", s.getTag, nil, []string{"tag:read"}},
		{"DELETE /v2/tags/{tag}", s.deleteTag, nil, []string{"tag:delete"}},
		{"POST /v2/tags/{tag}/resources", s.tagResources, nil, []string{"tag:create"}},
		{"DELETE /v2/tags/{tag}/resources", s.untagResources, nil, []string{"tag:delete"}},

		{"GET /v2/load_balancers", s.listBalancers, pages, []string{"load_balancer:read"}},
		{"POST /v2/load_balancers", s.createBalancer, nil, []string{"load_balancer:create"}},
		{"GET /v2/load_balancers/{id}", s.getBalancer, nil, []string{"load_balancer:read"}},
		{"PUT /v2/load_balancers/{id}", s.putBalancer, nil, []string{"load_balancer:update"}},
		{"DELETE /v2/load_balancers/{id}", s.deleteBalancer, nil, []string{"load_balancer:delete"}},
		{"POST /v2/load_balancers/{id}/droplets", s.addBalanced, nil, []string{"load_balancer:update"}},
		{"DELETE /v2/load_balancers/{id}/droplets", s.removeBalanced, nil, []string{"load_balancer:update"}},
		{"GET /v2/monitoring/metrics/load_balancer/{metric}", s.getMetric, []string{"lb_id", "start", "end"}, []string{"monitoring:read"}},

		{"GET /v2/databases", s.listClusters, []string{"tag_name"}, []string{"database:read"}},
		{"POST /v2/databases", s.createCluster, nil, []string{"database:create"}},
		{"GET /v2/databases/{id}", s.getCluster, nil, []string{"database:read"}},
		{"DELETE /v2/databases/{id}", s.deleteCluster, nil, []string{"database:delete"}},
		{"GET /v2/databases/{id}/backups", s.listBackups, nil, []string{"database:read"}},
		{"GET /v2/databases/{id}/pools", s.listPools, nil, []string{"database:read"}},
		{"POST /v2/databases/{id}/pools", s.createPool, nil, []string{"database:create"}},
		{"GET /v2/databases/{id}/pools/{pool}", s.getPool, nil, []string{"database:read"}},
		{"PUT /v2/databases/{id}/pools/{pool}", s.putPool, nil, []string{"database:update"}},
		{"DELETE /v2/databases/{id}/pools/{pool}", s.deletePool, nil, []string{"database:delete"}},

		{"GET /v2/firewalls", s.listFirewalls, pages, []string{"firewall:read"}},
		{"POST /v2/firewalls", s.createFirewall, nil, []string{"firewall:create"}},
		{"GET /v2/firewalls/{id}", s.getFirewall, nil, []string{"firewall:read"}},
		{"PUT /v2/firewalls/{id}", s.putFirewall, nil, []string{"firewall:update"}},
		{"DELETE /v2/firewalls/{id}", s.deleteFirewall, nil, []string{"firewall:delete"}},
		{"POST /v2/firewalls/{id}/droplets", s.addFenced, nil, []string{"firewall:update"}},
		{"DELETE /v2/firewalls/{id}/droplets", s.removeFenced, nil, []string{"firewall:update"}},
		{"POST /v2/firewalls/{id}/tags", s.addFencedTags, nil, []string{"firewall:update"}},
		{"DELETE /v2/firewalls/{id}/tags", s.removeFencedTags, nil, []string{"firewall:update"}},

		{"GET /v2/vpcs", s.listVPCs, pages, []string{"vpc:read"}},
		{"POST /v2/vpcs", s.createVPC, nil, []string{"vpc:create"}},
		{"GET /v2/vpcs/{id}", s.getVPC, nil, []string{"vpc:read"}},
		{"DELETE /v2/vpcs/{id}", s.deleteVPC, nil, []string{"vpc:delete"}},
	} {
		s.mux.HandleFunc(e.at, func(w http.ResponseWriter, r *http.Request) {
			x, ok := w.(*exchange)
			if !ok || r.Method == http.MethodHead { // nothing else comes here: see answerLocked
				w.WriteHeader(http.StatusNotFound)
				return
			}
			x.r = r
			if x.may(e.scopes...) && x.asked(e.query, body[r.Method] || read[e.at]) {
				e.handle(x)
			}
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if x, ok := w.(*exchange); ok {
			x.notFound()
		}
	})
}
